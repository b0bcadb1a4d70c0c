package manager

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/rootfs"
	"github.com/outletd/outlet/internal/testutil"
	rt "github.com/outletd/outlet/internal/testutil/registrytest"
)

// quick makes retries take no time.
func quick(c *Config) {
	c.Registry.Backoff = time.Millisecond
	c.Registry.MaxWait = 2 * time.Second
}

// hasty is quick, and gives a registry up that says nothing for a second.
func hasty(c *Config) {
	quick(c)
	c.Registry.AnswerTimeout = time.Second
}

func simple(t *testing.T, content string, config map[string]any) rt.Plugin {
	return rt.Plugin{Config: rt.Config(config), Layers: []rt.Layer{rt.GzipLayer(t, rt.File{Name: "bin/"}, rt.File{Name: "bin/plugin", Content: content, Mode: 0o755})}}
}

// noise is content that does not compress.
func noise(seed uint64, n int) string {
	b := make([]byte, n)
	src := rand.New(rand.NewPCG(seed, 1))
	for i := range b {
		b[i] = byte(src.Uint32())
	}
	return string(b)
}

// read reads a file of a plugin's root filesystem.
func (f *fixture) read(name, file string) (string, error) {
	f.t.Helper()
	p, err := f.Inspect(f.t.Context(), name)
	if err != nil {
		f.t.Fatal(err)
	}
	rec, err := f.store.Get(f.t.Context(), p.ID)
	if err != nil {
		f.t.Fatal(err)
	}
	mounts, err := f.store.RootfsMounts(f.t.Context(), rec.Rootfs)
	if err != nil {
		f.t.Fatal(err)
	}
	if dir, ok := rootfs.BindSource(mounts); ok {
		b, err := os.ReadFile(filepath.Join(dir, file))
		return string(b), err
	}
	dir := testutil.TempDir(f.t)
	if err := rootfs.Mount(f.t.Context(), mounts, dir); err != nil {
		f.t.Fatal(err)
	}
	defer func() {
		if err := rootfs.Unmount(context.WithoutCancel(f.t.Context()), dir); err != nil {
			f.t.Error(err)
		}
	}()
	b, err := os.ReadFile(filepath.Join(dir, file))
	return string(b), err
}

