package etcd_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gearmesh.dev/internal/pki"
	"gearmesh.dev/master/store"
	"gearmesh.dev/master/store/etcd"
	"gearmesh.dev/master/store/storetest"
)

// TestContractOfThreeMembers runs the contract over a member that is not the first, so that its
// writes go through another's vote.
func TestContractOfThreeMembers(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.grow(3)
	n := 0
	storetest.Run(t, func(t *testing.T) store.Store {
		n++
		s := c.members[1+n%2].Under(fmt.Sprintf("/cluster%d/", n)).Patient()
		t.Cleanup(func() { _ = s.Close() })
		return s
	})
}

func TestADeadMemberIsReplaced(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.grow(3)
	put(t, c.members[2], "a", "1")
	if err := c.members[2].Close(); err != nil {
		t.Fatal(err)
	}
	put(t, c.members[0], "b", "2") // two of three are a quorum
	if _, err := c.members[0].Admit(t.Context(), "m3", c.address(2)); !errors.Is(err, store.ErrTaken) || !strings.Contains(err.Error(), "gear master remove m3") {
		t.Errorf("a second m3 gives %v", err)
	}
	c.remove("m3")
	if err := c.members[0].Remove(t.Context(), "m3"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("removing it again gives %v", err)
	}
	c.members = c.members[:2]
	c.dirs[2] = t.TempDir()
	c.join(2)
	if it, err := c.members[2].Get(t.Context(), "a"); err != nil || string(it.Value) != "1" {
		t.Errorf("the new member reads %q, %v", it.Value, err)
	}
	if list, err := c.members[1].Members(t.Context()); err != nil || len(list) != 3 {
		t.Errorf("members: %+v, %v", list, err)
	}
}

func TestARemovedMemberEndsItself(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.grow(3)
	c.remove("m2")
	<-c.members[1].Ended()
	if err := c.members[1].Err(); !strings.Contains(err.Error(), "removed") {
		t.Errorf("it says %v", err)
	}
	put(t, c.members[2], "a", "1")
}

func TestWithoutAQuorumNothingHangs(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.hasty = true
	c.grow(3)
	put(t, c.members[0], "a", "1")
	for _, m := range c.members[1:] {
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.members[0].Txn(t.Context(), store.Op{Key: "b", If: store.Absent}); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("writing gives %v", err)
	}
	if _, err := c.members[0].Get(t.Context(), "a"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("reading gives %v", err)
	}
}

