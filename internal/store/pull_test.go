package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/outletd/outlet/internal/rootfs"
)

// source is a download of bytes that may be the wrong ones.
type source struct {
	io.Reader
	distrust func() bool
}

func (source) Close() error     { return nil }
func (s source) Distrust() bool { return s.distrust() }
func (source) Host() string     { return "test" }

// A layer is unpacked while it arrives. Here all of a wrong one is unpacked
// before it is found to be wrong, and then the right one comes.
func TestALayerIsNamedOnlyIfTheRightBytesWereUnpacked(t *testing.T) {
	both(t, func(t *testing.T, s *Store) {
		right, wrong := archive(t, file{name: "plugin", body: "right"}), archive(t, file{name: "plugin", body: "wrong"})
		config := []byte("{}")
		layer := ocispec.Descriptor{MediaType: rootfs.MediaTypeLayer, Digest: digest.FromBytes(right), Size: int64(len(right))}
		r := Remote{
			Manifest: ocispec.Descriptor{Digest: digest.FromString("m"), Size: 1}, RawManifest: []byte("m"),
			Config: ocispec.Descriptor{Digest: digest.FromBytes(config), Size: int64(len(config))}, RawConfig: config,
			Layers: []ocispec.Descriptor{layer},
		}
		unpacked := func() error {
			found, err := filepath.Glob(filepath.Join(s.Root(), "snapshots", s.Snapshotter(), "snapshots", "*", "fs", "plugin"))
			if native, nerr := filepath.Glob(filepath.Join(s.Root(), "snapshots", s.Snapshotter(), "snapshots", "*", "plugin")); nerr == nil {
				found = append(found, native...)
			}
			for _, f := range found {
				if b, err := os.ReadFile(f); err == nil && string(b) == "wrong" {
					return nil
				}
			}
			return errors.Join(err, errors.New("it is not unpacked"))
		}
		tries := 0
		fetch := func(context.Context, ocispec.Descriptor, int64) Download {
			if tries++; tries > 1 {
				return source{bytes.NewReader(right), func() bool { return false }}
			}
			return source{bytes.NewReader(wrong), func() bool {
				for end := time.Now().Add(time.Minute); unpacked() != nil && time.Now().Before(end); {
					<-time.After(5 * time.Millisecond)
				}
				if err := unpacked(); err != nil {
					t.Error(err)
				}
				<-time.After(50 * time.Millisecond) // to its end
				return true
			}}
		}
		a, err := s.Pull(t.Context(), r, fetch, PullOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if tries != 2 || a.Layers[0].DiffID != layer.Digest {
			t.Errorf("after %d tries it is %s, not %s", tries, a.Layers[0].DiffID, layer.Digest)
		}
		if err := a.Release(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := s.GC(t.Context()); err != nil {
			t.Error(err)
		}
		wantEmpty(t, s)
	})
}
