package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/outletd/outlet/internal/rootfs"
)

func TestUsageTellsWhatIsSharedFromWhatGoesWithAPlugin(t *testing.T) {
	both(t, func(t *testing.T, s *Store) {
		body := small(t, "the same")
		one, two := add(t, s, "one:latest", body), add(t, s, "two:latest", body)
		other := add(t, s, "other:latest", small(t, "something else"))
		dir, err := s.CreatePluginDir(t.Context(), other.ID)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "f"), make([]byte, 1<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		u, err := s.Usage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(u.Plugins) != 3 {
			t.Fatalf("plugins: %+v", u.Plugins)
		}
		a, o, b := u.Plugins[0], u.Plugins[1], u.Plugins[2]
		if a.ID != one.ID || o.ID != other.ID || b.ID != two.ID {
			t.Fatalf("order: %+v", u.Plugins)
		}
		if a.Shared == 0 || a.Unique != 0 || a.Shared != b.Shared || o.Shared != 0 || o.Unique == 0 || o.Written < 1<<20 || a.Written >= 1<<20 {
			t.Errorf("%+v", u.Plugins)
		}
		if sum := a.Shared + o.Unique; sum != u.Blobs.Bytes+u.Layers.Bytes {
			t.Errorf("the plugins have %d bytes, %d + %d are there", sum, u.Blobs.Bytes, u.Layers.Bytes)
		}
		if u.Blobs.Reclaimable+u.Layers.Reclaimable+u.Downloads.Bytes != 0 {
			t.Errorf("something is too much: %+v", u)
		}
		for _, r := range []Record{other, one} {
			if err := s.Delete(t.Context(), r.ID); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.RemovePluginDir(t.Context(), other.ID); err != nil {
			t.Fatal(err)
		}
		if u, err = s.Usage(t.Context()); err != nil {
			t.Fatal(err)
		}
		if u.Plugins[0].Unique != a.Shared || u.Blobs.Reclaimable == 0 || u.Layers.Reclaimable == 0 {
			t.Errorf("after two are gone: %+v", u)
		}
		want := u.Blobs.Reclaimable + u.Layers.Reclaimable
		p, err := s.Prune(t.Context())
		if err != nil || p.Blobs != 2 || p.Layers < 1 || p.Bytes != want {
			t.Errorf("pruned %+v, want %d bytes: %v", p, want, err)
		}
		wantClean(t, s)
	})
}

// broken is a download that breaks off.
type broken struct{ io.Reader }

func (broken) Close() error   { return nil }
func (broken) Distrust() bool { return false }
func (broken) Host() string   { return "test" }

func TestPruneRemovesDownloadsThatBrokeOffAndNoOthers(t *testing.T) {
	s := openStore(t, t.TempDir(), Native)
	remote := func(body []byte) Remote {
		config := []byte("{}")
		layer := ocispec.Descriptor{MediaType: rootfs.MediaTypeLayer, Digest: digest.FromBytes(body), Size: int64(len(body))}
		return Remote{
			Manifest: ocispec.Descriptor{Digest: digest.FromString("m"), Size: 1}, RawManifest: []byte("m"),
			Config: ocispec.Descriptor{Digest: digest.FromBytes(config), Size: 2}, RawConfig: config,
			Layers: []ocispec.Descriptor{layer},
		}
	}
	cut := errors.New("cut")
	body := bytes.Repeat([]byte("x"), 1<<20)
	_, err := s.Pull(t.Context(), remote(body), func(context.Context, ocispec.Descriptor, int64) Download {
		return broken{io.MultiReader(bytes.NewReader(body[:600_000]), failing{cut})}
	}, PullOptions{})
	if !errors.Is(err, cut) {
		t.Fatal(err)
	}
	// Another one is under way.
	reached, release := make(chan struct{}), make(chan struct{})
	running := make(chan error, 1)
	other := bytes.Repeat([]byte("y"), 1<<20)
	go func() {
		_, err := s.Pull(t.Context(), remote(other), func(context.Context, ocispec.Descriptor, int64) Download {
			return broken{io.MultiReader(bytes.NewReader(other[:600_000]), readerFunc(func([]byte) (int, error) {
				close(reached)
				<-release
				return 0, cut
			}))}
		}, PullOptions{})
		running <- err
	}()
	<-reached
	if _, err := s.GC(t.Context()); err != nil {
		t.Fatal(err)
	}
	u, err := s.Usage(t.Context())
	if err != nil || u.Downloads.Count != 1 || u.Downloads.Bytes == 0 || u.Downloads.Bytes > 600_000 {
		t.Errorf("downloads: %+v, %v", u.Downloads, err)
	}
	p, err := s.Prune(t.Context())
	if err != nil || p.Downloads != 1 || p.Bytes != u.Downloads.Bytes {
		t.Errorf("pruned %+v, %v", p, err)
	}
	close(release)
	if err := <-running; !errors.Is(err, cut) {
		t.Errorf("the download that ran was disturbed: %v", err)
	}
	if p, err = s.Prune(t.Context()); err != nil || p.Downloads != 1 {
		t.Errorf("pruned %+v, %v", p, err)
	}
	wantClean(t, s)
	wantEmpty(t, s)
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
