package plugins

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// VersionMimetype is what requests accept and what they contain.
const VersionMimetype = "application/vnd.docker.plugins.v1.2+json"

// Defaults of ClientOptions.
const (
	// DefaultConnectTimeout bounds the time to connect, with the TLS handshake.
	DefaultConnectTimeout = 10 * time.Second
	// DefaultTimeout bounds an ordinary call whose context has no deadline.
	DefaultTimeout = 2 * time.Minute
	// DefaultMaxIdleConns is how many idle connections are kept to a plugin.
	DefaultMaxIdleConns = 100
	// DefaultIdleConnTimeout is how long they are kept.
	DefaultIdleConnTimeout = 30 * time.Second
	// DefaultMaxAnswer is the longest answer that is read, in bytes.
	DefaultMaxAnswer = 16 << 20
)

const (
	// maxErrorBody is how much of an answer that is an error is read.
	maxErrorBody = 64 << 10
	// errorTime is how long that may take.
	errorTime = 10 * time.Second
	// maxDrain is how much of an answer nobody wants is read so that its
	// connection can be used again, and drainTime how long that may take.
	maxDrain  = 64 << 10
	drainTime = 50 * time.Millisecond
	// keepBuffer is the largest buffer that is kept for the next call.
	keepBuffer = 64 << 10
)

// ClientOptions says how a client behaves. The zero value is good for plugins
// that other people run: calls wait for the plugin to appear, within bounds.
type ClientOptions struct {
	// TLS turns on TLS for the schemes tcp, http and https. Nil means TLS with
	// the system's roots for https and plain text for the others. It is not
	// changed.
	TLS *tls.Config
	// DialContext connects, for example through a directory descriptor or a
	// proxy. The network is unix, npipe or tcp, the address a path or host:port.
	// Nil means the ways of the operating system, and no proxy.
	DialContext func(ctx context.Context, network, address string) (net.Conn, error)
	// ConnectTimeout bounds one attempt to connect, with the TLS handshake. Zero
	// means DefaultConnectTimeout, a negative value no limit.
	ConnectTimeout time.Duration
	// ResponseHeaderTimeout bounds the time from the end of the request to the
	// head of the answer, streams included. Zero means no limit of its own.
	ResponseHeaderTimeout time.Duration
	// Timeout bounds each attempt of an ordinary call, from connecting to the
	// last byte. Zero means DefaultTimeout where the context of the call has no
	// deadline; a negative value means no limit. Of an upload it bounds the wait
	// for the answer after its end, unless it is zero, and the reading of that
	// answer; streams ignore it.
	Timeout time.Duration
	// StreamIdleTimeout ends a stream or an upload in which nothing moved for so
	// long. Zero means no limit: logs may be silent for days.
	StreamIdleTimeout time.Duration
	// RetryBudget bounds the time in which failed attempts are repeated
	// (docs/spec/v1-plugins.md §5.3). Zero means DefaultRetryBudget, a negative
	// value one attempt.
	RetryBudget time.Duration
	// MaxIdleConns is how many idle connections are kept. Zero means
	// DefaultMaxIdleConns, a negative value none.
	MaxIdleConns int
	// IdleConnTimeout is how long they are kept. Zero means
	// DefaultIdleConnTimeout.
	IdleConnTimeout time.Duration
	// MaxAnswer is the longest answer in bytes that an ordinary call reads;
	// longer ones are ErrAnswerTooLarge. Zero means DefaultMaxAnswer.
	MaxAnswer int64
	// Replayable says which methods may be sent again although the plugin may
	// have got them. Nil means the function Replayable.
	Replayable func(method string) bool
	// Logger gets a warning for each repeated attempt. Nil means none.
	Logger *slog.Logger
}

