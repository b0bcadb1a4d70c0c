package rootfs

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/outletd/outlet/internal/testutil"
)

func TestMain(m *testing.M) { os.Exit(testutil.Main(m)) }

type entry struct {
	name string
	typ  byte // 0 is a file, or a directory if name ends in "/"
	to   string
	body string
	hdr  tar.Header
}

func makeTar(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		h := e.hdr
		h.Name, h.Typeflag, h.Linkname, h.Size = e.name, e.typ, e.to, int64(len(e.body))
		h.Uid, h.Gid = os.Geteuid(), os.Getegid()
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
			if strings.HasSuffix(e.name, "/") {
				h.Typeflag = tar.TypeDir
			}
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// applyWith applies a tar with one of the two ways to resolve names.
func applyWith(t testing.TB, dir string, body []byte, walk, upper bool) error {
	t.Helper()
	a, err := newApplier(dir, upper)
	if err != nil {
		t.Fatal(err)
	}
	a.tree.walk = walk
	tr := tar.NewReader(bytes.NewReader(body))
	for {
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			normalize(hdr)
			err = a.entry(hdr, tr, nil)
		}
		if err != nil {
			return errors.Join(err, a.close())
		}
	}
	return a.close()
}

// resolvers runs a test with openat2 and without.
func resolvers(t *testing.T, test func(t *testing.T, walk bool)) {
	t.Run("openat2", func(t *testing.T) { test(t, false) })
	t.Run("walk", func(t *testing.T) { test(t, true) })
}

