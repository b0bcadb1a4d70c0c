// Package secret calls secret providers (manifest name secretprovider): the type
// of the request and the rules of the answer, as docs/spec/capabilities.md §8
// has them.
//
// It stores nothing.
package secret

import (
	"context"
	"errors"
	"time"

	"github.com/outletd/outlet/capability"
)

// Name is what a secret provider has in its manifest; Type is the same in the
// configuration of a managed plugin. The methods' prefix is another.
const (
	Name = "secretprovider"
	Type = "docker.secretprovider/1.0"
)

// MethodGetSecret is the only method, as it is called.
const MethodGetSecret = "SecretProvider.GetSecret"

// MaxSize is one more than the longest secret, in bytes.
const MaxSize = 512000

// ErrSize is what Get returns for a secret that is empty or too long.
var ErrSize = errors.New("secret data must be larger than 0 and less than 512000 bytes")

// Replayable says whether a method may be sent again although the plugin may
// have got it: none, because a provider may make a credential for each call.
func Replayable(string) bool { return false }

// Request says which secret is for whom. What is not known is empty.
type Request struct {
	SecretName          string            `json:",omitempty"`
	SecretLabels        map[string]string `json:",omitempty"`
	ServiceHostname     string            `json:",omitempty"`
	ServiceID           string            `json:",omitempty"`
	ServiceName         string            `json:",omitempty"`
	ServiceLabels       map[string]string `json:",omitempty"`
	ServiceEndpointSpec *EndpointSpec     `json:",omitempty"`
	TaskID              string            `json:",omitempty"`
	TaskName            string            `json:",omitempty"`
	TaskImage           string            `json:",omitempty"`
	NodeID              string            `json:",omitempty"`
}

// EndpointSpec is how a service is published.
type EndpointSpec struct {
	Mode  int32        `json:",omitempty"`
	Ports []PortConfig `json:",omitempty"`
}

// PortConfig is a published port.
type PortConfig struct {
	Name          string `json:",omitempty"`
	Protocol      int32  `json:",omitempty"`
	TargetPort    uint32 `json:",omitempty"`
	PublishedPort uint32 `json:",omitempty"`
	PublishMode   int32  `json:",omitempty"`
}

// Response is the answer.
type Response struct {
	// Value is the secret.
	Value []byte
	// DoNotReuse says that each task is to get a secret of its own.
	DoNotReuse bool `json:",omitempty"`
	capability.Refusal
}

// DefaultTimeout is the limit of a call that Options leave at zero.
const DefaultTimeout = 10 * time.Second

// Options change a client. The zero value is good.
type Options struct {
	// Timeout bounds each call, in addition to its context. Zero means
	// DefaultTimeout, a negative value no limit.
	Timeout time.Duration
}

// Client calls one secret provider. It is safe for concurrent use if its Caller
// is, and has no state.
type Client struct {
	caller  capability.Caller
	timeout time.Duration
}

// New returns a client that calls through c.
func New(c capability.Caller, o Options) *Client {
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	return &Client{caller: c, timeout: o.Timeout}
}

// Get asks for a secret. It returns its value, and whether it may be given to
// other tasks, too. A value that is empty or too long is ErrSize. Not replayable.
func (c *Client) Get(ctx context.Context, q Request) (value []byte, doNotReuse bool, err error) {
	var r Response
	if err := capability.Do(ctx, c.caller, c.timeout, MethodGetSecret, q, &r); err != nil {
		return nil, false, err
	}
	if len(r.Value) == 0 || len(r.Value) >= MaxSize {
		return nil, false, ErrSize
	}
	return r.Value, r.DoNotReuse, nil
}