// clean fails the test if something is left that no plugin has, and that was not
// asked to be collected.
func (f *fixture) clean() {
	f.t.Helper()
	if err := f.collected(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
	report, err := f.store.Check(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	for _, p := range report.Problems {
		f.t.Errorf("left: %v", p)
	}
}

// pull installs with the privileges the plugin asks for.
func (f *fixture) pull(ref string, progress func(outlet.Progress)) (outlet.Plugin, error) {
	r, err := f.Remote(f.t.Context(), ref, outlet.RemoteOptions{})
	if err != nil {
		return outlet.Plugin{}, err
	}
	return f.Pull(f.t.Context(), ref, outlet.PullOptions{Granted: r.Privileges, Digest: r.Digest}, progress)
}

func TestWhatIsPushedIsPulledElsewhereByteForByte(t *testing.T) {
	reg := rt.Start(t, rt.Options{})
	ref := reg.Host + "/foo/bar:1"
	a, b := newFixture(t, quick), newFixture(t, quick)
	a.create(ref)
	var lines []outlet.Progress
	first, err := a.Push(t.Context(), ref, outlet.RemoteOptions{}, func(p outlet.Progress) { lines = append(lines, p) })
	if err != nil {
		t.Fatal(err)
	}
	if lines[0].Status != "The push refers to repository ["+reg.Host+"/foo/bar]" || lines[len(lines)-1].Pushed == nil || first.Tag != "1" {
		t.Errorf("progress: %+v", lines)
	}
	a.clean() // of the layer as it was before it was compressed
	p, err := b.pull(ref, nil)
	if err != nil {
		t.Fatal(err)
	}
	if p.Enabled || p.Name != ref || p.PluginReference != ref {
		t.Errorf("pulled %+v", p)
	}
	if got, err := b.read(ref, "plugin"); err != nil || got != "#!/bin/sh\n" {
		t.Errorf("its file: %q, %v", got, err)
	}
	b.clean()
	again, err := b.Push(t.Context(), ref, outlet.RemoteOptions{}, nil)
	if err != nil || again != first {
		t.Errorf("pushed again as %+v, %v; it was %+v", again, err, first)
	}
	b.enable(ref)
}

func TestPullTellsItsProgressInDockersWords(t *testing.T) {
	reg := rt.Start(t, rt.Options{})
	m, _ := reg.Put(t, "foo/bar", "latest", simple(t, noise(1, 3<<20), nil))
	f := newFixture(t, quick)
	var lines []outlet.Progress
	if _, err := f.pull(reg.Host+"/foo/bar", func(p outlet.Progress) { lines = append(lines, p) }); err != nil {
		t.Fatal(err)
	}
	want := []outlet.Progress{
		{ID: "latest", Status: "Pulling from " + reg.Host + "/foo/bar", Message: true},
		{Status: "Digest: " + m.Digest, Message: true},
	}
	if diff := cmp.Diff(want, lines[:2]); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	var states []string
	for _, l := range lines[2:] {
		if len(l.ID) != 12 || l.Message {
			t.Errorf("line %+v", l)
		}
		if len(states) == 0 || states[len(states)-1] != l.Status {
			states = append(states, l.Status)
		}
	}
	if states[0] != "Waiting" || states[1] != "Pulling fs layer" || !slices.Contains(states, "Download complete") || states[len(states)-1] != "Complete" {
		t.Errorf("states %q", states)
	}
}

func TestPullRefusesOtherPrivilegesThanItsUserSaw(t *testing.T) {
	reg := rt.Start(t, rt.Options{})
	ref := reg.Host + "/foo/p:1"
	one := reg.Host + "/foo/one:1"
	mount := func(source string) map[string]any {
		return map[string]any{"Name": source, "Source": "/" + source, "Destination": "/" + source, "Type": "bind"}
	}
	reg.Put(t, "foo/p", "1", simple(t, "x", map[string]any{
		"IpcHost": true, "PidHost": true, "Network": map[string]any{"Type": "host"},
		"Mounts": []any{mount("a"), mount("b")}, "Linux": map[string]any{"Capabilities": []string{"CAP_SYS_ADMIN", "CAP_NET_ADMIN"}},
	}))
	reg.Put(t, "foo/one", "1", simple(t, "x", map[string]any{"PidHost": true}))
	f := newFixture(t, quick)
	want := func(ref string) outlet.Privileges {
		r, err := f.Remote(t.Context(), ref, outlet.RemoteOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return r.Privileges
	}
	all := want(ref)
	changed := func(i int) outlet.Privileges {
		p := all.Clone()
		slices.SortFunc(p, func(a, b outlet.Privilege) int { return strings.Compare(a.Name, b.Name) })
		p[i].Value = []string{"something else"}
		return p
	}
	tests := map[string]struct {
		ref     string
		granted outlet.Privileges
		ok      bool
	}{
		"none":                               {ref, nil, false},
		"one less":                           {ref, all[1:], false},
		"one more":                           {ref, append(all.Clone(), outlet.Privilege{Name: "device", Value: []string{"/dev/fuse"}}), false},
		"the alphabetically first differs":   {ref, changed(0), false},
		"the alphabetically last differs":    {ref, changed(len(all) - 1), false},
		"one twice instead of the other":     {ref, append(all[:len(all)-1:len(all)-1], all[0]), false},
		"the only one has another value":     {one, outlet.Privileges{{Name: "host pid namespace", Value: []string{"false"}}}, false},
		"the only one is another":            {one, outlet.Privileges{{Name: "network", Value: []string{"host"}}}, false},
		"the only one is not granted at all": {one, outlet.Privileges{}, false},
		"another order":                      {ref, reversed(all), true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			told := 0
			_, err := f.Pull(t.Context(), tt.ref, outlet.PullOptions{Granted: tt.granted, Name: "x"}, func(outlet.Progress) { told++ })
			if tt.ok {
				if err != nil {
					t.Fatal(err)
				}
				if err := f.Remove(t.Context(), "x", false); err != nil {
					t.Fatal(err)
				}
				return
			}
			if !errdefs.IsInvalidArgument(err) || err.Error() != "incorrect privileges" || told != 0 {
				t.Errorf("got %v after %d lines of progress", err, told)
			}
		})
	}
}

func reversed(p outlet.Privileges) outlet.Privileges {
	p = p.Clone()
	slices.Reverse(p)
	for i := range p {
		slices.Reverse(p[i].Value)
	}
	return p
}

func TestRefusedBeforeALayerIsFetched(t *testing.T) {
	reg := rt.Start(t, rt.Options{})
	layer := rt.GzipLayer(t, rt.File{Name: "f", Content: "x"})
	plain := rt.Plugin{Config: rt.Config(nil), Layers: []rt.Layer{layer}}
	foreign := plain
	foreign.Layers = []rt.Layer{layer, layer}
	foreign.Layers[0].MediaType = "application/vnd.oci.image.layer.v1.tar+bzip2"
	image := plain
	image.ConfigType, image.ManifestType = rt.TypeOCIImage, rt.TypeOCI
	badDiffs := plain
	badDiffs.NoDiffIDs = true
	badDiffs.Config = rt.Config(map[string]any{"rootfs": map[string]any{"type": "layers", "diff_ids": []string{layer.DiffID, layer.DiffID}}})
	badSocket := plain
	badSocket.Config = rt.Config(map[string]any{"Interface": map[string]any{"Socket": "../x.sock", "Types": []string{"docker.volumedriver/1.0"}}})
	entry, _ := reg.Put(t, "foo/index", "", plain)
	entry.Platform = &rt.Platform{OS: "linux", Architecture: "s390x"}
	arm := entry
	arm.Platform = &rt.Platform{OS: "linux", Architecture: "mips"}
	attestation := entry
	attestation.Platform, attestation.Annotations = &rt.Platform{OS: "linux", Architecture: "amd64"}, map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	reg.PutManifest(t, "foo/index", "1", rt.TypeList, rt.JSON(t, map[string]any{
		"schemaVersion": 2, "mediaType": rt.TypeList, "manifests": []any{entry, arm, attestation},
	}))
	reg.Put(t, "foo/foreign", "1", foreign)
	reg.Put(t, "foo/image", "1", image)
	reg.Put(t, "foo/diffs", "1", badDiffs)
	reg.Put(t, "foo/socket", "1", badSocket)
	trailing := reg.PutBlob(t, "foo/trailing", rt.TypeConfig, []byte(`{"description":"x"} {}`))
	reg.PutManifest(t, "foo/trailing", "1", rt.TypeManifest, rt.JSON(t, map[string]any{"schemaVersion": 2, "mediaType": rt.TypeManifest, "config": trailing, "layers": []any{}}))
	f := newFixture(t, quick)
	for repo, want := range map[string]struct{ text, class any }{
		"foo/index":    {"no matching manifest for linux/amd64 in the manifest list entries: it has linux/s390x, linux/mips", errdefs.ErrInvalidArgument},
		"foo/foreign":  {`layers of type "application/vnd.oci.image.layer.v1.tar+bzip2" are not supported`, errdefs.ErrInvalidArgument},
		"foo/image":    {`its config is of type "` + rt.TypeOCIImage + `"`, errdefs.ErrInvalidArgument},
		"foo/diffs":    {"it names 2 layers, the manifest 1", errdefs.ErrInvalidArgument},
		"foo/socket":   {"invalid plugin config", errdefs.ErrInvalidArgument},
		"foo/trailing": {"invalid config json", errdefs.ErrInvalidArgument},
		"foo/nothing":  {"error resolving plugin reference: registry " + reg.Host, errdefs.ErrNotFound},
	} {
		t.Run(repo, func(t *testing.T) {
			_, err := f.Pull(t.Context(), reg.Host+"/"+repo+":1", outlet.PullOptions{}, func(outlet.Progress) { t.Error("progress was told") })
			if err == nil || !strings.Contains(err.Error(), want.text.(string)) || !errors.Is(err, want.class.(error)) {
				t.Errorf("got %v", err)
			}
		})
	}
	if n := reg.Requests(`GET /v2/\S+/blobs/` + rt.Digest(layer.Blob)); n != 0 {
		t.Errorf("the layer was fetched %d times", n)
	}
	f.clean()
}

func TestPullOfEveryFormat(t *testing.T) {
	reg := rt.Start(t, rt.Options{})
	f := newFixture(t, quick)
	raw := rt.Tar(t, rt.File{Name: "f", Content: "lower"}, rt.File{Name: "gone", Content: "x"}, rt.File{Name: "d/"}, rt.File{Name: "d/hidden", Content: "x"})
	upper := rt.Tar(t, rt.File{Name: "f", Content: "upper"}, rt.File{Name: ".wh.gone"}, rt.File{Name: "d/"}, rt.File{Name: "d/.wh..wh..opq"}, rt.File{Name: "d/shown", Content: "y"})
	for name, types := range map[string]struct {
		manifest, layer string
		pack            func(testing.TB, []byte) []byte
	}{
		"docker gzip":  {rt.TypeManifest, rt.TypeGzip, rt.Gzip},
		"docker plain": {rt.TypeManifest, rt.TypePlain, func(_ testing.TB, b []byte) []byte { return b }},
		"oci gzip":     {rt.TypeOCI, rt.TypeOCIGzip, rt.Gzip},
		"oci zstd":     {rt.TypeOCI, rt.TypeOCIZstd, rt.Zstd},
		"oci plain":    {rt.TypeOCI, rt.TypeOCIPlain, func(_ testing.TB, b []byte) []byte { return b }},
	} {
		for _, diffs := range []string{"diff ids", "no diff ids", "legacy diff ids"} {
			t.Run(name+" "+diffs, func(t *testing.T) {
				p := rt.Plugin{Config: rt.Config(nil), ManifestType: types.manifest, NoDiffIDs: diffs == "no diff ids"}
				for _, l := range [][]byte{raw, upper} {
					blob := types.pack(t, l)
					layer := rt.Layer{Blob: blob, MediaType: types.layer, DiffID: rt.Digest(l)}
					if diffs == "legacy diff ids" {
						layer.DiffID = rt.Digest(blob)
					}
					p.Layers = append(p.Layers, layer)
				}
				repo := strings.NewReplacer(" ", "-").Replace("x/" + name + diffs)
				reg.Put(t, repo, "1", p)
				ref := reg.Host + "/" + repo + ":1"
				if _, err := f.pull(ref, nil); err != nil {
					t.Fatal(err)
				}
				if got, err := f.read(ref, "f"); err != nil || got != "upper" {
					t.Errorf("f is %q, %v", got, err)
				}
				for _, gone := range []string{"gone", "d/hidden"} {
					if _, err := f.read(ref, gone); !errors.Is(err, os.ErrNotExist) {
						t.Errorf("%s is there: %v", gone, err)
					}
				}
				if got, err := f.read(ref, "d/shown"); err != nil || got != "y" {
					t.Errorf("d/shown is %q, %v", got, err)
				}
			})
		}
	}
	f.clean()
}

func TestPullPicksTheEntryWhosePrivilegesWereShown(t *testing.T) {
	reg := rt.Start(t, rt.Options{})
	entry := func(p rt.Plugin, arch, variant string) rt.Descriptor {
		d, _ := reg.Put(t, "foo/multi", "", p)
		d.Platform = &rt.Platform{OS: "linux", Architecture: arch, Variant: variant}
		return d
	}
	reg.PutManifest(t, "foo/multi", "1", rt.TypeOCIIndex, rt.JSON(t, map[string]any{
		"schemaVersion": 2, "mediaType": rt.TypeOCIIndex, "manifests": []any{
			entry(simple(t, "arm", map[string]any{"PidHost": true}), "arm64", ""),
			entry(simple(t, "here", map[string]any{"IpcHost": true}), "amd64", ""),
			entry(simple(t, "second", nil), "amd64", ""),
		},
	}))
	f := newFixture(t, quick)
	ref := reg.Host + "/foo/multi:1"
	r, err := f.Remote(t.Context(), ref, outlet.RemoteOptions{Platform: "linux/amd64"})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Privileges) != 1 || r.Privileges[0].Name != "host ipc namespace" || r.Index == "" {
		t.Errorf("shown: %+v", r)
	}
	o := outlet.PullOptions{Granted: r.Privileges, Digest: r.Digest, RemoteOptions: outlet.RemoteOptions{Platform: "amd64"}}
	if _, err := f.Pull(t.Context(), ref, o, nil); err != nil {
		t.Fatal(err)
	}
	if got, _ := f.read(ref, "bin/plugin"); got != "here" {
		t.Errorf("it holds %q", got)
	}
	o.Platform, o.Name, o.Digest = "linux/arm64", "other", ""
	o.Granted = outlet.Privileges{{Name: "host pid namespace", Value: []string{"true"}}}
	if _, err := f.Pull(t.Context(), ref, o, nil); err != nil {
		t.Fatal(err)
	}
	if got, _ := f.read("other", "bin/plugin"); got != "arm" {
		t.Errorf("the other one holds %q", got)
	}
}

func TestATagThatMovedSinceItWasShownIsRefused(t *testing.T) {
	reg := rt.Start(t, rt.Options{})
	old, _ := reg.Put(t, "foo/bar", "1", simple(t, "old", nil))
	reg.Put(t, "foo/bar", "1", simple(t, "new", nil))
	f := newFixture(t, quick)
	_, err := f.Pull(t.Context(), reg.Host+"/foo/bar:1", outlet.PullOptions{Digest: old.Digest}, nil)
	if !errdefs.IsConflict(err) || !strings.Contains(err.Error(), "changed since it was looked at") {
		t.Errorf("got %v", err)
	}
	// What was shown can still be had by its digest.
	if _, err := f.Pull(t.Context(), reg.Host+"/foo/bar@"+old.Digest, outlet.PullOptions{Digest: old.Digest, Name: "bar"}, nil); err != nil {
		t.Fatal(err)
	}
	if got, _ := f.read("bar", "bin/plugin"); got != "old" {
		t.Errorf("it holds %q", got)
	}
}

func TestATakenNameIsRefusedBeforeTheRegistryIsAsked(t *testing.T) {
	f := newFixture(t, quick)
	f.create("foo/bar")
	// There is no registry at this address.
	_, err := f.Pull(t.Context(), "127.0.0.1:1/x/y", outlet.PullOptions{Name: "foo/bar"}, nil)
	if !errdefs.IsAlreadyExists(err) || err.Error() != "plugin foo/bar:latest already exists" {
		t.Errorf("got %v", err)
	}
}

func TestFaultsOfTheNetwork(t *testing.T) {
	reg := rt.Start(t, rt.Options{})
	layer := rt.GzipLayer(t, rt.File{Name: "big", Content: noise(2, 2<<20)})
	reg.Put(t, "foo/bar", "1", rt.Plugin{Config: rt.Config(nil), Layers: []rt.Layer{layer}})
	blob := "GET /v2/foo/bar/blobs/" + rt.Digest(layer.Blob)
	const manifest = "GET /v2/foo/bar/manifests/1"
	for name, tt := range map[string]struct {
		on    string
		fault rt.Fault
		fails string // "" is success
		class error
	}{
		"the connection drops twice":          {blob, rt.Times(2, rt.Cut(700_000)), "", nil},
		"the connection stands still once":    {blob, rt.Times(1, rt.Stall(500_000)), "", nil},
		"the connection always drops at once": {blob, rt.Cut(0), "broke off after 0 of", errdefs.ErrInternal},
		"slow":                                {blob, rt.Slow(time.Millisecond), "", nil},
		"wrong bytes":                         {blob, rt.Flip(1_000_000), "it sent a blob of digest sha256:", errdefs.ErrInternal},
		"429 for a moment":                    {blob, rt.Times(1, rt.Status(429, "Retry-After", "1")), "", nil},
		"429 for longer than anybody waits":   {blob, rt.Status(429, "Retry-After", "3600"), "too many requests (it asks to be left alone until 3600)", errdefs.ErrUnavailable},
		"429 without end":                     {blob, rt.Status(429), "too many requests", errdefs.ErrUnavailable},
		"500 twice":                           {blob, rt.Times(2, rt.Status(500)), "", nil},
		"503 without end":                     {blob, rt.Status(503), "503 service unavailable", errdefs.ErrInternal},
		"the blob is gone":                    {blob, rt.Status(404), "404 not found", errdefs.ErrNotFound},
		"an endless blob":                     {blob, rt.Endless("application/octet-stream"), "it sent a blob of digest sha256:", errdefs.ErrInternal},
		"the manifest is slow to come":        {manifest, rt.Times(1, rt.Stall(0)), "", nil},
		"an endless manifest":                 {manifest, rt.Endless(rt.TypeManifest), "the manifest is larger than 4194304 bytes", errdefs.ErrInvalidArgument},
		"the manifest has other bytes":        {manifest, rt.Flip(10), "it sent a manifest of digest", errdefs.ErrInternal},
		"forbidden":                           {manifest, rt.Status(403), "403 forbidden", errdefs.ErrPermissionDenied},
		"unauthorized":                        {manifest, rt.Status(401), "401 unauthorized", errdefs.ErrUnauthenticated},
		"a manifest of schema 1":              {manifest, schema1, "manifests of schema 1 (" + rt.TypeSchemaOne + ") are not supported", errdefs.ErrInvalidArgument},
		"a redirect in a circle": {blob, func(w http.ResponseWriter, r *http.Request, _ int, _ http.Handler) {
			http.Redirect(w, r, r.URL.Path, http.StatusTemporaryRedirect)
		}, "10 redirects", errdefs.ErrInternal},
		"redirected to another host":            {blob, rt.Redirect(reg.Host), "", nil},
		"ranges are ignored after a drop":       {blob, noRanges, "", nil},
		"the registry does not speak HTTP":      {manifest, func(w http.ResponseWriter, _ *http.Request, _ int, _ http.Handler) { hijackAndClose(w) }, "registry ", errdefs.ErrInternal},
		"a blob that is shorter than it says":   {blob, short, "it has 5 bytes where the manifest says", errdefs.ErrInternal},
		"a document that is not JSON":           {manifest, text("<html>"), "the manifest is not JSON", errdefs.ErrInvalidArgument},
		"a config of another type than it says": {"GET /v2/foo/bar/blobs/", configFlip(rt.Digest(layer.Blob)), "it sent a blob of digest", errdefs.ErrInternal},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := rt.Before(t, reg)
			p.On(tt.on, tt.fault)
			patience := quick
			if name == "the connection stands still once" || name == "the manifest is slow to come" {
				patience = hasty
			}
			f := newFixture(t, patience)
			_, err := f.Pull(t.Context(), p.Host+"/foo/bar:1", outlet.PullOptions{Name: "bar"}, nil)
			if tt.fails == "" {
				if err != nil {
					t.Fatal(err)
				}
				if got, err := f.read("bar", "big"); err != nil || got != noise(2, 2<<20) {
					t.Errorf("its content is wrong (%d bytes), %v", len(got), err)
				}
				f.clean()
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.fails) || !errors.Is(err, tt.class) {
				t.Errorf("got %v", err)
			}
			if l, err := f.List(t.Context(), outlet.ListFilter{}); err != nil || len(l) != 0 {
				t.Errorf("there are plugins: %v, %v", l, err)
			}
		})
	}
}