func (o ClientOptions) withDefaults() ClientOptions {
	if o.ConnectTimeout == 0 {
		o.ConnectTimeout = DefaultConnectTimeout
	}
	if o.RetryBudget == 0 {
		o.RetryBudget = DefaultRetryBudget
	}
	if o.MaxIdleConns == 0 {
		o.MaxIdleConns = DefaultMaxIdleConns
	}
	if o.IdleConnTimeout <= 0 {
		o.IdleConnTimeout = DefaultIdleConnTimeout
	}
	if o.MaxAnswer <= 0 {
		o.MaxAnswer = DefaultMaxAnswer
	}
	if o.Replayable == nil {
		o.Replayable = Replayable
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.DialContext == nil {
		o.DialContext = dialSystem
	}
	return o
}

// Client calls one plugin. It is safe for concurrent use, keeps connections
// open between calls, follows no redirects and uses no proxy on its own.
//
// The methods that end in Context are the ones to use. Those without have the
// signatures of Moby's package, for programs that come from there.
type Client struct {
	addr   Address
	dialTo [2]string
	tls    *tls.Config
	opts   ClientOptions
	pool   pool
	// lead is what every request has between its target and its length.
	lead    string
	buffers sync.Pool // *callBuffers
}

// callBuffers are reused between calls.
type callBuffers struct {
	req     request
	payload bytes.Buffer
	head    []byte
	answer  []byte
}

// NewClientWithOptions returns a client for the plugin at addr, in one of the
// forms of ParseAddress. It connects when it is first called. Close releases
// what it keeps.
func NewClientWithOptions(addr string, opts ClientOptions) (*Client, error) {
	a, err := ParseAddress(addr)
	if err != nil {
		return nil, err
	}
	return newClient(a, opts), nil
}

func newClient(a Address, opts ClientOptions) *Client {
	c := &Client{addr: a, opts: opts.withDefaults()}
	c.dialTo[0], c.dialTo[1] = a.dialTarget()
	if !a.IsLocal() && (opts.TLS != nil || a.Scheme == "https") {
		c.tls = tlsFor(opts.TLS, c.dialTo[1])
	}
	c.pool.max, c.pool.timeout = max(c.opts.MaxIdleConns, 0), c.opts.IdleConnTimeout
	c.lead = " HTTP/1.1\r\nHost: " + a.hostHeader() + "\r\nUser-Agent: outlet\r\nAccept: " + VersionMimetype + "\r\n"
	c.buffers.New = func() any { return new(callBuffers) }
	return c
}

// tlsFor completes a TLS configuration for the host that is dialled.
func tlsFor(t *tls.Config, hostPort string) *tls.Config {
	if t == nil {
		t = &tls.Config{MinVersion: tls.VersionTLS12}
	} else {
		t = t.Clone()
	}
	// A configuration may be shared with clients that speak HTTP/2.
	t.NextProtos = slices.DeleteFunc(slices.Clone(t.NextProtos), func(p string) bool { return p != "http/1.1" })
	if t.ServerName == "" {
		if host, _, err := net.SplitHostPort(hostPort); err == nil {
			t.ServerName = host
		}
	}
	return t
}

// Address is where the plugin is reached, in the form of ParseAddress.
func (c *Client) Address() string { return c.addr.String() }

// Close closes the idle connections, and makes later calls fail with an error
// that matches ErrClosed. Calls that are under way finish.
func (c *Client) Close() error {
	c.pool.drop(true)
	return nil
}

// CloseIdleConnections closes the connections that no call uses.
func (c *Client) CloseIdleConnections() { c.pool.drop(false) }

// CallContext calls a method, for example VolumeDriver.List: it sends args as
// JSON, or no body if args is nil, and decodes the first JSON value of the
// answer into what ret points to, unless ret is nil.
//
// An answer with a status other than 200 is a *StatusError; a call without a
// complete answer is a *TransportError. What a 200 answer says in its Err field
// is for the caller to look at. ctx ends the call and every wait in it.
func (c *Client) CallContext(ctx context.Context, method string, args, ret any, opts ...func(*RequestOpts)) error {
	o := requestOpts(opts)
	b := c.buffers.Get().(*callBuffers)
	defer c.release(b)
	req, err := jsonRequest(method, args, args != nil, b)
	if err != nil {
		return err
	}
	ans, err := c.do(ctx, req, b, o)
	if err != nil {
		return err
	}
	if ans.head.status != http.StatusOK {
		return ans.statusError(method)
	}
	return ans.decode(method, ret, c.limit(o), b)
}

// CallRaw calls a method with a body that is JSON already, or with none if body
// is empty, and returns the answer as it is, whatever its status. Only an
// answer that did not arrive in full, or is too large, is an error.
func (c *Client) CallRaw(ctx context.Context, method string, body []byte, opts ...func(*RequestOpts)) (status int, answer []byte, err error) {
	o := requestOpts(opts)
	b := c.buffers.Get().(*callBuffers)
	defer c.release(b)
	req, err := newRequest(method, b)
	if err != nil {
		return 0, nil, err
	}
	req.payload, req.hasBody = body, len(body) > 0
	ans, err := c.do(ctx, req, b, o)
	if err != nil {
		return 0, nil, err
	}
	answer, err = ans.readAll(method, c.limit(o), nil)
	return ans.head.status, answer, err
}

// StreamContext calls a method whose answer is a stream, for example
// LogDriver.ReadLogs, and returns it. args is sent as JSON, null if it is nil.
// ctx ends the stream, too, at any time. The caller closes the stream; no
// timeout but StreamIdleTimeout applies to it.
func (c *Client) StreamContext(ctx context.Context, method string, args any, opts ...func(*RequestOpts)) (io.ReadCloser, error) {
	o := requestOpts(opts)
	b := c.buffers.Get().(*callBuffers)
	defer c.release(b)
	req, err := jsonRequest(method, args, true, b)
	if err != nil {
		return nil, err
	}
	req.stream, req.idle = true, c.opts.StreamIdleTimeout
	ans, err := c.do(ctx, req, b, o)
	if err != nil {
		return nil, err
	}
	if ans.head.status != http.StatusOK {
		return nil, ans.statusError(method)
	}
	return &stream{ans: ans, nc: ans.cn.nc, method: req.method, idle: req.idle}, nil
}

// SendFileContext calls a method whose request is a stream, for example
// GraphDriver.ApplyDiff, and decodes the answer into what ret points to, unless
// ret is nil. It is repeated only while nothing was read from data. It does not
// use data after it returned, so a reader that blocks also holds the call up.
func (c *Client) SendFileContext(ctx context.Context, method string, data io.Reader, ret any, opts ...func(*RequestOpts)) error {
	o := requestOpts(opts)
	b := c.buffers.Get().(*callBuffers)
	defer c.release(b)
	req, err := newRequest(method, b)
	if err != nil {
		return err
	}
	req.upload, req.hasBody, req.idle = data, true, c.opts.StreamIdleTimeout
	if data == nil {
		req.upload = http.NoBody
	}
	ans, err := c.do(ctx, req, b, o)
	if err != nil {
		return err
	}
	if ans.head.status != http.StatusOK {
		return ans.statusError(method)
	}
	limit := c.opts.Timeout
	if o.Timeout > 0 {
		limit = o.Timeout
	}
	if _, bounded := ctx.Deadline(); limit == 0 && !bounded {
		limit = DefaultTimeout
	}
	if limit > 0 {
		ans.within(limit)
	}
	return ans.decode(method, ret, c.limit(o), b)
}

func (c *Client) limit(o RequestOpts) int64 {
	if o.maxAnswer > 0 {
		return o.maxAnswer
	}
	return c.opts.MaxAnswer
}

func (c *Client) release(b *callBuffers) {
	b.req = request{}
	if b.payload.Cap() > keepBuffer || cap(b.answer) > keepBuffer {
		return
	}
	c.buffers.Put(b)
}

// Caller is the client in the shape that the capability packages call.
type Caller struct{ c *Client }

// Caller returns the client as something that has the methods of the capability
// packages' Caller and Streamer.
func (c *Client) Caller() Caller { return Caller{c} }

// Call is CallContext of the client.
func (c Caller) Call(ctx context.Context, method string, args, ret any) error {
	return c.c.CallContext(ctx, method, args, ret)
}

// Stream is StreamContext of the client.
func (c Caller) Stream(ctx context.Context, method string, args any) (io.ReadCloser, error) {
	return c.c.StreamContext(ctx, method, args)
}

// SendFile is SendFileContext of the client.
func (c Caller) SendFile(ctx context.Context, method string, data io.Reader, ret any) error {
	return c.c.SendFileContext(ctx, method, data, ret)
}

// Client is the client behind c.
func (c Caller) Client() *Client { return c.c }

// RequestOpts are options of one call. They are set by functions such as
// WithRequestTimeout.
type RequestOpts struct {
	// Timeout bounds each attempt with reading its answer; of a stream it bounds
	// the wait for the answer's head. Zero means the client's.
	Timeout time.Duration

	retryBudget time.Duration
	maxAnswer   int64
	replay      int8
}

// WithRequestTimeout sets the time that each attempt may take.
func WithRequestTimeout(t time.Duration) func(*RequestOpts) {
	return func(o *RequestOpts) { o.Timeout = t }
}

// WithRetryBudget sets the time in which failed attempts are repeated: a
// negative value means one attempt, zero the client's RetryBudget.
func WithRetryBudget(d time.Duration) func(*RequestOpts) {
	return func(o *RequestOpts) { o.retryBudget = d }
}

// WithMaxAnswer sets the longest answer to read, in bytes.
func WithMaxAnswer(n int64) func(*RequestOpts) {
	return func(o *RequestOpts) { o.maxAnswer = n }
}

// WithReplay says whether the call may be sent again although the plugin may
// have got it.
func WithReplay(ok bool) func(*RequestOpts) {
	return func(o *RequestOpts) {
		o.replay = -1
		if ok {
			o.replay = 1
		}
	}
}

func requestOpts(opts []func(*RequestOpts)) RequestOpts {
	if len(opts) == 0 {
		return RequestOpts{}
	}
	o := new(RequestOpts)
	for _, f := range opts {
		if f != nil {
			f(o)
		}
	}
	return *o
}

// A request is what an attempt sends. It outlives attempts.
type request struct {
	// method is the name without a leading slash, target the same in the form
	// of a URL.
	method, target string
	payload        []byte
	hasBody        bool
	stream         bool
	idle           time.Duration

	upload io.Reader
	// consumed says that upload cannot be sent again; failed is its own error.
	consumed bool
	failed   error
}

// newRequest checks the method and makes a request of it, in b.
func newRequest(method string, b *callBuffers) (*request, error) {
	name := strings.TrimPrefix(method, "/")
	if name == "" {
		return nil, errors.New("call without a method")
	}
	b.req = request{method: name, target: name}
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c >= 0x7f || c == '%' || c == '#' {
			u, err := url.Parse("/" + name)
			if err != nil {
				return nil, fmt.Errorf("method %q: %w", method, err)
			}
			// Queries are left as they are, blanks included.
			b.req.target = strings.ReplaceAll(strings.TrimPrefix(u.RequestURI(), "/"), " ", "%20")
			break
		}
	}
	return &b.req, nil
}

// jsonRequest makes a request whose body is args, in b.
func jsonRequest(method string, args any, hasBody bool, b *callBuffers) (*request, error) {
	req, err := newRequest(method, b)
	if err != nil || !hasBody {
		return req, err
	}
	b.payload.Reset()
	if err := json.NewEncoder(&b.payload).Encode(args); err != nil {
		return nil, fmt.Errorf("%s: encode arguments: %w", req.method, err)
	}
	req.payload, req.hasBody = b.payload.Bytes(), true
	return req, nil
}

// appendHead appends request line and headers.
func (c *Client) appendHead(buf []byte, req *request) []byte {
	buf = append(buf, "POST "...)
	buf = append(buf, c.addr.Base...)
	buf = append(buf, '/')
	buf = append(buf, req.target...)
	buf = append(buf, c.lead...)
	if req.hasBody {
		buf = append(buf, "Content-Type: "+VersionMimetype+"\r\n"...)
	}
	if req.upload != nil {
		return append(buf, "Transfer-Encoding: chunked\r\n\r\n"...)
	}
	buf = append(buf, "Content-Length: "...)
	buf = strconv.AppendInt(buf, int64(len(req.payload)), 10)
	return append(buf, "\r\n\r\n"...)
}
