package pki_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gearmesh.dev/internal/pki"
)

var loopback = []netip.Addr{netip.MustParseAddr("127.0.0.1")}

// serve accepts connections until the test ends, shakes hands and says one byte.
func serve(t *testing.T, config *tls.Config) (addr string) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if c.(*tls.Conn).Handshake() == nil {
				c.Write([]byte{1})
			}
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

// talk connects and waits for the server's byte: in TLS 1.3 a refused client learns of it only by reading.
func talk(t *testing.T, addr string, config *tls.Config) (*x509.Certificate, error) {
	t.Helper()
	c, err := tls.Dial("tcp", addr, config)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if _, err := c.Read(make([]byte, 1)); err != nil {
		return nil, err
	}
	return c.ConnectionState().PeerCertificates[0], nil
}

// hostFiles writes the key and certificate of host h1.
func hostFiles(t *testing.T, ca *pki.CA) (cert, key string) {
	t.Helper()
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "host.crt"), filepath.Join(dir, "host.key")
	renew(t, ca, cert, key)
	return cert, key
}

func renew(t *testing.T, ca *pki.CA, cert, key string) {
	t.Helper()
	k, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := pki.NewRequest(k)
	if err != nil {
		t.Fatal(err)
	}
	chain, err := ca.SignHost(csr, "h1", loopback[0], time.Now())
	if err != nil {
		t.Fatal(err)
	}
	keyPEM, err := pki.KeyPEM(k)
	if err != nil {
		t.Fatal(err)
	}
	for path, data := range map[string][]byte{cert: chain, key: keyPEM} {
		if err := errors.Join(os.WriteFile(path+".new", data, 0o600), os.Rename(path+".new", path)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestMasterAndHostKnowEachOther(t *testing.T) {
	ca, other := newCA(t), newCA(t)
	host, err := pki.NewFiles(hostFiles(t, ca))
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := pki.NewFiles(hostFiles(t, other))
	if err != nil {
		t.Fatal(err)
	}
	master := ca.Master([]string{"localhost"}, loopback)
	people := serve(t, pki.ServerConfig(master, ca.Cert))
	agent := serve(t, pki.AgentConfig(host, ca.Cert))

	tests := map[string]struct {
		addr string
		from *tls.Config
		want bool
	}{
		"person to master":        {people, pki.ClientConfig(nil, ca.Cert), true},
		"host to master":          {people, pki.ClientConfig(host, ca.Cert), true},
		"stranger to master":      {people, pki.ClientConfig(stranger, ca.Cert), false},
		"master to agent":         {agent, pki.ClientConfig(master, ca.Cert), true},
		"host to agent":           {agent, pki.ClientConfig(host, ca.Cert), true},
		"nobody to agent":         {agent, pki.ClientConfig(nil, ca.Cert), false},
		"stranger to agent":       {agent, pki.ClientConfig(stranger, ca.Cert), false},
		"host to foreign cluster": {people, pki.ClientConfig(host, other.Cert), false},
		"TLS 1.2":                 {people, &tls.Config{RootCAs: pki.Pool(ca.Cert), MaxVersion: tls.VersionTLS12}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := talk(t, tt.addr, tt.from); (err == nil) != tt.want {
				t.Errorf("got %v; should it work? %v", err, tt.want)
			}
		})
	}
}

func TestFilesAreReadAgain(t *testing.T) {
	ca := newCA(t)
	cert, key := hostFiles(t, ca)
	files, err := pki.NewFiles(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	addr := serve(t, pki.ServerConfig(files, ca.Cert))
	first, err := talk(t, addr, pki.ClientConfig(nil, ca.Cert))
	if err != nil {
		t.Fatal(err)
	}
	renew(t, ca, cert, key)
	second, err := talk(t, addr, pki.ClientConfig(nil, ca.Cert))
	if err != nil || second.Equal(first) {
		t.Fatalf("the renewed certificate is not shown: %v", err)
	}
	if err := os.Remove(cert); err != nil {
		t.Fatal(err)
	}
	if third, err := talk(t, addr, pki.ClientConfig(nil, ca.Cert)); err != nil || !third.Equal(second) {
		t.Errorf("without a file the last certificate should serve on: %v", err)
	}
}

func TestMasterRenewsItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		master := newCA(t).Master(nil, nil)
		first, err := master.Certificate()
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(4 * 24 * time.Hour)
		if again, _ := master.Certificate(); again != first {
			t.Error("renewed after 4 of 7 days")
		}
		time.Sleep(24 * time.Hour)
		if again, _ := master.Certificate(); again == first {
			t.Error("not renewed after 5 of 7 days")
		}
	})
}

func TestFetchCA(t *testing.T) {
	ca, other := newCA(t), newCA(t)
	addr := serve(t, pki.ServerConfig(ca.Master(nil, loopback), ca.Cert))
	got, err := pki.FetchCA(t.Context(), addr, ca.Pin())
	if err != nil || !got.Equal(ca.Cert) {
		t.Fatalf("got %v, %v", got, err)
	}
	if _, err := pki.FetchCA(t.Context(), addr, other.Pin()); err == nil || !strings.Contains(err.Error(), "another cluster") {
		t.Errorf("a wrong pin: %v", err)
	}
	if _, err := talk(t, addr, pki.ClientConfig(nil, got)); err != nil {
		t.Errorf("the fetched CA does not verify its server: %v", err)
	}
}

// forger shows the real CA's certificate, which is public, below a leaf of its own.
type forger struct{ real, own *pki.CA }

func (f forger) Certificate() (*tls.Certificate, error) {
	cert, err := f.own.Master(nil, loopback).Certificate()
	if err != nil {
		return nil, err
	}
	cert.Certificate[1] = f.real.Cert.Raw
	return cert, nil
}

func TestFetchCARefusesAForger(t *testing.T) {
	ca := newCA(t)
	addr := serve(t, pki.ServerConfig(forger{real: ca, own: newCA(t)}, ca.Cert))
	if _, err := pki.FetchCA(t.Context(), addr, ca.Pin()); err == nil || !strings.Contains(err.Error(), "not of it") {
		t.Errorf("got %v", err)
	}
}

func TestFetchCAEndsWithItsContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := pki.FetchCA(ctx, l.Addr().String(), "x"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
