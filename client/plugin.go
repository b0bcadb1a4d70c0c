package client

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/outletd/outlet"
)

// Privilege is one thing a plugin asks for.
type Privilege struct {
	Name        string
	Description string
	Value       []string
	// Words says in plain words what granting it means; only Outlet's own
	// answers have it.
	Words string `json:",omitempty"`
}

// List gives the plugins f selects, by name.
func (c *Client) List(ctx context.Context, f outlet.ListFilter) ([]outlet.Plugin, error) {
	values := map[string][]string{"capability": f.Capabilities}
	if f.Enabled != nil {
		values["enabled"] = []string{strconv.FormatBool(*f.Enabled)}
	}
	return c.ListFiltered(ctx, values)
}

// ListFiltered is [Client.List] with the filters of the wire as they are: keys
// and their values. A key the daemon does not know is an
// errdefs.ErrInvalidArgument.
func (c *Client) ListFiltered(ctx context.Context, f map[string][]string) ([]outlet.Plugin, error) {
	resp, err := c.engine(ctx, request{method: http.MethodGet, path: "/plugins", query: filters(f)})
	if err != nil {
		return nil, err
	}
	var list []outlet.Plugin
	return list, decode(resp, &list)
}

// Inspect gives one plugin by its name, id, or a prefix of its id.
func (c *Client) Inspect(ctx context.Context, name string) (outlet.Plugin, error) {
	var p outlet.Plugin
	path, err := pluginPath(name, "/json")
	if err != nil {
		return p, err
	}
	resp, err := c.engine(ctx, request{method: http.MethodGet, path: path})
	if err != nil {
		return p, err
	}
	return p, decode(resp, &p)
}

// Create makes a plugin of a tar with config.json and rootfs/ in it, plain or
// compressed with gzip or zstd. It gives the plugin and what the daemon warns
// of. Where the daemon refuses the plugin before all of the tar was read, the
// rest is not sent; a Read of tar that waits for its source at that moment may
// end after Create returned.
func (c *Client) Create(ctx context.Context, name string, tar io.Reader, o outlet.CreateOptions) (outlet.Plugin, []string, error) {
	q := url.Values{"name": {name}}
	if o.ServiceID != "" {
		q.Set("serviceID", o.ServiceID)
	}
	if len(o.Env) > 0 {
		q["env"] = o.Env
	}
	var answer struct {
		Plugin   outlet.Plugin
		Warnings []string
	}
	err := c.upload(ctx, request{
		method: http.MethodPost,
		path:   "/plugins/create",
		query:  q,
		body:   tar,
		header: http.Header{"Content-Type": {"application/x-tar"}},
	}, &answer)
	return answer.Plugin, answer.Warnings, err
}

// Enable starts a plugin and returns when it is ready. A start that fails says
// why. Outlet goes on starting it if ctx ends first.
func (c *Client) Enable(ctx context.Context, name string, o outlet.EnableOptions) error {
	if o.StartTimeout == 0 && o.Timeout%time.Second == 0 { // all that the Engine API can say
		q := url.Values{"timeout": {strconv.FormatInt(int64(o.Timeout/time.Second), 10)}}
		return c.act(ctx, http.MethodPost, name, "/enable", q)
	}
	if _, err := pluginPath(name, ""); err != nil {
		return err
	}
	q := url.Values{"plugin": {name}, "timeout": {o.Timeout.String()}}
	if o.StartTimeout != 0 {
		q.Set("start-timeout", o.StartTimeout.String())
	}
	resp, err := c.extension(ctx, request{method: http.MethodPost, path: "/plugins/enable", query: q})
	if err != nil {
		return err
	}
	drop(resp)
	return nil
}

// Disable stops a plugin. One that is in use is an errdefs.ErrConflict that
// names who uses it, unless force is set.
func (c *Client) Disable(ctx context.Context, name string, force bool) error {
	return c.act(ctx, http.MethodPost, name, "/disable", forced(force))
}

// Remove removes a plugin. One that is enabled or in use is an
// errdefs.ErrConflict, unless force is set.
func (c *Client) Remove(ctx context.Context, name string, force bool) error {
	return c.act(ctx, http.MethodDelete, name, "", forced(force))
}

func forced(force bool) url.Values {
	if !force {
		return nil
	}
	return url.Values{"force": {"1"}}
}

// act is a request on a plugin whose answer has nothing to read.
func (c *Client) act(ctx context.Context, method, name, action string, q url.Values) error {
	path, err := pluginPath(name, action)
	if err != nil {
		return err
	}
	resp, err := c.engine(ctx, request{method: method, path: path, query: q})
	if err != nil {
		return err
	}
	drop(resp)
	return nil
}

// Set changes the settings of a disabled plugin: all that o says, or nothing.
func (c *Client) Set(ctx context.Context, name string, o outlet.SetOptions) error {
	path, err := pluginPath(name, "/set")
	if err != nil {
		return err
	}
	send, r := c.engine, request{method: http.MethodPost, path: path}
	var body any = o.Set
	if o.Args != nil || len(o.Unset) > 0 { // the Engine API has no words for these
		send = c.extension
		r.path, r.query = "/plugins/set", url.Values{"plugin": {name}}
		body = struct {
			Set   []string  `json:",omitempty"`
			Args  *[]string `json:",omitempty"`
			Unset []string  `json:",omitempty"`
		}{o.Set, argsOf(o), o.Unset}
	}
	if r.body, r.header, err = jsonBody(body); err != nil {
		return err
	}
	resp, err := send(ctx, r)
	if err != nil {
		return err
	}
	drop(resp)
	return nil
}

// argsOf keeps "no arguments at all" apart from "as they were".
func argsOf(o outlet.SetOptions) *[]string {
	if o.Args == nil {
		return nil
	}
	return &o.Args
}

// Privileges says what a plugin the daemon has asks for.
func (c *Client) Privileges(ctx context.Context, name string) ([]Privilege, error) {
	if _, err := pluginPath(name, ""); err != nil {
		return nil, err
	}
	resp, err := c.extension(ctx, request{method: http.MethodGet, path: "/plugins/privileges", query: url.Values{"plugin": {name}}})
	if err != nil {
		return nil, err
	}
	var list []Privilege
	return list, decode(resp, &list)
}

// Call sends one request of the plugin protocol, for example
// "VolumeDriver.List", to a managed plugin or, failing that, a v1 plugin. body
// is JSON, or empty. It gives the HTTP status and the body the plugin answered;
// a status that is no success is not an error of Call.
func (c *Client) Call(ctx context.Context, name, method string, body []byte) (status int, answer []byte, err error) {
	if _, err := pluginPath(name, ""); err != nil {
		return 0, nil, err
	}
	r := request{method: http.MethodPost, path: "/plugins/call", query: url.Values{"plugin": {name}, "method": {method}}}
	if len(body) > 0 {
		r.body, r.header = bytes.NewReader(body), http.Header{"Content-Type": {"application/json"}}
	}
	resp, err := c.extension(ctx, r)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close() // only read from
	status = http.StatusOK
	if s := resp.Header.Get("Outlet-Plugin-Status"); s != "" {
		if status, err = strconv.Atoi(s); err != nil {
			return 0, nil, &Error{Message: "the daemon's answer has no valid Outlet-Plugin-Status: " + strconv.Quote(s)}
		}
	}
	answer, err = readBounded(resp.Body)
	return status, answer, err
}