func TestAllMembersComeBackAfterAPowerCut(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.grow(3)
	put(t, c.members[0], "a", "1")
	for _, m := range c.members {
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	back := make([]*etcd.Embedded, 3)
	errs := make(chan error, 3)
	for i := range back {
		go func() {
			var err error
			back[i], err = etcd.Start(t.Context(), c.config(i), c.log())
			errs <- err
		}()
	}
	for range back {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range back {
		t.Cleanup(func() { _ = m.Close() })
		if it, err := m.Patient().Get(t.Context(), "a"); err != nil || string(it.Value) != "1" {
			t.Errorf("got %q, %v", it.Value, err)
		}
	}
}

// TestPeersAreMasters: on the port for members a host's certificate of the same CA is refused, and none too.
func TestPeersAreMasters(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.grow(2)
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := pki.NewRequest(key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := c.ca.SignHost(csr, "h1", netip.MustParseAddr("127.0.0.1"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	keyPEM, err := pki.KeyPEM(key)
	if err != nil {
		t.Fatal(err)
	}
	host, err := tls.X509KeyPair(cert, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	master, err := c.source(0).Certificate()
	if err != nil {
		t.Fatal(err)
	}
	for name, cert := range map[string]*tls.Certificate{"nobody": nil, "host": &host, "master": master} {
		err := greet(c, cert)
		if (err == nil) != (name == "master") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// greet asks a member for its version, which only a connection that was let in can.
func greet(c *cluster, cert *tls.Certificate) error {
	cfg := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: pki.Pool(c.ca.Cert), ServerName: pki.MasterName}
	if cert != nil {
		cfg.Certificates = []tls.Certificate{*cert}
	}
	conn, err := tls.Dial("tcp", netip.AddrPortFrom(c.address(0), c.port).String(), cfg)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("GET /version HTTP/1.0\r\n\r\n")); err != nil {
		return err
	}
	_, err = conn.Read(make([]byte, 1))
	return err
}

func TestAFullStoreSaysSo(t *testing.T) {
	t.Parallel()
	s, err := etcd.Start(t.Context(), etcd.Config{Dir: t.TempDir(), Quota: 1 << 20}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	big := make([]byte, 64<<10)
	for n := 0; err == nil; n++ {
		_, err = s.Txn(t.Context(), store.Op{Key: fmt.Sprint("k", n), Value: big, If: store.Absent})
	}
	if !errors.Is(err, store.ErrFull) || !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("writing gives %v", err)
	}
	problems, err := s.Problems(t.Context())
	if err != nil || len(problems) != 1 || problems[0].Reason != "StoreFull" {
		t.Errorf("problems: %+v, %v", problems, err)
	}
	if _, err := s.Txn(t.Context(), store.Op{Kind: store.Delete, Key: "k0", If: store.Any}); err != nil {
		t.Errorf("deleting gives %v", err)
	}
}

// cluster is embedded members on loopback addresses of their own.
type cluster struct {
	t       *testing.T
	ca      *pki.CA
	net     [2]byte // of its addresses on loopback, so that tests can run at once
	port    uint16
	dirs    []string
	members []*etcd.Embedded
	hasty   bool // calls are given up as soon as those of masters are
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	ca, err := pki.NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	sum := sha256.Sum256([]byte(t.Name()))
	return &cluster{t: t, ca: ca, net: [2]byte(sum[:]), port: uint16(l.Addr().(*net.TCPAddr).Port)}
}

func (c *cluster) address(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{127, c.net[0], c.net[1], byte(i + 1)})
}

func (c *cluster) source(i int) pki.Source {
	return c.ca.Master(nil, []netip.Addr{c.address(i)})
}

func (c *cluster) log() *slog.Logger { return slog.New(slog.NewTextHandler(testWriter{c.t}, nil)) }

func (c *cluster) config(i int) etcd.Config {
	return etcd.Config{Dir: filepath.Join(c.dirs[i], "etcd"), Name: fmt.Sprintf("m%d", i+1), Address: c.address(i), PeerPort: c.port,
		Peers: &etcd.Peers{CA: c.ca.Cert, Source: c.source(i), Dir: filepath.Join(c.dirs[i], "peer")}}
}

// grow starts members until there are n, each of which has a vote.
func (c *cluster) grow(n int) {
	c.t.Helper()
	for i := len(c.members); i < n; i++ {
		c.dirs = append(c.dirs, c.t.TempDir())
		c.join(i)
	}
}

// join starts member i, as a new one unless it is the first.
func (c *cluster) join(i int) {
	c.t.Helper()
	cfg := c.config(i)
	if i > 0 {
		cfg.Seat = c.admit(cfg.Name, c.address(i))
	}
	m, err := etcd.Start(c.t.Context(), cfg, c.log())
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = m.Close() })
	if !c.hasty {
		m.Patient()
	}
	c.members = append(c.members, m)
	for !m.Voter() {
		time.Sleep(20 * time.Millisecond)
	}
}

// remove asks until the members have been connected for long enough.
func (c *cluster) remove(name string) {
	c.t.Helper()
	for {
		err := c.members[0].Remove(c.t.Context(), name)
		if err == nil {
			return
		}
		if !errors.Is(err, store.ErrNotReady) {
			c.t.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// admit asks until the members have been connected for long enough.
func (c *cluster) admit(name string, at netip.Addr) string {
	c.t.Helper()
	for {
		seat, err := c.members[0].Admit(c.t.Context(), name, at)
		if err == nil {
			return seat
		}
		if !errors.Is(err, store.ErrNotReady) || c.t.Context().Err() != nil {
			c.t.Fatal(err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func put(t *testing.T, s store.Store, key, value string) {
	t.Helper()
	var err error
	for range 20 { // an election may be under way
		if _, err = s.Txn(context.WithoutCancel(t.Context()), store.Op{Key: key, Value: []byte(value), If: store.Any}); !errors.Is(err, store.ErrUnavailable) {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}
