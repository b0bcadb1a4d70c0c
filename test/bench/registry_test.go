package bench

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/testutil"
	"github.com/outletd/outlet/internal/testutil/daemontest"
	rt "github.com/outletd/outlet/internal/testutil/registrytest"
)

// BenchmarkRegistryDockerd measures installing a large tree, with layers of gzip
// and zstd, and pushing it, in turns with dockerd, which reads gzip only. The
// ratio says how often ours goes into dockerd's, and must not be below the aim.
func BenchmarkRegistryDockerd(b *testing.B) {
	archive := filepath.Join(testutil.TempDir(b), "big.tar")
	writeTree(b, archive)
	raw := layerOf(b, archive)
	reg, target := rt.Start(b, rt.Options{}), rt.Start(b, rt.Options{})
	put := func(repo, mediaType string, blob []byte) string {
		b.Helper()
		reg.Put(b, repo, "1", rt.Plugin{Config: rt.Config(nil), Layers: []rt.Layer{{Blob: blob, MediaType: mediaType, DiffID: rt.Digest(raw)}}})
		return reg.Host + "/" + repo + ":1"
	}
	gz, zst := put("big", rt.TypeGzip, rt.Gzip(b, raw)), put("zst", rt.TypeOCIZstd, rt.Zstd(b, raw))
	engine, d := startDockerd(b), daemontest.Start(b)
	c := connect(b, d)
	ctx := b.Context()
	install := func(ref string, pushes string) (pull, push time.Duration) {
		unix.Sync()
		name := ref
		if pushes != "" {
			name = pushes
		}
		pull = timed(func() {
			if _, err := c.Pull(ctx, ref, outlet.PullOptions{CreateOptions: outlet.CreateOptions{}, Name: name}, nil); err != nil {
				b.Fatal(err)
			}
		})
		if pushes != "" {
			unix.Sync()
			push = timed(func() {
				if _, err := c.Push(ctx, name, outlet.RemoteOptions{}, nil); err != nil {
					b.Fatal(err)
				}
			})
		}
		if err := c.Remove(ctx, name, false); err != nil {
			b.Fatal(err)
		}
		waitCollected(b, d)
		return pull, push
	}
	var ours, oursZstd, theirs, ourPush, theirPush []time.Duration
	for i := range leastPairs {
		pull, push := engine.install(b, gz, fmt.Sprintf("%s/theirs%d:1", target.Host, i))
		theirs, theirPush = append(theirs, pull), append(theirPush, push)
		pull, push = install(gz, fmt.Sprintf("%s/ours%d:1", target.Host, i))
		ours, ourPush = append(ours, pull), append(ourPush, push)
		pull, _ = install(zst, "")
		oursZstd = append(oursZstd, pull)
	}
	for _, r := range []struct {
		name         string
		ours, theirs []time.Duration
		aim          float64
	}{{"gzip", ours, theirs, 1.2}, {"zstd", oursZstd, theirs, 1.4}, {"push", ourPush, theirPush, 1}} {
		b.Run(r.name, func(b *testing.B) {
			for b.Loop() {
				continue // measured above, in turns
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(ms(median(r.ours)), "outlet-ms")
			b.ReportMetric(ms(median(r.theirs)), "dockerd-ms")
			b.ReportMetric(float64(median(r.theirs))/float64(median(r.ours)), "times-faster")
			b.ReportMetric(r.aim, "times-aim")
		})
	}
}

// install pulls a plugin under another name, pushes it, and removes it.
func (d dockerd) install(b *testing.B, ref, name string) (pull, push time.Duration) {
	b.Helper()
	stream := func(path, body string) {
		b.Helper()
		res, err := d.client.Post("http://x"+path, "application/json", strings.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil || res.StatusCode >= 300 || bytes.Contains(text, []byte(`"error"`)) || bytes.Contains(text, []byte("Already exists")) {
			b.Fatalf("%s: %s, %v: %s", path, res.Status, err, text)
		}
	}
	unix.Sync()
	q := url.Values{"remote": {ref}, "name": {name}}
	pull = timed(func() { stream("/plugins/pull?"+q.Encode(), "[]") })
	unix.Sync()
	push = timed(func() { stream("/plugins/"+name+"/push", "") })
	req, err := http.NewRequestWithContext(b.Context(), http.MethodDelete, "http://x/plugins/"+name, nil)
	if err != nil {
		b.Fatal(err)
	}
	res, err := d.client.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode >= 300 {
		b.Fatal(res.Status)
	}
	blobs := filepath.Join(filepath.Dir(d.socket), "lib", "plugins", "storage", "blobs", "sha256")
	testutil.Eventually(b, 20*time.Second, func() error {
		if left, err := os.ReadDir(blobs); err == nil && len(left) > 0 {
			return fmt.Errorf("dockerd keeps %d blobs", len(left))
		}
		return nil
	})
	return pull, push
}

// BenchmarkSharedBase measures ten plugins on one base of 100 MB: their room on
// disk beside that of one, and an upgrade of the layer on top beside the first
// install.
func BenchmarkSharedBase(b *testing.B) {
	reg := rt.Start(b, rt.Options{})
	base := noiseLayer(b, 100)
	for i := range 20 {
		top := rt.GzipLayer(b, rt.File{Name: "top", Content: strings.Repeat(strconv.Itoa(i), 1000)})
		reg.Put(b, "p"+strconv.Itoa(i), "1", rt.Plugin{Config: rt.Config(nil), Layers: []rt.Layer{base, top}})
	}
	d := daemontest.Start(b)
	c := connect(b, d)
	ctx := b.Context()
	lib := filepath.Join(d.Dir(), "lib")
	ref := func(i int) string { return fmt.Sprintf("%s/p%d:1", reg.Host, i) }
	pull := func(i int) {
		b.Helper()
		if _, err := c.Pull(ctx, ref(i), outlet.PullOptions{}, nil); err != nil {
			b.Fatal(err)
		}
	}
	var first, upgrade []time.Duration
	for range leastPairs {
		unix.Sync()
		first = append(first, timed(func() { pull(0) }))
		unix.Sync()
		upgrade = append(upgrade, timed(func() {
			if err := c.Upgrade(ctx, ref(0), ref(1), outlet.UpgradeOptions{}, nil); err != nil {
				b.Fatal(err)
			}
		}))
		if err := c.Remove(ctx, ref(0), false); err != nil {
			b.Fatal(err)
		}
		waitCollected(b, d)
	}
	pull(0)
	one := used(b, lib)
	for i := range 9 {
		pull(i + 1)
	}
	ten := used(b, lib)
	for b.Loop() {
		continue // measured above
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ms(median(first)), "install-ms")
	b.ReportMetric(ms(median(upgrade)), "upgrade-ms")
	b.ReportMetric(float64(median(upgrade))/float64(median(first)), "upgrade-ratio")
	b.ReportMetric(0.15, "upgrade-aim")
	b.ReportMetric(float64(ten)/float64(one), "disk-ratio")
	b.ReportMetric(1.2, "disk-aim")
}

// BenchmarkInstallMemory measures the most memory that the daemon has resident
// while it installs a plugin of 1 GB.
func BenchmarkInstallMemory(b *testing.B) {
	reg := rt.Start(b, rt.Options{})
	reg.Put(b, "huge", "1", rt.Plugin{Config: rt.Config(nil), Layers: []rt.Layer{noiseLayer(b, 1024)}})
	d := daemontest.Start(b)
	c := connect(b, d)
	for b.Loop() {
		if _, err := c.Pull(b.Context(), reg.Host+"/huge:1", outlet.PullOptions{}, nil); err != nil {
			b.Fatal(err)
		}
		if err := c.Remove(b.Context(), reg.Host+"/huge:1", false); err != nil {
			b.Fatal(err)
		}
		waitCollected(b, d)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.PID()))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(kib)/1024, "outlet-MB")
	b.ReportMetric(100, "aim-MB")
}

// noiseLayer is a layer of files of 1 MB each that gzip makes somewhat smaller.
func noiseLayer(b *testing.B, files int) rt.Layer {
	b.Helper()
	content := make([]byte, 1<<20)
	x := uint64(1)
	var list []rt.File
	for i := range files {
		for j := range content {
			x ^= x << 13
			x ^= x >> 7
			x ^= x << 17
			content[j] = byte(x) & 63
		}
		list = append(list, rt.File{Name: "f" + strconv.Itoa(i), Content: string(content)})
	}
	return rt.GzipLayer(b, list...)
}

// used is the room that the files below dir take, in bytes.
func used(b *testing.B, dir string) (n int64) {
	b.Helper()
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		n += st.Blocks * 512
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return n
}
