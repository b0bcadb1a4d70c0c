package client

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"
)

// The range of Engine API versions this package can speak.
const (
	MaxAPIVersion = "1.51"
	MinAPIVersion = "1.25"
)

// Options say which daemon a [Client] talks to, and how. The zero value is the
// daemon of this machine, at [DefaultHost].
type Options struct {
	// Host is unix:///path/to/socket, a plain absolute path, or
	// tcp://host:port. Empty is [DefaultHost].
	Host string
	// TLS, if not nil, is used with a tcp host; see [TLSFiles]. It is cloned.
	TLS *tls.Config
	// APIVersion fixes the version of the Engine API ("1.44") and turns the
	// negotiation off. Empty takes the highest both sides know.
	APIVersion string
	// UserAgent is sent with every request. Empty is "outlet-client".
	UserAgent string
	// Dial, if not nil, replaces how connections to the daemon are made.
	// TLS is still put on top of it for a tcp host.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Client is a connection to one daemon. It is made by [New] and may be used by
// several goroutines at once.
type Client struct {
	host      Host
	tls       *tls.Config
	userAgent string
	dialRaw   func(ctx context.Context, network, address string) (net.Conn, error)
	http      *http.Client
	transport *http.Transport

	mu      sync.Mutex
	version string // of the Engine API; "" until it was negotiated
}

// New makes a client. It dials nothing; an unusable host or API version is an
// errdefs.ErrInvalidArgument.
func New(o Options) (*Client, error) {
	name := o.Host
	if name == "" {
		name = DefaultHost()
	}
	host, err := ParseHost(name)
	if err != nil {
		return nil, err
	}
	if o.APIVersion != "" {
		if err := checkVersion(o.APIVersion); err != nil {
			return nil, err
		}
	}
	c := &Client{host: host, userAgent: o.UserAgent, dialRaw: o.Dial, version: o.APIVersion}
	if c.userAgent == "" {
		c.userAgent = "outlet-client"
	}
	if c.dialRaw == nil {
		c.dialRaw = (&net.Dialer{Timeout: 10 * time.Second}).DialContext
	}
	if o.TLS != nil && host.Network == "tcp" {
		c.tls = o.TLS.Clone()
		if c.tls.ServerName == "" {
			c.tls.ServerName, _, _ = net.SplitHostPort(host.Address)
		}
	}
	c.transport = &http.Transport{
		DialContext:        func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
		DisableCompression: true,
		MaxIdleConns:       8,
		IdleConnTimeout:    30 * time.Second,
	}
	c.http = &http.Client{
		Transport: c.transport,
		// The daemon redirects unclean paths only, and this package sends none.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// Host is the daemon this client talks to.
func (c *Client) Host() Host { return c.host }

// Close ends idle connections. Calls that are running are not disturbed.
func (c *Client) Close() error {
	c.transport.CloseIdleConnections()
	return nil
}

// dial connects to the daemon and, where TLS is wanted, shakes hands. All
// connections go through it, so that the transport below speaks plain HTTP.
func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	conn, err := c.dialRaw(ctx, c.host.Network, c.host.Address)
	if err != nil {
		return nil, connectError(ctx, c.host, err)
	}
	if c.tls == nil {
		return conn, nil
	}
	tc := tls.Client(conn, c.tls)
	if err := tc.HandshakeContext(ctx); err != nil {
		conn.Close() // the handshake's error says more
		return nil, connectError(ctx, c.host, err)
	}
	return tc, nil
}