func schema1(w http.ResponseWriter, _ *http.Request, _ int, _ http.Handler) {
	w.Header().Set("Content-Type", rt.TypeSchemaOne)
	fmt.Fprint(w, `{"schemaVersion":1,"name":"x","tag":"y","fsLayers":[]}`)
}

func text(s string) rt.Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ int, _ http.Handler) { fmt.Fprint(w, s) }
}

func short(w http.ResponseWriter, _ *http.Request, _ int, _ http.Handler) { fmt.Fprint(w, "short") }

// noRanges drops the first connection and answers all with the whole.
func noRanges(w http.ResponseWriter, r *http.Request, n int, next http.Handler) {
	r.Header.Del("Range")
	if n == 1 {
		rt.Cut(600_000)(w, r, n, next)
		return
	}
	next.ServeHTTP(w, r)
}

func configFlip(layer string) rt.Fault {
	return func(w http.ResponseWriter, r *http.Request, n int, next http.Handler) {
		if strings.HasSuffix(r.URL.Path, layer) {
			next.ServeHTTP(w, r)
			return
		}
		rt.Flip(3)(w, r, n, next)
	}
}

func hijackAndClose(w http.ResponseWriter) {
	c, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		c.Close()
	}
}

func TestAnInterruptedPullGoesOnWhereItWas(t *testing.T) {
	reg := rt.Start(t, rt.Options{})
	layer := rt.GzipLayer(t, rt.File{Name: "big", Content: noise(3, 4<<20)})
	reg.Put(t, "foo/bar", "1", rt.Plugin{Config: rt.Config(nil), Layers: []rt.Layer{layer}})
	p := rt.Before(t, reg)
	var mu sync.Mutex
	var ranges []string
	half := make(chan struct{})
	p.On("GET /v2/foo/bar/blobs/"+rt.Digest(layer.Blob), func(w http.ResponseWriter, r *http.Request, n int, next http.Handler) {
		mu.Lock()
		ranges = append(ranges, r.Header.Get("Range"))
		mu.Unlock()
		if n == 1 {
			defer close(half)
			rt.Stall(3<<20)(w, r, n, next)
			return
		}
		next.ServeHTTP(w, r)
	})
	dir, fake := testutil.TempDir(t), newFakeRuntime()
	f := openFixture(t, dir, fake, quick)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := f.Pull(ctx, p.Host+"/foo/bar:1", outlet.PullOptions{}, func(p outlet.Progress) {
		if p.Current > 1<<20 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	<-half
	// A collection leaves it, and the next daemon finds it.
	if err := f.CollectGarbage(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.close()
	f = openFixture(t, dir, fake, quick)
	if err := f.CollectGarbage(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := f.pull(p.Host+"/foo/bar:1", nil); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(ranges) != 2 || ranges[0] != "" || !strings.HasPrefix(ranges[1], "bytes=") || strings.HasPrefix(ranges[1], "bytes=0-") {
		t.Errorf("it was asked for %q", ranges)
	}
	f.clean()
}

func TestConcurrentPullsDownloadAndUnpackEachLayerOnce(t *testing.T) {
	for _, n := range []int{2, 10, 100} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			reg := rt.Start(t, rt.Options{})
			base := rt.GzipLayer(t, rt.File{Name: "base", Content: noise(4, 1<<20)})
			middle := rt.GzipLayer(t, rt.File{Name: "middle", Content: noise(5, 1<<19)})
			for i := range n {
				layers := []rt.Layer{base, middle}
				if i%2 == 1 { // half of them overlap, half are the same
					layers = append(layers, rt.GzipLayer(t, rt.File{Name: "own", Content: fmt.Sprint(i)}))
				}
				reg.Put(t, fmt.Sprintf("foo/p%d", i), "1", rt.Plugin{Config: rt.Config(nil), Layers: layers, NoDiffIDs: n == 10})
			}
			f := newFixture(t, quick)
			errs := make(chan error, n)
			for i := range n {
				go func() {
					_, err := f.Pull(t.Context(), fmt.Sprintf("%s/foo/p%d:1", reg.Host, i), outlet.PullOptions{}, nil)
					errs <- err
				}()
			}
			for range n {
				if err := <-errs; err != nil {
					t.Error(err)
				}
			}
			for _, l := range []rt.Layer{base, middle} {
				if got := reg.Requests(`"GET /v2/\S+/blobs/` + rt.Digest(l.Blob)); got != 1 {
					t.Errorf("a shared layer was asked for %d times", got)
				}
			}
			f.clean()
		})
	}
}

func TestPluginsOfTheSameContentAreIndependent(t *testing.T) {
	reg := rt.Start(t, rt.Options{})
	reg.Put(t, "foo/bar", "1", simple(t, "x", nil))
	f := newFixture(t, quick)
	for _, name := range []string{"a", "b"} {
		if _, err := f.Pull(t.Context(), reg.Host+"/foo/bar:1", outlet.PullOptions{Name: name}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Remove(t.Context(), "a", false); err != nil {
		t.Fatal(err)
	}
	f.clean()
	if got, err := f.read("b", "bin/plugin"); err != nil || got != "x" {
		t.Errorf("b holds %q, %v", got, err)
	}
	f.enable("b")
}
