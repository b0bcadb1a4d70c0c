package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
)

// What is read of an answer at most, so that a stranger at the other end of a
// TCP connection cannot fill the memory.
const (
	maxAnswer = 64 << 20
	maxError  = 1 << 20 // a plugin's own error of 64 KiB may be in it, in JSON
	maxLine   = 4 << 20
)

// extensions is the prefix of what the Engine API does not have.
const extensions = "/outlet/v1"

// request is one exchange with the daemon.
type request struct {
	method string
	path   string // escaped, without the version
	query  url.Values
	body   io.Reader
	header http.Header
}

// engine sends r as a request of the Engine API, with the negotiated version.
func (c *Client) engine(ctx context.Context, r request) (*http.Response, error) {
	v, err := c.negotiate(ctx)
	if err != nil {
		return nil, err
	}
	r.path = "/v" + v + r.path
	return c.send(ctx, r)
}

// extension sends r as a request of Outlet's own.
func (c *Client) extension(ctx context.Context, r request) (*http.Response, error) {
	path := r.path
	r.path = extensions + path
	resp, err := c.send(ctx, r)
	return resp, c.notOutlet(err, r.method, path)
}

// notOutlet explains the answer of a daemon that does not know our extensions.
func (c *Client) notOutlet(err error, method, path string) error {
	e, ok := err.(*Error) //nolint:errorlint // made by send just now, never wrapped
	if ok && e.Status == http.StatusNotFound && e.Message == "page not found" {
		return outlet.Errorf(errdefs.ErrNotImplemented,
			"the daemon at %s does not know %s %s%s: it is not Outlet, or older than this client", c.host.where(), method, extensions, path)
	}
	return err
}

// send does the exchange; a status other than a success becomes an [*Error].
// The caller closes the body.
func (c *Client) send(ctx context.Context, r request) (*http.Response, error) {
	req, err := c.newRequest(ctx, r)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.exchangeError(ctx, err)
	}
	if err := statusError(resp); err != nil {
		resp.Body.Close() // only read from
		return nil, err
	}
	return resp, nil
}

// exchangeError says with whom an exchange failed, where err itself does not.
func (c *Client) exchangeError(ctx context.Context, err error) error {
	err = bare(ctx, err)
	var unreachable *ConnectError
	if errors.As(err, &unreachable) || context.Cause(ctx) != nil {
		return err
	}
	if errors.Is(err, io.EOF) {
		return outlet.Errorf(errdefs.ErrUnavailable, "the daemon at %s hung up without an answer: %w", c.host.where(), err)
	}
	return outlet.Errorf(errdefs.ErrUnavailable, "the exchange with the daemon at %s failed: %w", c.host.where(), err)
}

func (c *Client) newRequest(ctx context.Context, r request) (*http.Request, error) {
	host := c.host.Address
	if c.host.Network == "unix" {
		host = "api.outlet.localhost"
	}
	u := "http://" + host + r.path
	if len(r.query) > 0 {
		u += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, u, r.body)
	if err != nil {
		return nil, outlet.Errorf(errdefs.ErrInvalidArgument, "invalid request for %s: %v", c.host.where(), err)
	}
	for k, v := range r.header {
		req.Header[k] = v
	}
	req.Header.Set("User-Agent", c.userAgent)
	return req, nil
}

// statusError reads the error of an answer that is none of success.
func statusError(resp *http.Response) error {
	if resp.StatusCode == http.StatusSwitchingProtocols || resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return nil
	}
	e := &Error{Status: resp.StatusCode}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxError)) // the status alone is an answer
	if t, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); t == "application/json" {
		var m struct{ Message string }
		if json.Unmarshal(body, &m) == nil {
			e.Message = m.Message
		}
	} else {
		e.Message = strings.TrimSpace(string(body))
	}
	if e.Message == "" {
		e.Message = fmt.Sprintf("the daemon answered %d (%s) and gave no reason", resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	return e
}

// decode reads an answer of one JSON value into v and closes it.
func decode(resp *http.Response, v any) error {
	defer resp.Body.Close() // only read from
	data, err := readBounded(resp.Body)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("the daemon's answer is not what was asked for: %w", err)
	}
	return nil
}