// listTree describes what is below dir.
func listTree(t testing.TB, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			list = append(list, rel+"/")
		case d.Type()&fs.ModeSymlink != 0:
			to, err := os.Readlink(name)
			if err != nil {
				return err
			}
			list = append(list, rel+" -> "+to)
		case d.Type().IsRegular():
			b, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			list = append(list, rel+"="+string(b))
		default:
			list = append(list, rel+" "+d.Type().String())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestNothingGetsOut unpacks attacks into a directory beside others and looks at
// those afterwards: whatever the archive says, and whether it succeeds or not,
// they must be as they were.
func TestNothingGetsOut(t *testing.T) {
	deep := strings.Repeat("../", 40)
	for name, entries := range map[string][]entry{
		"dot dot":                         {{name: "../outside/x", body: "evil"}, {name: deep + "outside/x", body: "evil"}, {name: "a/../../outside/x", body: "evil"}},
		"absolute":                        {{name: "/OUT/x", body: "evil"}},
		"a link, then through it":         {{name: "l", typ: tar.TypeSymlink, to: "../outside"}, {name: "l/x", body: "evil"}},
		"an absolute link":                {{name: "l", typ: tar.TypeSymlink, to: "/OUT"}, {name: "l/x", body: "evil"}},
		"a chain of links":                {{name: "a", typ: tar.TypeSymlink, to: "."}, {name: "a/b", typ: tar.TypeSymlink, to: ".."}, {name: "c", typ: tar.TypeSymlink, to: "a/b/../../outside"}, {name: "c/x", body: "evil"}},
		"a file onto a link":              {{name: "l", typ: tar.TypeSymlink, to: "../outside/kept"}, {name: "l", body: "evil"}},
		"a directory onto a link":         {{name: "l", typ: tar.TypeSymlink, to: "../outside"}, {name: "l/", hdr: tar.Header{Mode: 0o777}}, {name: "l/x", body: "evil"}},
		"a directory becomes a link":      {{name: "d/"}, {name: "d/a", body: "1"}, {name: "d", typ: tar.TypeSymlink, to: "../outside"}, {name: "d/x", body: "evil"}},
		"a directory becomes a link deep": {{name: "d/e/f/a", body: "1"}, {name: "d/e", typ: tar.TypeSymlink, to: deep + "OUT"}, {name: "d/e/x", body: "evil"}, {name: "d/e/f/a", body: "evil"}},
		"a hard link out":                 {{name: "h", typ: tar.TypeLink, to: "../outside/kept"}, {name: "h", body: "evil"}},
		"a hard link out, written to":     {{name: "h", typ: tar.TypeLink, to: "/OUT/kept"}},
		"a hard link through a link":      {{name: "l", typ: tar.TypeSymlink, to: "../outside"}, {name: "h", typ: tar.TypeLink, to: "l/kept"}, {name: "h", body: "evil"}},
		"a hard link to a link":           {{name: "l", typ: tar.TypeSymlink, to: "../outside/kept"}, {name: "h", typ: tar.TypeLink, to: "l"}, {name: "h", body: "evil", hdr: tar.Header{Mode: 0o777}}},
		"the mode of a hard linked link":  {{name: "l", typ: tar.TypeSymlink, to: "../outside/kept"}, {name: "h", typ: tar.TypeLink, to: "l", hdr: tar.Header{Mode: 0o777}}},
		"a whiteout of what is outside":   {{name: ".wh...", body: ""}, {name: "l", typ: tar.TypeSymlink, to: "../outside"}, {name: "l/.wh.kept"}, {name: "../outside/.wh.kept"}, {name: ".wh./../outside"}},
		"an opaque mark outside":          {{name: "l", typ: tar.TypeSymlink, to: "../outside"}, {name: "l/.wh..wh..opq"}, {name: "../outside/.wh..wh..opq"}},
		"a fifo through a link":           {{name: "l", typ: tar.TypeSymlink, to: "../outside"}, {name: "l/f", typ: tar.TypeFifo}},
		"a device through a link":         {{name: "l", typ: tar.TypeSymlink, to: "/OUT"}, {name: "l/null", typ: tar.TypeChar, hdr: tar.Header{Devmajor: 1, Devminor: 3}}},
		"a link through a link":           {{name: "l", typ: tar.TypeSymlink, to: "../outside"}, {name: "l/evil", typ: tar.TypeSymlink, to: "/"}},
		"magic links of proc":             {{name: "l", typ: tar.TypeSymlink, to: "/proc/self/root/OUT"}, {name: "l/x", body: "evil"}, {name: "m", typ: tar.TypeSymlink, to: "/proc/self/cwd"}, {name: "m/x", body: "evil"}},
		"the root itself":                 {{name: "/", typ: tar.TypeSymlink, to: "../outside"}, {name: "x", body: "1"}, {name: ".", body: "evil"}, {name: "..", body: "evil"}},
	} {
		t.Run(name, func(t *testing.T) {
			resolvers(t, func(t *testing.T, walk bool) {
				for _, upper := range []bool{false, true} {
					base := t.TempDir()
					root, out := filepath.Join(base, "root"), filepath.Join(base, "outside")
					for _, dir := range []string{root, out} {
						if err := os.Mkdir(dir, 0o755); err != nil {
							t.Fatal(err)
						}
					}
					if err := os.WriteFile(filepath.Join(out, "kept"), []byte("kept"), 0o600); err != nil {
						t.Fatal(err)
					}
					var es []entry
					for _, e := range entries {
						e.name, e.to = strings.ReplaceAll(e.name, "/OUT", out), strings.ReplaceAll(e.to, "/OUT", out)
						es = append(es, e)
					}
					// One entry at a time, so that what follows an error is tried too.
					for i := range es {
						_ = applyWith(t, root, makeTar(t, es[i]), walk, upper)
					}
					err := applyWith(t, root, makeTar(t, es...), walk, upper)
					if diff := cmp.Diff([]string{"kept=kept"}, listTree(t, out)); diff != "" {
						t.Errorf("outside changed (upper %v, err %v): %s", upper, err, diff)
					}
					if info, err := os.Stat(filepath.Join(out, "kept")); err != nil || info.Mode() != 0o600 {
						t.Errorf("outside changed: %v %v", info.Mode(), err)
					}
					if err := os.RemoveAll(root); err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

func TestApplyKeepsWhatTarSays(t *testing.T) {
	resolvers(t, func(t *testing.T, walk bool) {
		dir := t.TempDir()
		when := time.Date(2001, 2, 3, 4, 5, 6, 789, time.UTC)
		pax := func(mode int64) tar.Header { return tar.Header{Mode: mode, ModTime: when, Format: tar.FormatPAX} }
		err := applyWith(t, dir, makeTar(t,
			entry{name: "usr/", hdr: pax(0o750)},
			entry{name: "usr/lib/", hdr: pax(0o1777)},
			entry{name: "lib", typ: tar.TypeSymlink, to: "/usr/lib", hdr: pax(0o777)},
			entry{name: "lib/a", body: "a", hdr: pax(0o4751)},
			entry{name: "implied/b", body: "b"},
			entry{name: "implied/h", typ: tar.TypeLink, to: "lib/a"},
			entry{name: "fifo", typ: tar.TypeFifo, hdr: pax(0o600)},
			entry{name: "twice", body: "1"},
			entry{name: "twice", body: "two"},
			entry{name: "self", typ: tar.TypeLink, to: "self"},
			entry{name: "was-dir/x", body: "x"},
			entry{name: "was-dir", body: "file"},
			entry{name: "global", typ: tar.TypeReg, hdr: tar.Header{PAXRecords: map[string]string{"SCHILY.xattr.user.ok": "1"}}},
		), walk, false)
		if err != nil {
			t.Fatal(err)
		}
		want := []string{
			"fifo p---------", "global=", "implied/", "implied/b=b", "implied/h=a", "lib -> /usr/lib", "twice=two",
			"usr/", "usr/lib/", "usr/lib/a=a", "was-dir=file",
		}
		if diff := cmp.Diff(want, listTree(t, dir)); diff != "" {
			t.Error(diff)
		}
		for name, mode := range map[string]fs.FileMode{
			"usr":       fs.ModeDir | 0o750,
			"usr/lib":   fs.ModeDir | fs.ModeSticky | 0o777,
			"usr/lib/a": fs.ModeSetuid | 0o751,
			"fifo":      fs.ModeNamedPipe | 0o600,
		} {
			info, err := os.Lstat(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode() != mode || !info.ModTime().Equal(when) {
				t.Errorf("%s is %v of %v, want %v of %v", name, info.Mode(), info.ModTime(), mode, when)
			}
		}
	})
}

func TestWhiteoutsHideLowerLayersOnly(t *testing.T) {
	resolvers(t, func(t *testing.T, walk bool) {
		dir := t.TempDir()
		lower := makeTar(t, entry{name: "a/1", body: "l"}, entry{name: "a/2", body: "l"}, entry{name: "b/c/d", body: "l"}, entry{name: "b/e", body: "l"}, entry{name: "f", body: "l"}, entry{name: "g", body: "l"})
		upper := makeTar(t,
			entry{name: "a/new", body: "u"}, entry{name: "a/.wh..wh..opq"}, // after what it must spare
			entry{name: "b/c/new", body: "u"}, entry{name: "b/.wh.c"},
			entry{name: ".wh.f"}, entry{name: "g", body: "u"}, entry{name: ".wh.g"},
			entry{name: ".wh.absent"}, entry{name: ".wh..wh.plnk"},
		)
		for i, layer := range [][]byte{lower, upper} {
			if err := applyWith(t, dir, layer, walk, i > 0); err != nil {
				t.Fatal(err)
			}
		}
		want := []string{"a/", "a/new=u", "b/", "b/c/", "b/c/new=u", "b/e=l", "g=u"}
		if diff := cmp.Diff(want, listTree(t, dir)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestForeignAttributesAndOwnersAreKeptOut(t *testing.T) {
	testutil.Need(t, testutil.Root)
	dir := testutil.TempDir(t)
	a, err := newApplier(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	h := &tar.Header{Name: "x", Typeflag: tar.TypeReg, Mode: 0o755, PAXRecords: map[string]string{
		"SCHILY.xattr.user.ok": "1", "SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.user.overlay.opaque": "y", "SCHILY.xattr.security.selinux": "x",
	}}
	if err := a.entry(h, strings.NewReader(""), nil); err != nil {
		t.Fatal(err)
	}
	if a.skippedXattrs != 3 || len(a.warnings()) != 1 {
		t.Errorf("%d skipped, warnings %q", a.skippedXattrs, a.warnings())
	}
	buf := make([]byte, 1024)
	n, err := unix.Listxattr(filepath.Join(dir, "x"), buf)
	if err != nil || string(buf[:n]) != "user.ok\x00" {
		t.Errorf("attributes: %q %v", buf[:n], err)
	}
	if err := a.entry(&tar.Header{Name: "wh", Typeflag: tar.TypeChar}, nil, nil); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a whiteout device: %v", err)
	}
	if err := a.entry(&tar.Header{Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}, nil, nil); err != nil {
		t.Error(err)
	}
	if err := a.close(); err != nil {
		t.Error(err)
	}
}

func TestLimitsAreNamed(t *testing.T) {
	many := make([]entry, 20)
	for i := range many {
		many[i] = entry{name: fmt.Sprintf("rootfs/f%d", i)}
	}
	body := func(e ...entry) []byte { return makeTar(t, append(e, entry{name: "config.json", body: "{}"})...) }
	for name, tc := range map[string]struct {
		body   []byte
		limits Limits
		want   string
	}{
		"compressed bytes":   {body(entry{name: "rootfs/a", body: strings.Repeat("x", 1<<20)}), Limits{CompressedBytes: 1 << 19}, "limit of 524288 compressed bytes"},
		"uncompressed bytes": {gz(t, body(entry{name: "rootfs/a", body: strings.Repeat("x", 1<<20)})), Limits{UncompressedBytes: 1 << 19}, "limit of 524288 uncompressed bytes"},
		"a bomb of zeros":    {gz(t, make([]byte, 64<<20)), Limits{UncompressedBytes: 1 << 20}, "limit of 1048576 uncompressed bytes"},
		"entries":            {body(many...), Limits{Entries: 10}, "limit of 10 entries"},
		"long names":         {body(entry{name: "rootfs/" + strings.Repeat("a/", 200)}), Limits{PathBytes: 100}, "limit of 100 bytes in a name"},
		"long links":         {body(entry{name: "rootfs/l", typ: tar.TypeSymlink, to: strings.Repeat("a/", 200)}), Limits{PathBytes: 100}, "limit of 100 bytes in a name"},
		"extended headers":   {body(entry{name: "rootfs/a", hdr: tar.Header{PAXRecords: map[string]string{"SCHILY.xattr.user.x": strings.Repeat("x", 2000)}}}), Limits{HeaderBytes: 1000}, "limit of 1000 bytes in the extended header of an entry"},
		"config.json":        {makeTar(t, entry{name: "rootfs/"}, entry{name: "config.json", body: strings.Repeat(" ", 200)}), Limits{ConfigBytes: 100}, "limit of 100 bytes in config.json"},
		"an element of 256":  {body(entry{name: "rootfs/" + strings.Repeat("a", 256)}), Limits{}, "file name too long"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := SplitContext(t.Context(), bytes.NewReader(tc.body), t.TempDir(), io.Discard, tc.limits)
			if !errdefs.IsInvalidArgument(err) || !strings.HasPrefix(err.Error(), "failed to read from tar: ") || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestHolesOfSparseFilesCount(t *testing.T) {
	// GNU's old sparse format: a file of 1 TiB that is all hole.
	block := make([]byte, 512)
	copy(block, "rootfs/sparse")
	copy(block[100:], "0000644\x000000000\x000000000\x0000000000000\x0000000000000\x00")
	block[156] = tar.TypeGNUSparse
	copy(block[257:], "ustar  \x00")
	copy(block[386:], "00000000000\x0000000000000\x00")
	block[483], block[484+6] = 0x80, 1 // real size 2^40 in base 256
	block[484], block[485], block[486], block[487], block[488], block[489] = 0, 0, 0, 0, 0, 1
	for i := 490; i < 495; i++ {
		block[i] = 0
	}
	copy(block[148:], "        ")
	sum := 0
	for _, c := range block {
		sum += int(c)
	}
	copy(block[148:], fmt.Sprintf("%06o\x00 ", sum))
	body := append(block, make([]byte, 1024)...)
	hdr, err := tar.NewReader(bytes.NewReader(body)).Next()
	if err != nil || hdr.Size < 1<<30 {
		t.Fatalf("the test's archive is not what it should be: %+v %v", hdr, err)
	}
	_, err = SplitContext(t.Context(), bytes.NewReader(body), t.TempDir(), io.Discard, Limits{UncompressedBytes: 1 << 30})
	if err == nil || !strings.Contains(err.Error(), "limit of 1073741824 uncompressed bytes") {
		t.Errorf("got %v", err)
	}
}

func TestSplitTakesWhatIsSpecified(t *testing.T) {
	var layer bytes.Buffer
	dir := t.TempDir()
	body := makeTar(t,
		entry{name: "config.json", body: "first"},
		entry{name: "./rootfs/"},
		entry{name: "/rootfs/a", body: "a"},
		entry{name: "x/../rootfs/b", body: "b"},
		entry{name: "../rootfs/no", body: "no"},
		entry{name: "rootfsx/no", body: "no"},
		entry{name: "other", body: "no"},
		entry{name: "rootfs/h1", typ: tar.TypeLink, to: "rootfs/a"},
		entry{name: "rootfs/h2", typ: tar.TypeLink, to: "./rootfs/a"},
		entry{name: "rootfs/h3", typ: tar.TypeLink, to: "/ROOTFS/a"},
		entry{name: "./config.json", body: "last"},
	)
	got, err := SplitContext(t.Context(), bytes.NewReader(body), dir, &layer, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if string(got.Config) != "last" || got.Entries != 5 || got.Bytes != 2 {
		t.Errorf("got %+v", got)
	}
	want := []string{"a=a", "b=b", "h1=a", "h2=a", "h3=a"}
	if diff := cmp.Diff(want, listTree(t, dir)); diff != "" {
		t.Error(diff)
	}
	again := t.TempDir()
	if _, err := applyLayer(t.Context(), again, &layer, false, &budget{limits: DefaultLimits()}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, listTree(t, again)); diff != "" {
		t.Errorf("the layer unpacks to something else: %s", diff)
	}
}

func TestSplitEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := SplitContext(ctx, bytes.NewReader(makeTar(t)), t.TempDir(), io.Discard, Limits{}); !errors.Is(err, context.Canceled) || errdefs.IsInvalidArgument(err) {
		t.Errorf("got %v", err)
	}
}

func FuzzSplitContext(f *testing.F) {
	f.Add(makeTar(f, entry{name: "config.json", body: "{}"}, entry{name: "rootfs/a", body: "a"}))
	f.Add(makeTar(f, entry{name: "config.json", body: "{}"}, entry{name: "rootfs/l", typ: tar.TypeSymlink, to: "../.."}, entry{name: "rootfs/l/x", body: "a"}))
	f.Add(makeTar(f, entry{name: "rootfs/h", typ: tar.TypeLink, to: "rootfs/../x"}))
	f.Add(gz(f, makeTar(f, entry{name: "rootfs/.wh.x"})))
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd, 0})
	limits := Limits{CompressedBytes: 1 << 20, UncompressedBytes: 1 << 20, Entries: 100}
	f.Fuzz(func(t *testing.T, body []byte) {
		base := t.TempDir()
		dir := filepath.Join(base, "root")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		var layer bytes.Buffer
		_, err := SplitContext(t.Context(), bytes.NewReader(body), dir, &layer, limits)
		entries, rerr := os.ReadDir(base)
		if rerr != nil || len(entries) != 1 {
			t.Fatalf("something got out: %v %v", entries, rerr)
		}
		if err != nil {
			if !errdefs.IsInvalidArgument(err) {
				t.Fatalf("not the archive's fault? %v", err)
			}
			return
		}
		// The layer is as good as the context it came from.
		again := filepath.Join(base, "again")
		if err := os.Mkdir(again, 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := applyLayer(t.Context(), again, &layer, false, &budget{limits: DefaultLimits()}); err != nil {
			t.Fatalf("the layer cannot be applied: %v", err)
		}
		if a, b := names(t, dir), names(t, again); !slices.Equal(a, b) {
			t.Fatalf("the layer unpacks to %q, the context to %q", b, a)
		}
	})
}

func names(t testing.TB, dir string) []string {
	var list []string
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		list = append(list, strings.TrimPrefix(name, dir)+" "+d.Type().String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}
