package hostile

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/testutil"
	"github.com/outletd/outlet/internal/testutil/daemontest"
)

// config is a config.json that is accepted.
func config(t *testing.T) string {
	t.Helper()
	b, err := json.Marshal(daemontest.PluginConfig())
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// packer writes an archive while it is sent: what is tried here is larger than
// memory.
type packer struct {
	*tar.Writer
	t   *testing.T
	raw io.Writer
}

// file adds a regular file. A daemon that has refused the archive reads no more,
// which ends the writing.
func (p packer) file(name, body string) error {
	return p.entry(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(body))}, body)
}

func (p packer) entry(h *tar.Header, body string) error {
	if h.Mode == 0 {
		h.Mode = 0o755
	}
	if err := p.WriteHeader(h); err != nil {
		return err
	}
	_, err := io.WriteString(p.Writer, body)
	return err
}

// entries adds the config, the root filesystem, and then entries.
func (p packer) entries(entries ...*tar.Header) error {
	err := p.file("config.json", config(p.t))
	if err == nil {
		err = p.entry(&tar.Header{Name: "rootfs/", Typeflag: tar.TypeDir}, "")
	}
	for _, h := range entries {
		if err != nil {
			return err
		}
		body := ""
		if h.Typeflag == 0 {
			h.Typeflag, body = tar.TypeReg, "evil"
			h.Size = int64(len(body))
		}
		err = p.entry(h, body)
	}
	return err
}

// stream runs write beside the reader that it returns.
func stream(t *testing.T, write func(p packer) error) io.ReadCloser {
	t.Helper()
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		p := packer{tar.NewWriter(w), t, w}
		err := write(p)
		if err == nil {
			err = p.Close()
		}
		if err != nil && !errors.Is(err, io.EOF) {
			err = fmt.Errorf("write the archive: %w", err)
		}
		w.CloseWithError(err)
	}()
	t.Cleanup(func() { r.Close(); <-done })
	return r
}

var zeros = string(make([]byte, 1<<20))

// flood adds the same again and again, until the daemon has had enough.
func flood(limit int, add func(i int) error) error {
	for i := range limit {
		if err := add(i); err != nil {
			return err
		}
	}
	return nil
}

// gzipped compresses what write makes.
func gzipped(write func(p packer) error) func(p packer) error {
	return func(p packer) error {
		z := gzip.NewWriter(p.raw)
		inner := packer{tar.NewWriter(z), p.t, z}
		err := write(inner)
		if err == nil {
			err = inner.Close()
		}
		if err == nil {
			err = z.Close()
		}
		if err == nil {
			err = io.EOF // nothing may follow
		}
		return err
	}
}