// drop closes an answer whose body does not matter, after reading the little it
// may have, so that the connection can be used again.
func drop(resp *http.Response) {
	io.CopyN(io.Discard, resp.Body, maxError) //nolint:errcheck // only to keep the connection
	resp.Body.Close()                         // only read from
}

func readBounded(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("read the daemon's answer: %w", err)
	}
	if len(data) > maxAnswer {
		return nil, outlet.Errorf(errdefs.ErrResourceExhausted, "the daemon's answer is longer than %d MiB", maxAnswer>>20)
	}
	return data, nil
}

// jsonBody is the body and header of a JSON request.
func jsonBody(v any) (io.Reader, http.Header, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, nil, outlet.Errorf(errdefs.ErrInvalidArgument, "encode request: %v", err)
	}
	return bytes.NewReader(data), http.Header{"Content-Type": {"application/json"}}, nil
}

// negotiate gives the API version to use, asking the daemon once.
func (c *Client) negotiate(ctx context.Context) (string, error) {
	c.mu.Lock()
	v := c.version
	c.mu.Unlock()
	if v != "" {
		return v, nil
	}
	p, err := c.Ping(ctx)
	if err != nil {
		return "", err
	}
	v = MaxAPIVersion
	if p.APIVersion != "" {
		if err := checkVersion(p.APIVersion); err != nil {
			return "", fmt.Errorf("the daemon at %s: %w", c.host.where(), err)
		}
		if compareVersions(p.APIVersion, MinAPIVersion) < 0 {
			return "", outlet.Errorf(errdefs.ErrNotImplemented,
				"API version %s is not supported by this client: the minimum supported API version is %s", p.APIVersion, MinAPIVersion)
		}
		if compareVersions(p.APIVersion, v) < 0 {
			v = p.APIVersion
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.version == "" {
		c.version = v
	}
	return c.version, nil
}

// checkVersion refuses what is not numbers with dots between them.
func checkVersion(v string) error {
	for part := range strings.SplitSeq(v, ".") {
		if _, err := strconv.ParseUint(part, 10, 31); err != nil {
			return outlet.Errorf(errdefs.ErrInvalidArgument, "invalid API version %q", v)
		}
	}
	return nil
}

// compareVersions compares part by part as numbers; missing parts are 0.
func compareVersions(a, b string) int {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for i := range max(len(as), len(bs)) {
		var x, y uint64
		if i < len(as) {
			x, _ = strconv.ParseUint(as[i], 10, 31) // checkVersion saw it
		}
		if i < len(bs) {
			y, _ = strconv.ParseUint(bs[i], 10, 31) // checkVersion saw it
		}
		if x != y {
			if x < y {
				return -1
			}
			return 1
		}
	}
	return 0
}

// filters is the query form of the Engine API's filters; nil if there are none.
func filters(f map[string][]string) url.Values {
	out := make(map[string]map[string]bool)
	for key, values := range f {
		if len(values) == 0 {
			continue
		}
		out[key] = make(map[string]bool, len(values))
		for _, v := range values {
			out[key][v] = true
		}
	}
	if len(out) == 0 {
		return nil
	}
	data, _ := json.Marshal(out) // strings and booleans always encode
	return url.Values{"filters": {string(data)}}
}

// pluginPath is the escaped path of a plugin's route. Slashes and colons of the
// name stay as they are.
func pluginPath(name, action string) (string, error) {
	if strings.TrimSpace(name) == "" {
		return "", outlet.Errorf(errdefs.ErrInvalidArgument, "invalid plugin name or ID: value is empty")
	}
	segments := strings.Split(name, "/")
	for i, s := range segments {
		if s == "" || s == "." || s == ".." {
			return "", outlet.Errorf(errdefs.ErrInvalidArgument, "invalid plugin name or ID: %q", name)
		}
		segments[i] = url.PathEscape(s)
	}
	return "/plugins/" + strings.Join(segments, "/") + action, nil
}

// volumePath is the escaped path of a volume's route.
func volumePath(name, action string) (string, error) {
	if strings.TrimSpace(name) == "" || name == "." || name == ".." {
		return "", outlet.Errorf(errdefs.ErrInvalidArgument, "invalid volume name: %q", name)
	}
	return "/volumes/" + url.PathEscape(name) + action, nil
}
