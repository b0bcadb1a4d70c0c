package sdk

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/outletd/outlet/capability/authz"
	"github.com/outletd/outlet/capability/ipam"
	"github.com/outletd/outlet/capability/logdriver"
	"github.com/outletd/outlet/capability/metrics"
	"github.com/outletd/outlet/capability/network"
	"github.com/outletd/outlet/capability/secret"
	"github.com/outletd/outlet/capability/volume"
)

// Plugin is what a plugin does: the capabilities that are not nil.
type Plugin struct {
	// Volume serves volumes.
	Volume VolumeDriver
	// Network serves networks.
	Network NetworkDriver
	// Ipam gives out pools and addresses.
	Ipam IpamDriver
	// AuthZ allows and refuses requests to the host's API.
	AuthZ AuthZ
	// Log keeps what containers print.
	Log LogDriver
	// Metrics is told when the host has metrics to read.
	Metrics MetricsCollector
	// Secret provides secrets.
	Secret SecretProvider
}

// manifest are the capabilities in the protocol's words.
func (p Plugin) manifest() []string {
	names := []string{}
	for _, c := range []struct {
		name   string
		served bool
	}{
		{volume.Name, p.Volume != nil},
		{network.Name, p.Network != nil},
		{ipam.Name, p.Ipam != nil},
		{authz.Name, p.AuthZ != nil},
		{logdriver.Name, p.Log != nil},
		{metrics.Name, p.Metrics != nil},
		{secret.Name, p.Secret != nil},
	} {
		if c.served {
			names = append(names, c.name)
		}
	}
	return names
}

// A method answers one call of the protocol: body is what was sent, the result
// is sent as JSON. A method that streams writes by itself.
type method func(ctx context.Context, body []byte, w http.ResponseWriter) (any, error)

// empty is the answer that says nothing but that it went well.
type empty struct{}

// bare is a method without arguments: some hosts send none, some an empty
// object, and neither means anything.
func bare(f func(ctx context.Context) (any, error)) method {
	return func(ctx context.Context, _ []byte, _ http.ResponseWriter) (any, error) { return f(ctx) }
}

// with is a method with arguments. need returns the name of a field that must
// not be empty and is, or nothing. Docker's hosts repeat calls with an empty
// body, which must never be carried out with zero values.
func with[A any](need func(A) string, f func(ctx context.Context, args A) (any, error)) method {
	return func(ctx context.Context, body []byte, _ http.ResponseWriter) (any, error) {
		args, err := decode(body, need)
		if err != nil {
			return nil, err
		}
		return f(ctx, args)
	}
}

// decode reads arguments: the first JSON value of the body, of any content type.
func decode[A any](body []byte, need func(A) string) (A, error) {
	var args *A
	err := json.NewDecoder(bytes.NewReader(body)).Decode(&args)
	switch {
	case errors.Is(err, io.EOF), err == nil && args == nil:
		var zero A
		return zero, WithStatus(http.StatusBadRequest, errors.New("the call has no body, but needs one"))
	case err != nil:
		var zero A
		return zero, WithStatus(http.StatusBadRequest, fmt.Errorf("the body of the call: %w", err))
	}
	if field := need(*args); field != "" {
		return *args, WithStatus(http.StatusBadRequest, fmt.Errorf("the call has no %s", field))
	}
	return *args, nil
}

// missing returns the first name whose value is empty; names and values take
// turns.
func missing(pairs ...string) string {
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			return pairs[i]
		}
	}
	return ""
}

// statusError is an error whose answer has a status of its own.
type statusError struct {
	status int
	err    error
}

func (e *statusError) Error() string { return e.err.Error() }
func (e *statusError) Unwrap() error { return e.err }

// WithStatus makes err be answered with an HTTP status from 400 to 599 instead
// of 500. Hosts treat them all the same, with one exception: 404. Outlet
// understands it as "there is none" where it asks for a volume; from a method
// that plugins may leave out it would mean that the plugin has no such method,
// so there it is answered as 500.
func WithStatus(status int, err error) error { return &statusError{status, err} }

// statusOf is the status to answer err with.
func statusOf(err error, optional bool) int {
	var s *statusError
	if !errors.As(err, &s) || s.status < 400 || s.status > 599 || optional && s.status == http.StatusNotFound {
		return http.StatusInternalServerError
	}
	return s.status
}
