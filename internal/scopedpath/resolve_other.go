//go:build !linux

package scopedpath

import "github.com/containerd/errdefs"

func resolveIn(_, _ string, _ bool) (string, error) { return "", errdefs.ErrNotImplemented }

func resolveHost(string) error { return errdefs.ErrNotImplemented }
