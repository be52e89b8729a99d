// Package client is the typed client of the master's HTTP API (docs/http-api.md).
//
// One Client serves people (Config.Token) or a host (Config.Certificate); all its methods may be
// called at once from many goroutines. Every method ends with its context.
//
// An answer that is an error comes back as an *api.Error, with its code and faults. When there is
// no answer at all the error is a *ConnectError, which says what to do next.
//
// Calls that may be carried out twice without harm are tried again with a jittered back-off when
// the master cannot be reached or is not ready, up to Config.Attempts times. Calls that may not
// are tried again only when nothing can have reached the master.
package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"gearmesh.dev/api"
)

// MasterName is the name that every master's certificate is good for, and no host's.
const MasterName = "master"

// DefaultPort is the port of the master's API.
const DefaultPort = "7443"

// Config says which master to talk to, and as whom.
type Config struct {
	// Server is the master's address: a name or address, with a port if it is not DefaultPort,
	// such as "10.0.0.1", "master.example.com:7443" or "https://[fd00::1]:7443". Only HTTPS.
	Server string
	// Others are further masters of the same cluster, as Server is written. When one does not answer, or
	// cannot do it now, the next in order is asked at once.
	Others []string
	// CA is the certificate authority of the cluster in PEM. When empty, the system's
	// authorities are asked.
	CA []byte
	// ServerName is the name that the server's certificate must be good for; the name or address
	// in Server when empty. Masters of a cluster's own CA are all MasterName: a host, whose
	// certificate is of the same CA, can have any other name.
	ServerName string
	// Token is sent with every request of a person; empty for a host.
	Token string
	// Certificate gives the certificate of a host; nil for a person. It is asked for each new
	// connection, so that a renewed one is used without a new Client.
	Certificate func() (*tls.Certificate, error)
	// Timeout is how long one attempt of a call may take, its answer included; 15 s when 0.
	// Streams have no end and are not bound by it.
	Timeout time.Duration
	// Silence is how long the stream of a host's desired state may say nothing before it is
	// taken for dead; 6 s when 0. The master speaks every 2 s, unless it says that it will be silent for longer.
	Silence time.Duration
	// Attempts is how often a call is tried at most; 4 when 0.
	Attempts int
}

// The defaults of Config.
const (
	defaultTimeout  = 15 * time.Second
	defaultSilence  = 6 * time.Second
	defaultAttempts = 4
)

// Limits of what a master may send, so that a broken one cannot fill the memory.
const (
	maxHeader = 64 << 10
	maxError  = 1 << 20
	maxAnswer = 512 << 20 // a list of all pods of the largest cluster is some 300 MB
	maxLine   = 256 << 20 // the first patch of a host holds the whole directory
)

// Client talks to one master at a time.
type Client struct {
	cfg     Config
	first   url.URL // Config.Server
	servers servers
	http    *http.Client

	reported reported   // of a host
	stream   hostStream // the same one's
}

// New makes a Client. It does not connect yet.
func New(cfg Config) (*Client, error) {
	base, err := parseServer(cfg.Server)
	if err != nil {
		return nil, err
	}
	secure, err := tlsConfig(cfg)
	if err != nil {
		return nil, err
	}
	if strings.ContainsFunc(cfg.Token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, errors.New("the token has a character that no token has; copy it again, without spaces or line ends")
	}
	cfg.Timeout = orDefault(cfg.Timeout, defaultTimeout)
	cfg.Silence = orDefault(cfg.Silence, defaultSilence)
	cfg.Attempts = orDefault(cfg.Attempts, defaultAttempts)
	c := &Client{cfg: cfg, first: base, servers: servers{all: []url.URL{base}}, http: &http.Client{}}
	c.http.Transport = c.transport(secure)
	for _, other := range cfg.Others {
		if _, err := parseServer(other); err != nil {
			return nil, err
		}
	}
	c.Use(cfg.Others)
	// A redirect would carry the token elsewhere, and the master sends none.
	c.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return c, nil
}

// Close closes the connections that are idle.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Server gives the master's address as it is used.
func (c *Client) Server() string {
	u := c.servers.now()
	return u.String()
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// transport speaks HTTP/1.1 only: each stream then has a connection of its own, so that giving up
// a dead one also gives up its connection.
func (c *Client) transport(secure *tls.Config) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		DialContext:            c.dial,
		TLSClientConfig:        secure,
		TLSHandshakeTimeout:    5 * time.Second,
		ResponseHeaderTimeout:  defaultTimeout,
		MaxResponseHeaderBytes: maxHeader,
		IdleConnTimeout:        3 * api.ReportEveryMost, // the connection of reports outlasts their pauses
		MaxIdleConnsPerHost:    4,
		Protocols:              protocols,
	}
}

// dial is quick to give up where there is another master.
func (c *Client) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}
	if c.servers.count() > 1 {
		d.Timeout = otherDial
	}
	return d.DialContext(ctx, network, addr)
}

func tlsConfig(cfg Config) (*tls.Config, error) {
	out := &tls.Config{MinVersion: tls.VersionTLS13, ServerName: cfg.ServerName}
	if len(cfg.CA) > 0 {
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(cfg.CA) {
			return nil, errors.New("the cluster's CA holds no certificate; it should be PEM, starting with -----BEGIN CERTIFICATE-----")
		}
	}
	if cfg.Certificate != nil {
		out.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cfg.Certificate() }
	}
	return out, nil
}

// parseServer reads Config.Server.
func parseServer(text string) (url.URL, error) {
	bad := func(why string) (url.URL, error) {
		return url.URL{}, fmt.Errorf("server %.120q: %s; write one such as %q", text, why, "https://10.0.0.1:7443")
	}
	scheme, rest, found := strings.Cut(text, "://")
	switch {
	case text == "":
		return bad("an address is needed")
	case !found:
		rest = text
	case scheme != "https":
		return bad(fmt.Sprintf("the scheme is %q, and only https is spoken", scheme))
	}
	host, port, err := net.SplitHostPort(strings.TrimSuffix(rest, "/"))
	if err != nil { // no port, or an IPv6 address without brackets
		host, port = strings.Trim(strings.TrimSuffix(rest, "/"), "[]"), DefaultPort
	}
	u, err := url.Parse("https://" + net.JoinHostPort(host, port))
	if err != nil || host == "" || u.Hostname() != host || u.Port() != port || u.Path != "" || u.User != nil || u.RawQuery != "" {
		return bad("it is no host and port")
	}
	return *u, nil
}