func TestArchives(t *testing.T) {
	outside := testutil.TempDir(t)
	kept := filepath.Join(outside, "kept")
	if err := os.WriteFile(kept, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	deep := strings.Repeat("../", 40)
	limits := filepath.Join(t.TempDir(), "daemon.json")
	if err := os.WriteFile(limits, []byte(`{"plugins": {"max-archive": "64m", "max-rootfs": "128m", "max-entries": 20000}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	d, c := start(t, "--config-file", limits)
	for name, tc := range map[string]struct {
		write func(p packer) error
		want  string // "": it is contained
	}{
		"nothing":          {func(packer) error { return io.EOF }, `no rootfs found`},
		"no tar":           {func(p packer) error { _, err := p.raw.Write(bytes.Repeat([]byte("no"), 4096)); return cut(err) }, `tar`},
		"ends in a header": {func(p packer) error { _, err := p.raw.Write(make([]byte, 100)); return cut(err) }, `tar`},
		"ends in a file": {func(p packer) error {
			return cut(p.entry(&tar.Header{Name: "config.json", Typeflag: tar.TypeReg, Size: 100}, "{}"))
		}, `unexpected EOF|config\.json`},
		"no config": {func(p packer) error { return p.entry(&tar.Header{Name: "rootfs/", Typeflag: tar.TypeDir}, "") }, `config not found`},
		"no rootfs": {func(p packer) error { return p.file("config.json", config(p.t)) }, `rootfs`},
		"the config is a link": {func(p packer) error {
			return p.entry(&tar.Header{Name: "config.json", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}, "")
		}, `config\.json`},
		"larger than allowed": {func(p packer) error {
			return flood(80, func(i int) error { return p.file(fmt.Sprintf("rootfs/f%d", i), zeros) })
		}, `limit of 67108864 compressed bytes`},
		"claims a terabyte": {func(p packer) error {
			return cut(p.entry(&tar.Header{Name: "rootfs/f", Typeflag: tar.TypeReg, Size: 1 << 40}, zeros))
		}, `limit of 134217728 uncompressed bytes`},
		"a bomb of gzip": {gzipped(func(p packer) error {
			return flood(200, func(i int) error { return p.file(fmt.Sprintf("rootfs/f%d", i), zeros) })
		}), `limit of 134217728 uncompressed bytes`},
		"a bomb of zstd": {func(p packer) error {
			z, err := zstd.NewWriter(p.raw, zstd.WithEncoderConcurrency(1))
			if err != nil {
				return err
			}
			inner := packer{tar.NewWriter(z), p.t, z}
			return flood(200, func(i int) error { return inner.file(fmt.Sprintf("rootfs/f%d", i), zeros) })
		}, `limit of 134217728 uncompressed bytes`},
		"more entries than allowed": {func(p packer) error {
			return flood(10_000_000, func(i int) error { return p.file(fmt.Sprintf("rootfs/d%d/f%d", i/1000, i), "") })
		}, `limit of 20000 entries`},
		"attributes without end": {func(p packer) error {
			return p.entry(&tar.Header{Name: "rootfs/f", Typeflag: tar.TypeReg, PAXRecords: map[string]string{"SCHILY.xattr.user.x": zeros[:512<<10]}}, "")
		}, `extended header|too (long|large)|header`},
		"a name without end": {func(p packer) error {
			return p.entry(&tar.Header{Name: "rootfs/" + strings.Repeat("a/", 8<<10), Typeflag: tar.TypeDir}, "")
		}, `limit of 4095 bytes in a name`},

		"dot dot":         {func(p packer) error { return p.entries(&tar.Header{Name: "rootfs/" + deep + outside + "/kept"}) }, ""},
		"absolute names":  {func(p packer) error { return p.entries(&tar.Header{Name: kept}) }, ""},
		"a symbolic link": {func(p packer) error { return p.entries(link("rootfs/l", outside), &tar.Header{Name: "rootfs/l/kept"}) }, ""},
		"a symbolic link upwards": {func(p packer) error {
			return p.entries(link("rootfs/l", deep+outside), &tar.Header{Name: "rootfs/l/kept"})
		}, ""},
		"the rootfs is a link": {func(p packer) error { return p.entries(link("rootfs", outside), &tar.Header{Name: "rootfs/kept"}) }, ""},
		"a hard link":          {func(p packer) error { return p.entries(hardLink("rootfs/h", kept), &tar.Header{Name: "rootfs/h"}) }, ""},
		"a hard link through links": {func(p packer) error {
			return p.entries(link("rootfs/l", outside), hardLink("rootfs/h", "rootfs/l/kept"), &tar.Header{Name: "rootfs/h"})
		}, ""},
		"links of proc": {func(p packer) error {
			return p.entries(link("rootfs/l", "/proc/self/root"+outside), &tar.Header{Name: "rootfs/l/kept"})
		}, ""},
		"a disk": {func(p packer) error {
			return p.entries(&tar.Header{Name: "rootfs/disk", Typeflag: tar.TypeBlock, Devmajor: 8}, &tar.Header{Name: "rootfs/mem", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 1})
		}, ""},
		"a pipe, and written to": {func(p packer) error {
			return p.entries(&tar.Header{Name: "rootfs/pipe", Typeflag: tar.TypeFifo}, &tar.Header{Name: "rootfs/pipe"})
		}, ""},
		"duplicates": {func(p packer) error {
			return p.entries(&tar.Header{Name: "rootfs/a"}, &tar.Header{Name: "rootfs/a", Typeflag: tar.TypeDir}, link("rootfs/a", outside), &tar.Header{Name: "rootfs/a/kept"}, &tar.Header{Name: "rootfs/a"})
		}, ""},
		"two configs": {func(p packer) error {
			return errorsFirst(p.entries(), p.file("config.json", `{"description":"another"}`))
		}, ""},
		"an unknown entry": {func(p packer) error { return p.entries(&tar.Header{Name: "rootfs/x", Typeflag: 'Z'}) }, ""},
		"set-uid and attributes of security": {func(p packer) error {
			return p.entries(&tar.Header{Name: "rootfs/su", Mode: 0o6777, PAXRecords: map[string]string{"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\xff\xff\xff\xff", "SCHILY.xattr.trusted.overlay.opaque": "y"}})
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := c.Create(t.Context(), "hostile", stream(t, tc.write), outlet.CreateOptions{})
			switch {
			case tc.want != "" && err == nil:
				t.Error("it is accepted")
			case tc.want != "" && !regexp.MustCompile(tc.want).MatchString(err.Error()):
				t.Errorf("the error does not say %s: %v", tc.want, err)
			case err != nil:
				t.Log(err)
			}
			if err == nil {
				d.Outlet("rm", "hostile").OK()
			}
			if b, err := os.ReadFile(kept); err != nil || string(b) != "kept" {
				t.Errorf("a file of the host holds %q, %v", b, err)
			}
			if entries, err := os.ReadDir(outside); err != nil || len(entries) != 1 {
				t.Errorf("a directory of the host holds %v, %v", entries, err)
			}
			nothingLeft(t, d)
			if peak := d.PeakRSS(); peak > maxResident {
				t.Errorf("the daemon took %d MiB", peak>>20)
				d.ResetPeak()
			}
		})
	}
}

func link(name, to string) *tar.Header {
	return &tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: to}
}

func hardLink(name, to string) *tar.Header {
	return &tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: to}
}

// cut ends an archive where it is, as a connection would that is cut.
func cut(err error) error {
	if err == nil {
		return io.EOF
	}
	return err
}

func errorsFirst(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
