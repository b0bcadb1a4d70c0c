package plugins

import (
	"context"
	"crypto/tls"
	"io"
	"time"

	"github.com/outletd/outlet/plugins/tlsconfig"
)

// NewClient returns a client for the plugin at addr; see NewClientWithTimeout.
func NewClient(addr string, tlsConfig *tlsconfig.Options) (*Client, error) {
	return NewClientWithTimeout(addr, tlsConfig, 0)
}

// NewClientWithTimeout returns a client for the plugin at addr whose ordinary
// calls take no longer than timeout; zero means DefaultTimeout. With tlsConfig
// the schemes https and tcp mean TLS; http stays plain text, as its name says.
// NewClientWithOptions offers more.
func NewClientWithTimeout(addr string, tlsConfig *tlsconfig.Options, timeout time.Duration) (*Client, error) {
	a, err := ParseAddress(addr)
	if err != nil {
		return nil, err
	}
	var tc *tls.Config
	if tlsConfig != nil && !a.IsLocal() && a.Scheme != "http" {
		if tc, err = tlsconfig.Client(*tlsConfig); err != nil {
			return nil, err
		}
	}
	return newClient(a, ClientOptions{TLS: tc, Timeout: timeout}), nil
}

// Call is CallContext without a context.
func (c *Client) Call(serviceMethod string, args, ret any) error {
	return c.CallContext(context.Background(), serviceMethod, args, ret)
}

// CallWithOptions is CallContext without a context.
func (c *Client) CallWithOptions(serviceMethod string, args any, ret any, opts ...func(*RequestOpts)) error {
	return c.CallContext(context.Background(), serviceMethod, args, ret, opts...)
}

// Stream is StreamContext without a context.
func (c *Client) Stream(serviceMethod string, args any) (io.ReadCloser, error) {
	return c.StreamContext(context.Background(), serviceMethod, args)
}

// SendFile is SendFileContext without a context.
func (c *Client) SendFile(serviceMethod string, data io.Reader, ret any) error {
	return c.SendFileContext(context.Background(), serviceMethod, data, ret)
}
