package outlet_test

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
)

func TestErrorfHasTheTextAndTheClass(t *testing.T) {
	err := outlet.Errorf(errdefs.ErrConflict, "plugin %s is enabled: %w", "x", fs.ErrExist)
	if got, want := err.Error(), "plugin x is enabled: file already exists"; got != want {
		t.Errorf("text %q, want %q", got, want)
	}
	for _, target := range []error{errdefs.ErrConflict, fs.ErrExist} {
		if !errors.Is(err, target) {
			t.Errorf("is not %v", target)
		}
	}
	if errors.Is(err, errdefs.ErrNotFound) {
		t.Error("is of a class it was not given")
	}
}

func TestTheOuterClassIsFoundFirst(t *testing.T) {
	inner := outlet.Errorf(errdefs.ErrNotFound, "no such blob")
	outer := outlet.Errorf(errdefs.ErrInvalidArgument, "bad plugin: %w", inner)
	if got := errdefs.Resolve(outer); !errors.Is(got, errdefs.ErrInvalidArgument) {
		t.Errorf("resolved to %v", got)
	}
}

func TestOpError(t *testing.T) {
	cause := outlet.Errorf(errdefs.ErrUnavailable, "cause")
	err := error(&outlet.OpError{Op: "enable", Plugin: "a/b:latest", Err: cause})
	if got, want := err.Error(), "enable a/b:latest: cause"; got != want {
		t.Errorf("text %q, want %q", got, want)
	}
	if !errdefs.IsUnavailable(err) {
		t.Error("has lost its class")
	}
	if got, want := (&outlet.OpError{Op: "create", Err: cause}).Error(), "create: cause"; got != want {
		t.Errorf("text %q, want %q", got, want)
	}
}
