package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/outletd/outlet/capability/volume"
	"github.com/outletd/outlet/internal/testutil"
	"github.com/outletd/outlet/sdk/sdktest"
)

func TestMain(m *testing.M) { os.Exit(testutil.Main(m)) }

// plugin is a dirvol that runs in this process and is called over its socket.
type plugin struct {
	t       *testing.T
	dir     string
	client  *http.Client
	stop    context.CancelFunc
	stopped chan error
	out     *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func start(t *testing.T, dir string) *plugin {
	t.Helper()
	socket := filepath.Join(dir, "s")
	ctx, stop := context.WithCancel(t.Context())
	p := &plugin{t: t, dir: dir, stop: stop, stopped: make(chan error, 1), out: new(lockedBuffer)}
	go func() {
		p.stopped <- run(ctx, []string{"-data", filepath.Join(dir, "d"), "-socket", socket}, "", nil, p.out)
	}()
	p.client = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	testutil.Eventually(t, time.Minute, func() error {
		c, err := net.Dial("unix", socket)
		if err == nil {
			c.Close()
		}
		return err
	})
	t.Cleanup(p.end)
	return p
}

// end stops the plugin gracefully; it may be called twice.
func (p *plugin) end() {
	p.stop()
	p.client.CloseIdleConnections()
	if err, ok := <-p.stopped; ok && err != nil {
		p.t.Errorf("the plugin ended with: %v\n%s", err, p.out.String())
	}
	p.stopped = make(chan error)
	close(p.stopped)
}

// call sends one call and returns status and answer.
func (p *plugin) call(method, body string) (int, string) {
	p.t.Helper()
	resp, err := p.client.Post("http://plugin/"+method, "application/json", strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	if !json.Valid(b) {
		p.t.Errorf("%s answers what is no JSON: %s", method, b)
	}
	return resp.StatusCode, strings.TrimSpace(string(b))
}

// ok sends a call that must succeed.
func (p *plugin) ok(method, body string) string {
	p.t.Helper()
	status, answer := p.call(method, body)
	if status != http.StatusOK {
		p.t.Fatalf("%s %s: %d %s", method, body, status, answer)
	}
	return answer
}

func (p *plugin) path(volume string) string { return filepath.Join(p.dir, "d", "volumes", volume) }

func TestProtocol(t *testing.T) {
	p := start(t, testutil.TempDir(t))
	if got := p.ok("Plugin.Activate", ""); got != `{"Implements":["VolumeDriver"]}` {
		t.Error(got)
	}
	if got := p.ok("VolumeDriver.Capabilities", "{}"); got != `{"Capabilities":{"Scope":"local"}}` {
		t.Error(got)
	}
	if got := p.ok("VolumeDriver.List", ""); got != `{"Volumes":[]}` { // Podman sends no body
		t.Error(got)
	}
	p.ok("VolumeDriver.Create", `{"Name":"a","Opts":{"mode":"1777"}}`)
	p.ok("VolumeDriver.Create", `{"Name":"b","Opts":null}`)
	p.ok("VolumeDriver.Create", `{"Name":"a","Opts":{"mode":"1777"}}`) // again, the same
	want := fmt.Sprintf(`{"Mountpoint":%q}`, p.path("a"))
	if got := p.ok("VolumeDriver.Mount", `{"Name":"a","ID":"1"}`); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := p.ok("VolumeDriver.Path", `{"Name":"a"}`); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if info, err := os.Stat(p.path("a")); err != nil || info.Mode().Perm() != 0o777 || info.Mode()&os.ModeSticky == 0 {
		t.Errorf("mode of the directory: %v, %v", info.Mode(), err)
	}
	var list struct{ Volumes []volume.Volume }
	if err := json.Unmarshal([]byte(p.ok("VolumeDriver.List", "{}")), &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Volumes) != 2 || list.Volumes[0].Name != "a" || list.Volumes[0].Status["mounts"] != "1" || list.Volumes[1].Name != "b" {
		t.Errorf("list: %+v", list)
	}
	if list.Volumes[0].CreatedAt.IsZero() {
		t.Error("the time of creation is missing")
	}
	p.ok("VolumeDriver.Unmount", `{"Name":"a","ID":"1"}`)
	p.ok("VolumeDriver.Unmount", `{"Name":"a","ID":"never mounted"}`)
	p.ok("VolumeDriver.Remove", `{"Name":"a"}`)
	if _, err := os.Stat(p.path("a")); !os.IsNotExist(err) {
		t.Errorf("the directory of a removed volume: %v", err)
	}
}

func TestConforms(t *testing.T) {
	p := start(t, testutil.TempDir(t))
	sdktest.Run(t, sdktest.Options{
		Addr: "unix://" + filepath.Join(p.dir, "s"), Implements: []string{"VolumeDriver"},
		VolumeOpts: map[string]string{"mode": "0750"},
	})
}

func TestRefusals(t *testing.T) {
	p := start(t, testutil.TempDir(t))
	p.ok("VolumeDriver.Create", `{"Name":"used"}`)
	p.ok("VolumeDriver.Mount", `{"Name":"used","ID":"1"}`)
	for _, tt := range []struct {
		name, method, body string
		status             int
		err                string
	}{
		{"a volume that is not there", "VolumeDriver.Get", `{"Name":"none"}`, 404, `volume "none" not found`},
		{"mounting one that is not there", "VolumeDriver.Mount", `{"Name":"none","ID":"1"}`, 404, `volume "none" not found`},
		{"removing one that is used", "VolumeDriver.Remove", `{"Name":"used"}`, 409, `volume "used" is mounted by 1 users`},
		{"the same name, other options", "VolumeDriver.Create", `{"Name":"used","Opts":{"mode":"0700"}}`, 409, `volume "used" exists with other options`},
		{"a name that climbs", "VolumeDriver.Create", `{"Name":"../../etc"}`, 400, `volume name "../../etc": letters`},
		{"no name", "VolumeDriver.Create", `{}`, 400, "the call has no Name"},
		{"a bad option", "VolumeDriver.Create", `{"Name":"x","Opts":{"uid":"me"}}`, 400, "option uid"},
		{"a climbing name in Path", "VolumeDriver.Path", `{"Name":"../d"}`, 400, "volume name"},
		{"no JSON", "VolumeDriver.Create", `{`, 400, "the body of the call: "},
		{"options of the wrong type", "VolumeDriver.Create", `{"Name":"x","Opts":{"mode":7}}`, 400, "the body of the call: "},
		// By no more than a socket takes: net/http's client may lose an answer that
		// comes while it still writes.
		{"a body beyond the bound", "VolumeDriver.Create", `{"Name":"` + strings.Repeat("x", 1<<20) + `"}`, 413, "the body of the call is longer"},
		{"an unknown method", "VolumeDriver.Explode", `{}`, 404, `no method "VolumeDriver.Explode"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, answer := p.call(tt.method, tt.body)
			var got struct{ Err string }
			if err := json.Unmarshal([]byte(answer), &got); err != nil {
				t.Fatal(err)
			}
			if status != tt.status || !strings.Contains(got.Err, tt.err) {
				t.Errorf("got %d %s", status, answer)
			}
		})
	}
	if entries, err := os.ReadDir(filepath.Join(p.dir, "d", "volumes")); err != nil || len(entries) != 1 {
		t.Errorf("refused volumes left something: %v, %v", entries, err)
	}
	resp, err := p.client.Get("http://plugin/VolumeDriver.List")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("GET is answered with %d", resp.StatusCode)
	}
}

func TestVolumesAndUsersAreKeptAcrossRestarts(t *testing.T) {
	dir := testutil.TempDir(t)
	p := start(t, dir)
	p.ok("VolumeDriver.Create", `{"Name":"a"}`)
	p.ok("VolumeDriver.Mount", `{"Name":"a","ID":"1"}`)
	if err := os.WriteFile(filepath.Join(p.path("a"), "f"), []byte("kept"), 0o644); err != nil {
		t.Fatal(err)
	}
	p.end()
	p = start(t, dir)
	if status, answer := p.call("VolumeDriver.Remove", `{"Name":"a"}`); status != http.StatusConflict {
		t.Errorf("a volume in use was removed: %d %s", status, answer)
	}
	if b, err := os.ReadFile(filepath.Join(p.path("a"), "f")); string(b) != "kept" {
		t.Errorf("got %q, %v", b, err)
	}
}

func TestUsersOfAnEarlierBootAreForgotten(t *testing.T) {
	dir := testutil.TempDir(t)
	p := start(t, dir)
	p.ok("VolumeDriver.Create", `{"Name":"a"}`)
	p.ok("VolumeDriver.Mount", `{"Name":"a","ID":"1"}`)
	p.end()
	file := filepath.Join(dir, "d", stateFile)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, bytes.Replace(b, []byte(bootID()), []byte("another"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	p = start(t, dir)
	p.ok("VolumeDriver.Remove", `{"Name":"a"}`)
}

func TestWhatWasLeftHalfDoneIsFinished(t *testing.T) {
	dir := testutil.TempDir(t)
	p := start(t, dir)
	p.ok("VolumeDriver.Create", `{"Name":"removing"}`)
	p.ok("VolumeDriver.Create", `{"Name":"kept"}`)
	p.end()
	data := filepath.Join(dir, "d")
	// As after a kill in the middle of remove, and of create.
	for _, err := range []error{
		os.Rename(filepath.Join(data, "volumes/removing"), filepath.Join(data, "trash/removing")),
		os.Mkdir(filepath.Join(data, "volumes/creating"), 0o700),
		os.MkdirAll(filepath.Join(data, "volumes/strange/file"), 0o700),
		os.WriteFile(filepath.Join(data, stateTemp), []byte("{"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	p = start(t, dir)
	var list struct{ Volumes []volume.Volume }
	if err := json.Unmarshal([]byte(p.ok("VolumeDriver.List", "")), &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Volumes) != 1 || list.Volumes[0].Name != "kept" {
		t.Errorf("list: %+v", list)
	}
	for path, there := range map[string]bool{"trash/removing": false, "volumes/creating": false, "volumes/strange/file": true} {
		if _, err := os.Stat(filepath.Join(data, path)); (err == nil) != there {
			t.Errorf("%s: %v", path, err)
		}
	}
	if !strings.Contains(p.out.String(), "volumes/strange belongs to no volume") {
		t.Errorf("nothing is said of the strange directory:\n%s", p.out.String())
	}
}

func TestASpoiltStateFileStopsTheStart(t *testing.T) {
	for name, content := range map[string]string{
		"no JSON":           "{",
		"a later version":   `{"Version":2}`,
		"a name that leads": `{"Version":1,"Volumes":{"../x":{}}}`,
		"a volume of null":  `{"Version":1,"Volumes":{"x":null}}`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, stateFile), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := run(t.Context(), []string{"-data", dir, "-socket", filepath.Join(dir, "s")}, "", nil, io.Discard); err == nil {
				t.Error("it serves")
			}
		})
	}
}

func TestASymlinkInThePlaceOfAVolumeLeadsNowhere(t *testing.T) {
	dir := testutil.TempDir(t)
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "f"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	p := start(t, dir)
	p.ok("VolumeDriver.Create", `{"Name":"a"}`)
	if err := os.Remove(p.path("a")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, p.path("a")); err != nil {
		t.Fatal(err)
	}
	p.ok("VolumeDriver.Remove", `{"Name":"a"}`)
	if _, err := os.Stat(filepath.Join(outside, "f")); err != nil {
		t.Errorf("removing followed the link: %v", err)
	}
}

func TestTmpfsIsLimitedAndThereOnlyWhileUsed(t *testing.T) {
	testutil.Need(t, testutil.Root, testutil.MountNS)
	dir := testutil.TempDir(t)
	p := start(t, dir)
	p.ok("VolumeDriver.Create", `{"Name":"a","Opts":{"type":"tmpfs","size":"1m","mode":"0711","uid":"33","gid":"44"}}`)
	p.ok("VolumeDriver.Mount", `{"Name":"a","ID":"1"}`)
	p.ok("VolumeDriver.Mount", `{"Name":"a","ID":"2"}`)
	var st syscall.Stat_t
	if err := syscall.Stat(p.path("a"), &st); err != nil || st.Uid != 33 || st.Gid != 44 || st.Mode&0o7777 != 0o711 {
		t.Errorf("owner %d:%d, mode %o, %v", st.Uid, st.Gid, st.Mode, err)
	}
	file := filepath.Join(p.path("a"), "f")
	if err := os.WriteFile(file, make([]byte, 2<<20), 0o644); err == nil {
		t.Error("more than its size fits")
	}
	p.ok("VolumeDriver.Unmount", `{"Name":"a","ID":"1"}`)
	if _, err := os.Stat(file); err != nil {
		t.Errorf("gone with the first of two users: %v", err)
	}

	p.end() // its users stay: the next run mounts for them
	if points, err := testutil.Mounts(dir); err != nil || len(points) != 0 {
		t.Errorf("mounts are left after the end: %q, %v", points, err)
	}
	p = start(t, dir)
	if points, err := testutil.Mounts(dir); err != nil || len(points) != 1 {
		t.Errorf("not mounted again: %q, %v", points, err)
	}
	p.ok("VolumeDriver.Unmount", `{"Name":"a","ID":"2"}`)
	if points, err := testutil.Mounts(dir); err != nil || len(points) != 0 {
		t.Errorf("still mounted after the last user: %q, %v", points, err)
	}
	p.ok("VolumeDriver.Remove", `{"Name":"a"}`)
}

func TestASocketThatIsServedIsNotTaken(t *testing.T) {
	p := start(t, testutil.TempDir(t))
	other := t.TempDir()
	err := run(t.Context(), []string{"-data", other, "-socket", filepath.Join(p.dir, "s")}, "", nil, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "served by another process") {
		t.Errorf("got %v", err)
	}
	p.ok("VolumeDriver.List", "")
}

func TestFilesOfVolumesAreReadAndWritten(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "volumes/a"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/hostname", filepath.Join(dir, "volumes/a/link")); err != nil {
		t.Fatal(err)
	}
	use := func(in string, args ...string) (string, error) {
		var out bytes.Buffer
		err := run(t.Context(), append([]string{"-data", dir}, args...), "", strings.NewReader(in), &out)
		return out.String(), err
	}
	if _, err := use("hello", "put", "a", "f"); err != nil {
		t.Fatal(err)
	}
	if got, err := use("", "cat", "a", "f"); got != "hello" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	for name, args := range map[string][]string{
		"an unknown command":       {"rm", "a", "f"},
		"a file too few":           {"cat", "a"},
		"a volume that climbs":     {"cat", "..", "f"},
		"a volume not there":       {"cat", "b", "f"},
		"a file that climbs":       {"cat", "a", "../../x"},
		"a link out of the volume": {"cat", "a", "link"},
	} {
		if got, err := use("", args...); err == nil {
			t.Errorf("%s is accepted: %q", name, got)
		}
	}
}

// The program itself: killed and stopped, with the socket it leaves behind.
func TestTheProgram(t *testing.T) {
	program := testutil.Build(t, "./examples/dirvol")
	dir := testutil.TempDir(t)
	socket := filepath.Join(dir, "s")
	begin := func() *exec.Cmd {
		cmd := exec.Command(program, "-data", filepath.Join(dir, "d"), "-socket", socket)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		testutil.Eventually(t, time.Minute, func() error {
			c, err := net.Dial("unix", socket)
			if err == nil {
				c.Close()
			}
			return err
		})
		return cmd
	}
	cmd := begin()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	cmd = begin() // the stale socket is no hindrance
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("SIGTERM ends it with %v", err)
	}
	if _, err := os.Stat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket is left: %v", err)
	}

	out, err := exec.Command(program, "--nonsense").CombinedOutput()
	if err == nil {
		t.Errorf("an unknown flag is accepted: %s", out)
	}
}

func TestRunByHandItSaysWhatItIs(t *testing.T) {
	if isDir("/var/lib/dirvol") && isDir("/run/docker/plugins") {
		t.Skip("this machine has the directories a plugin has")
	}
	err := run(t.Context(), nil, "", nil, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "dirvol is a plugin") || !strings.Contains(err.Error(), "outlet enable dirvol") {
		t.Errorf("got %v", err)
	}
}

func TestASizeInTheEnvironmentIsChecked(t *testing.T) {
	dir := t.TempDir()
	err := run(t.Context(), []string{"-data", dir, "-socket", filepath.Join(dir, "s")}, "lots", nil, io.Discard)
	if err == nil || !strings.Contains(err.Error(), `TMPFS_SIZE: "lots" is not a size`) {
		t.Errorf("got %v", err)
	}
}

func TestBuildScript(t *testing.T) {
	testutil.Need(t, testutil.Go)
	out := filepath.Join(t.TempDir(), "plugin")
	if b, err := exec.Command("./build.sh", out).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	if static, err := testutil.IsStatic(filepath.Join(out, "rootfs/dirvol")); err != nil || !static {
		t.Errorf("static: %v, %v", static, err)
	}
	b, err := os.ReadFile(filepath.Join(out, "config.json"))
	if err != nil || !json.Valid(b) {
		t.Errorf("config.json: %v", err)
	}
}
