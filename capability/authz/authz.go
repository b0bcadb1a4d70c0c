// Package authz asks authorization plugins (manifest name authz, methods below
// AuthZPlugin) whether a request to an HTTP API may go on, and has the rules for
// what they get to see, as docs/spec/capabilities.md §5 has them.
//
// It is no middleware: in which order plugins are asked, and what a client is
// answered, is for the server that has the API.
package authz

import (
	"context"
	"fmt"
	"time"

	"github.com/outletd/outlet/capability"
)

// Name is what an authorization plugin has in its manifest; Type is the same in
// the configuration of a managed plugin. The methods' prefix is another.
const (
	Name = "authz"
	Type = "docker.authz/1.0"
)

// Methods, as they are called.
const (
	MethodRequest  = "AuthZPlugin.AuthZReq"
	MethodResponse = "AuthZPlugin.AuthZRes"
)

// Replayable says whether a method may be sent again although the plugin may
// have got it: both only ask.
func Replayable(method string) bool {
	return method == MethodRequest || method == MethodResponse
}

// Request is what a plugin is told: about the request, and in the second phase
// about the response, too. What is not known is empty.
type Request struct {
	// User is the common name of the client's certificate.
	User string `json:",omitempty"`
	// UserAuthNMethod is TLS, or empty if the client has no certificate.
	UserAuthNMethod string `json:",omitempty"`
	// RequestMethod is the HTTP method.
	RequestMethod string `json:",omitempty"`
	// RequestURI is the target exactly as the client sent it.
	RequestURI string `json:"RequestUri,omitempty"`
	// RequestBody is the whole body, where Forwards says that it is shown.
	RequestBody []byte `json:",omitempty"`
	// RequestHeaders are what Headers returns.
	RequestHeaders map[string]string `json:",omitempty"`
	// RequestPeerCertificates are the client's, each as a PEM block.
	RequestPeerCertificates [][]byte `json:",omitempty"`
	// ResponseStatusCode is what the client is going to get.
	ResponseStatusCode int `json:",omitempty"`
	// ResponseBody is the whole body, where Forwards says that it is shown.
	ResponseBody []byte `json:",omitempty"`
	// ResponseHeaders are what Headers returns.
	ResponseHeaders map[string]string `json:",omitempty"`
}

// Response is a plugin's answer.
type Response struct {
	// Allow lets the request go on.
	Allow bool
	// Msg says why not.
	Msg string `json:",omitempty"`
	capability.Refusal
}

// DefaultTimeout is the limit of a call that Options leave at zero.
const DefaultTimeout = 2 * time.Minute

// Options change a client. The zero value is good.
type Options struct {
	// Timeout bounds each call, in addition to its context. Zero means
	// DefaultTimeout, a negative value no limit.
	Timeout time.Duration
}

// DeniedError is a refusal.
type DeniedError struct {
	// Plugin is who refused, Msg why.
	Plugin, Msg string
}

// Error says who and why.
func (e *DeniedError) Error() string {
	return fmt.Sprintf("authorization denied by plugin %s: %s", e.Plugin, e.Msg)
}

// PermissionDenied marks the error's class.
func (e *DeniedError) PermissionDenied() {}

// FailedError is a plugin that gave no decision, which is as good as a refusal.
type FailedError struct {
	// Plugin is who failed, Err how.
	Plugin string
	Err    error
}

// Error says who and how.
func (e *FailedError) Error() string {
	return fmt.Sprintf("plugin %s failed with error: %v", e.Plugin, e.Err)
}

// Unwrap returns how the plugin failed.
func (e *FailedError) Unwrap() error { return e.Err }

// Client asks one authorization plugin. It is safe for concurrent use if its
// Caller is, and has no state.
type Client struct {
	name    string
	caller  capability.Caller
	timeout time.Duration
}

// New returns a client that calls through c. The name is for errors.
func New(name string, c capability.Caller, o Options) *Client {
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	return &Client{name: name, caller: c, timeout: o.Timeout}
}

// AllowRequest asks before the request is handled. Nil means allowed; a
// *DeniedError means no, and a *FailedError that there was no decision: then,
// too, the request must not go on. An Err in the answer is a failure even beside
// Allow.
func (c *Client) AllowRequest(ctx context.Context, q *Request) error {
	return c.ask(ctx, MethodRequest, q)
}

// AllowResponse asks before the response is sent; see AllowRequest.
func (c *Client) AllowResponse(ctx context.Context, q *Request) error {
	return c.ask(ctx, MethodResponse, q)
}

func (c *Client) ask(ctx context.Context, method string, q *Request) error {
	var r Response
	if err := capability.Do(ctx, c.caller, c.timeout, method, q, &r); err != nil {
		return &FailedError{c.name, err}
	}
	if !r.Allow {
		return &DeniedError{c.name, capability.Printable(r.Msg)}
	}
	return nil
}
