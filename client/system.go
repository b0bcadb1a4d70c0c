package client

import (
	"context"
	"net/http"
)

// Ping is what a daemon says of itself at once.
type Ping struct {
	APIVersion string // the highest it serves, "" if it does not say
	OSType     string // "linux"
	Server     string // for example "Outlet/1.0.0 (linux)"
}

// Version describes a daemon's program.
type Version struct {
	Platform      struct{ Name string }
	Version       string
	APIVersion    string `json:"ApiVersion"`
	MinAPIVersion string
	Os            string
	Arch          string
	Components    []Component
	GitCommit     string
	GoVersion     string
	KernelVersion string
	BuildTime     string
}

// Component is one of the programs a daemon consists of.
type Component struct {
	Name    string
	Version string
	Details map[string]string
}

// Info describes a daemon and what it has.
type Info struct {
	Version     string
	Root        string
	ExecRoot    string
	Runtime     RuntimeInfo
	Snapshotter string
	LiveRestore bool
	Warnings    []string
	Plugins     PluginCounts
}

// RuntimeInfo describes what runs plugins.
type RuntimeInfo struct {
	Name    string
	Path    string `json:",omitempty"`
	Version string `json:",omitempty"`
	Commit  string `json:",omitempty"`
	// Isolates says whether plugins are kept apart from the host.
	Isolates bool
	// Seccomp says whether it can filter system calls.
	Seccomp bool
}

// PluginCounts count a daemon's plugins.
type PluginCounts struct{ Total, Enabled, Running int }

// Ping asks whether a daemon is there.
func (c *Client) Ping(ctx context.Context) (Ping, error) {
	resp, err := c.send(ctx, request{method: http.MethodHead, path: "/_ping"}) //nolint:bodyclose // drop closes it
	if _, refused := err.(*Error); refused {                                   //nolint:errorlint // made by send just now, never wrapped
		resp, err = c.send(ctx, request{method: http.MethodGet, path: "/_ping"}) //nolint:bodyclose // as above
	}
	if err != nil {
		return Ping{}, err
	}
	drop(resp)
	return Ping{
		APIVersion: resp.Header.Get("Api-Version"),
		OSType:     resp.Header.Get("Ostype"),
		Server:     resp.Header.Get("Server"),
	}, nil
}

// Version gives the versions of the daemon's program and its parts.
func (c *Client) Version(ctx context.Context) (Version, error) {
	var v Version
	resp, err := c.engine(ctx, request{method: http.MethodGet, path: "/version"})
	if err != nil {
		return v, err
	}
	return v, decode(resp, &v)
}

// Info gives the daemon's settings and what it has.
func (c *Client) Info(ctx context.Context) (Info, error) {
	var i Info
	resp, err := c.extension(ctx, request{method: http.MethodGet, path: "/info"})
	if err != nil {
		return i, err
	}
	return i, decode(resp, &i)
}

// APIVersion is the version of the Engine API in use, asking the daemon if that
// is not known yet.
func (c *Client) APIVersion(ctx context.Context) (string, error) { return c.negotiate(ctx) }
