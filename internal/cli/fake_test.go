package cli

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/outletd/outlet"
)

// fakeDaemon answers as a daemon does, from a few plugins and volumes in memory.
// It runs nothing.
type fakeDaemon struct {
	socket string
	srv    *http.Server
	done   chan struct{}

	mu       sync.Mutex
	changed  *sync.Cond
	plugins  map[string]*outlet.Plugin
	volumes  map[string]*outlet.Volume
	requests []string
	seen     []string
}

func startFakeDaemon() (*fakeDaemon, error) {
	dir, err := os.MkdirTemp("", "ot") // short: a socket's path has 107 bytes
	if err != nil {
		return nil, err
	}
	d := &fakeDaemon{
		socket:  filepath.Join(dir, "o.sock"),
		done:    make(chan struct{}),
		plugins: make(map[string]*outlet.Plugin),
		volumes: make(map[string]*outlet.Volume),
	}
	d.changed = sync.NewCond(&d.mu)
	d.fill()
	l, err := net.Listen("unix", d.socket)
	if err != nil {
		return nil, err
	}
	d.srv = &http.Server{Handler: d.handler()}
	go func() {
		defer close(d.done)
		d.srv.Serve(l) // ends with close
	}()
	return d, nil
}

func (d *fakeDaemon) close() {
	d.srv.Close()
	<-d.done
	os.RemoveAll(filepath.Dir(d.socket))
}

func (d *fakeDaemon) takeRequests() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	r := d.requests
	d.requests = nil
	return r
}

func (d *fakeDaemon) waitRequest(want string, limit time.Duration) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	late := false
	t := time.AfterFunc(limit, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		late = true
		d.changed.Broadcast()
	})
	defer t.Stop()
	for !late {
		if slices.ContainsFunc(d.seen, func(s string) bool { return strings.Contains(s, want) }) {
			return true
		}
		d.changed.Wait()
	}
	return false
}

func pointer[T any](v T) *T { return &v }

func (d *fakeDaemon) fill() {
	at := func(ago time.Duration) time.Time { return scriptNow.Add(-ago) }
	for i, p := range []outlet.Plugin{
		{
			Name: "sample/v10:latest", Enabled: true, Config: outlet.Config{Description: "a description that is longer than the forty-five\ncharacters of its column"},
			Status: &outlet.Status{State: outlet.StateRunning, Since: at(5 * time.Minute), PID: 4711},
		},
		{Name: "sample/v2:latest", Config: outlet.Config{Description: "two"}, Status: &outlet.Status{State: outlet.StateDisabled, Since: at(time.Hour)}},
		{Name: "sample/crashing:latest", Enabled: true, Status: &outlet.Status{State: outlet.StateBackoff, Since: at(time.Second), Restarts: 3, NextStart: pointer(scriptNow.Add(20 * time.Second))}},
		{Name: "sample/broken:latest", Enabled: true, Status: &outlet.Status{State: outlet.StateFailed, Since: at(time.Second), Error: "entrypoint /nope: no such file"}},
	} {
		p.ID = strings.Repeat(fmt.Sprintf("%x", i+10), 64)
		p.PluginReference = p.Name
		p.Config.Interface = outlet.Interface{Socket: "s.sock", Types: []outlet.Capability{{Prefix: "docker", Capability: "volumedriver", Version: "1.0"}}}
		p.Settings = outlet.Settings{Args: []string{}, Devices: []outlet.Device{}, Env: []string{"DEBUG=0"}, Mounts: []outlet.Mount{}}
		d.plugins[p.Name] = &p
	}
	for _, v := range []outlet.Volume{
		{
			Name: "data", Driver: "sample/v10:latest", Scope: "local", Mountpoint: "/srv/data", Labels: map[string]string{"tier": "a", "b": "c"},
			Outlet: &outlet.VolumeStatus{Created: true, Mounts: []outlet.VolumeMount{{ID: "one"}}},
		},
		{Name: "scratch10", Driver: "sample/v10:latest", Scope: "local", Outlet: &outlet.VolumeStatus{Created: true}},
		{Name: "scratch9", Driver: "sample/v10:latest", Scope: "local", Outlet: &outlet.VolumeStatus{Created: true}},
		{Name: "foreign", Driver: "sample/v10:latest", Scope: "local", Outlet: &outlet.VolumeStatus{}},
		{Name: "other", Driver: "elsewhere", Scope: "global", Outlet: &outlet.VolumeStatus{Created: true}},
	} {
		d.volumes[v.Name] = &v
	}
}

// statusError is an answer other than success.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return e.text }

func fail(status int, format string, args ...any) error {
	return &statusError{status, fmt.Sprintf(format, args...)}
}

func (d *fakeDaemon) handler() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, f func(w http.ResponseWriter, r *http.Request) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := f(w, r); err != nil {
				answerError(w, err)
			}
		})
	}
	handle("/_ping", func(http.ResponseWriter, *http.Request) error { return nil })
	handle("GET /version", d.version)
	handle("GET /events", d.events)
	handle("GET /plugins", d.list)
	handle("GET /plugins/{name...}", d.withPlugin("/json", func(w http.ResponseWriter, _ *http.Request, p *outlet.Plugin) error { return answer(w, p) }))
	handle("POST /plugins/{name...}", d.pluginAction)
	handle("DELETE /plugins/{name...}", d.withPlugin("", d.remove))
	handle("GET /volumes", d.listVolumes)
	handle("POST /volumes/create", d.createVolume)
	handle("GET /volumes/{name}", d.withVolume(func(w http.ResponseWriter, _ *http.Request, v *outlet.Volume) error { return answer(w, v) }))
	handle("DELETE /volumes/{name}", d.withVolume(d.removeVolume))
	handle("GET /outlet/v1/info", d.info)
	handle("GET /outlet/v1/discover", d.discover)
	handle("/outlet/v1/system/check", d.check)
	handle("POST /outlet/v1/plugins/create", d.create)
	handle("GET /outlet/v1/plugins/privileges", d.privileges)
	handle("POST /outlet/v1/plugins/enable", d.byQuery(d.enable))
	handle("POST /outlet/v1/plugins/set", d.byQuery(func(w http.ResponseWriter, _ *http.Request, _ *outlet.Plugin) error { w.WriteHeader(204); return nil }))
	handle("GET /outlet/v1/plugins/logs", d.byQuery(d.logs))
	handle("POST /outlet/v1/plugins/call", d.byQuery(d.call))
	handle("POST /outlet/v1/plugins/exec", d.byQuery(d.exec))
	handle("POST /outlet/v1/volumes/{name}/mount", d.withVolume(d.mount))
	handle("POST /outlet/v1/volumes/{name}/unmount", d.withVolume(d.unmount))

	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.EscapedPath()
		if rest, ok := strings.CutPrefix(path, "/v1.51/"); ok {
			r.URL.Path, r.URL.RawPath = strings.TrimPrefix(r.URL.Path, "/v1.51"), "/"+rest
		}
		line := r.Method + " " + path
		if r.URL.RawQuery != "" {
			line += "?" + r.URL.RawQuery
		}
		if r.Header.Get("Content-Type") == "application/json" {
			body, _ := io.ReadAll(r.Body)
			line += " " + string(body)
			r.Body = io.NopCloser(strings.NewReader(string(body)))
		}
		d.mu.Lock()
		d.seen = append(d.seen, line)
		if !strings.HasPrefix(line, "HEAD ") {
			d.requests = append(d.requests, line)
		}
		d.changed.Broadcast()
		d.mu.Unlock()
		w.Header().Set("Api-Version", "1.51")
		w.Header().Set("Server", "Outlet/1.2.3 (linux)")
		mux.ServeHTTP(w, r)
	})
}

func answer(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(v)
}

func answerError(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	var e *statusError
	if errors.As(err, &e) {
		status = e.status
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]string{"message": err.Error()})
}

func (d *fakeDaemon) find(name string) (*outlet.Plugin, error) {
	for _, p := range d.plugins {
		if p.Name == name || p.Name == name+":latest" || len(name) > 3 && strings.HasPrefix(p.ID, name) {
			return p, nil
		}
	}
	return nil, fail(404, "plugin %q not found", name)
}

type pluginHandler func(http.ResponseWriter, *http.Request, *outlet.Plugin) error

func (d *fakeDaemon) withPlugin(suffix string, f pluginHandler) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		p, err := d.find(strings.TrimSuffix(r.PathValue("name"), suffix))
		if err != nil {
			return err
		}
		return f(w, r, p)
	}
}

func (d *fakeDaemon) byQuery(f pluginHandler) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		p, err := d.find(r.FormValue("plugin"))
		if err != nil {
			return err
		}
		return f(w, r, p)
	}
}

func (d *fakeDaemon) list(w http.ResponseWriter, r *http.Request) error {
	var filters map[string]map[string]bool
	if f := r.FormValue("filters"); f != "" {
		if err := json.Unmarshal([]byte(f), &filters); err != nil {
			return fail(400, "invalid filter")
		}
	}
	for key := range filters {
		if key != "enabled" && key != "capability" {
			return fail(400, "invalid filter '%s'", key)
		}
	}
	list := []outlet.Plugin{}
	for _, p := range d.plugins {
		if want := filters["enabled"]; want == nil || want[fmt.Sprint(p.Enabled)] {
			list = append(list, *p)
		}
	}
	slices.SortFunc(list, func(a, b outlet.Plugin) int { return strings.Compare(a.Name, b.Name) })
	return answer(w, list)
}

func (d *fakeDaemon) pluginAction(w http.ResponseWriter, r *http.Request) error {
	name, action := r.PathValue("name"), ""
	if i := strings.LastIndex(name, "/"); i >= 0 {
		name, action = name[:i], name[i+1:]
	}
	p, err := d.find(name)
	if err != nil {
		return err
	}
	switch action {
	case "enable":
		return d.enable(w, r, p)
	case "disable":
		if !p.Enabled {
			return fail(409, "plugin %q is already disabled", p.Name)
		}
		if p.Name == "sample/v10:latest" && r.FormValue("force") == "" {
			return fail(409, "plugin %s is in use by volume data", p.Name)
		}
		p.Enabled = false
	case "set":
		if p.Enabled {
			return fail(409, "cannot set on an active plugin, disable plugin before setting")
		}
		w.WriteHeader(204)
	default:
		return fail(404, "page not found")
	}
	return nil
}

func (d *fakeDaemon) enable(w http.ResponseWriter, _ *http.Request, p *outlet.Plugin) error {
	if p.Enabled {
		return fail(409, "plugin %q is already enabled", p.Name)
	}
	p.Enabled = true
	return nil
}

func (d *fakeDaemon) remove(_ http.ResponseWriter, r *http.Request, p *outlet.Plugin) error {
	if p.Enabled && r.FormValue("force") == "" {
		return fail(409, "plugin %s is enabled - disable it first before removing", p.Name)
	}
	delete(d.plugins, p.Name)
	return nil
}

// create tells the names in the tar as warnings, or refuses it by its name: at
// the first byte, or at the end.
func (d *fakeDaemon) create(w http.ResponseWriter, r *http.Request) error {
	name := r.FormValue("name")
	if name == "sample/v2" {
		w.Header().Set("Connection", "close")
		return fail(409, "plugin %s already exists", name)
	}
	body := bufio.NewReader(r.Body)
	var in io.Reader = body
	var warnings []string
	if head, err := body.Peek(2); err == nil && head[0] == 0x1f {
		warnings = append(warnings, "gzip")
		if in, err = gzip.NewReader(body); err != nil {
			return err
		}
	}
	tr := tar.NewReader(in)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fail(400, "read archive: %v", err)
		}
		warnings = append(warnings, fmt.Sprintf("%c %04o %s %s", h.Typeflag, h.Mode&0o7777, h.Name, h.Linkname))
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return err
	}
	p := outlet.Plugin{Name: name + ":latest"}
	d.plugins[p.Name] = &p
	return answer(w, struct {
		Plugin   outlet.Plugin
		Warnings []string
	}{p, warnings})
}

func (d *fakeDaemon) privileges(w http.ResponseWriter, _ *http.Request) error {
	return answer(w, []map[string]any{{"Name": "mount", "Description": "host path to mount", "Value": []string{"/dev"}, "Words": "may use what the host has there"}})
}

func (d *fakeDaemon) logs(w http.ResponseWriter, r *http.Request, p *outlet.Plugin) error {
	e := json.NewEncoder(w)
	w.Header().Set("Content-Type", "application/jsonl")
	entries := []outlet.LogEntry{
		{Stream: "outlet", Time: scriptNow, Line: "started"},
		{Stream: "stdout", Time: scriptNow, Line: "begins ", Partial: true},
		{Stream: "stdout", Time: scriptNow, Line: "and ends"},
		{Stream: "stderr", Time: scriptNow, Line: "oh"},
	}
	if n := r.FormValue("tail"); n == "1" {
		entries = entries[3:]
	}
	for _, l := range entries {
		if err := e.Encode(l); err != nil {
			return err
		}
	}
	if p.Name == "sample/broken:latest" {
		return e.Encode(map[string]string{"error": "the log is damaged"})
	}
	if r.FormValue("follow") != "" {
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
	return nil
}

func (d *fakeDaemon) call(w http.ResponseWriter, r *http.Request, _ *outlet.Plugin) error {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	w.Header().Set("Outlet-Plugin-Status", "200")
	switch r.FormValue("method") {
	case "VolumeDriver.List":
		fmt.Fprint(w, `{"Volumes":[]}`)
	case "Echo":
		w.Write(body)
	default:
		w.Header().Set("Outlet-Plugin-Status", "500")
		fmt.Fprint(w, `{"Err":"it does not know how"}`)
	}
	return nil
}

// exec is a process that tells its arguments, then its input, then ends with 3.
func (d *fakeDaemon) exec(w http.ResponseWriter, _ *http.Request, p *outlet.Plugin) error {
	if !p.Enabled {
		return fail(409, "plugin %q is not running", p.Name)
	}
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return err
	}
	defer conn.Close()
	send := func(kind byte, payload []byte) {
		h := []byte{kind, 0, 0, 0}
		conn.Write(append(binary.BigEndian.AppendUint32(h, uint32(len(payload))), payload...))
	}
	fmt.Fprint(conn, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: outlet-exec\r\n\r\n")
	waits := false
	for {
		var h [8]byte
		if _, err := io.ReadFull(rw, h[:]); err != nil {
			return nil
		}
		payload := make([]byte, binary.BigEndian.Uint32(h[4:]))
		if _, err := io.ReadFull(rw, payload); err != nil {
			return nil
		}
		switch h[0] {
		case 16:
			if strings.Contains(string(payload), `"nope"`) {
				send(7, []byte(`{"message":"nope: no such file","status":404}`))
				return nil
			}
			if strings.Contains(string(payload), `"wait"`) {
				waits = true
				continue
			}
			send(2, append(payload, '\n'))
		case 0:
			send(1, payload)
		case 4:
			if waits {
				continue
			}
			send(3, []byte(`{"ExitCode":3}`))
			return nil
		}
	}
}

func (d *fakeDaemon) events(w http.ResponseWriter, r *http.Request) error {
	e := json.NewEncoder(w)
	for i, action := range []string{"create", "enable"} {
		at := scriptNow.Add(time.Duration(i) * time.Second)
		m := outlet.Message{
			Type: "plugin", Action: action, Scope: "local", Time: at.Unix(), TimeNano: at.UnixNano(),
			Actor: outlet.Actor{ID: strings.Repeat("a", 64), Attributes: map[string]string{"name": "sample/v10:latest"}},
		}
		if err := e.Encode(m); err != nil {
			return err
		}
	}
	if r.FormValue("until") == "" {
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
	return nil
}

func (d *fakeDaemon) version(w http.ResponseWriter, _ *http.Request) error {
	_, err := io.WriteString(w, `{"Platform":{"Name":"Outlet"},"Version":"1.2.3","ApiVersion":"1.51","MinAPIVersion":"1.25","Os":"linux","Arch":"amd64",
 "Components":[{"Name":"Engine","Version":"1.2.3","Details":{"ApiVersion":"1.51","MinAPIVersion":"1.25","GitCommit":"abc","GoVersion":"go1.26","Os":"linux","Arch":"amd64","BuildTime":"2026-01-02T03:04:05.000000000+00:00","KernelVersion":"6.1","Experimental":"false"}},
 {"Name":"runc","Version":"1.3","Details":{"GitCommit":"def"}}]}`)
	return err
}

func (d *fakeDaemon) info(w http.ResponseWriter, _ *http.Request) error {
	_, err := io.WriteString(w, `{"Version":"1.2.3","Root":"/var/lib/outlet","ExecRoot":"/run/outlet","Runtime":{"Name":"runc","Path":"/usr/bin/runc","Version":"1.3","Isolates":true},
 "Snapshotter":"overlay","LiveRestore":true,"Warnings":["no swap limit"],"Plugins":{"Total":4,"Enabled":3,"Running":1}}`)
	return err
}

type volumeHandler func(http.ResponseWriter, *http.Request, *outlet.Volume) error

func (d *fakeDaemon) withVolume(f volumeHandler) func(http.ResponseWriter, *http.Request) error {
	return func(w http.ResponseWriter, r *http.Request) error {
		v := d.volumes[r.PathValue("name")]
		if v == nil {
			return fail(404, "get %s: no such volume", r.PathValue("name"))
		}
		return f(w, r, v)
	}
}

func (d *fakeDaemon) listVolumes(w http.ResponseWriter, _ *http.Request) error {
	list := outlet.VolumeList{Warnings: []string{"lookup of volumes in slow: deadline exceeded"}}
	for _, v := range d.volumes {
		list.Volumes = append(list.Volumes, *v)
	}
	return answer(w, list)
}

func (d *fakeDaemon) createVolume(w http.ResponseWriter, r *http.Request) error {
	var c outlet.VolumeCreate
	if err := json.NewDecoder(r.Body).Decode(&c); err != nil {
		return err
	}
	if c.Driver == "" {
		return fail(400, "no driver given: the drivers here are sample/v10:latest")
	}
	if c.Name == "" {
		c.Name = "made"
	}
	v := outlet.Volume{Name: c.Name, Driver: c.Driver, Labels: c.Labels, Options: c.DriverOpts}
	d.volumes[v.Name] = &v
	w.WriteHeader(201)
	return answer(w, v)
}

func (d *fakeDaemon) removeVolume(w http.ResponseWriter, _ *http.Request, v *outlet.Volume) error {
	if v.Outlet != nil && len(v.Outlet.Mounts) > 0 {
		return fail(409, "remove %s: volume is in use - [one]", v.Name)
	}
	delete(d.volumes, v.Name)
	w.WriteHeader(204)
	return nil
}

func (d *fakeDaemon) mount(w http.ResponseWriter, r *http.Request, v *outlet.Volume) error {
	var body struct{ ID string }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		return err
	}
	if body.ID == "" {
		body.ID = "made"
	}
	return answer(w, map[string]string{"Mountpoint": "/host/" + v.Name, "ID": body.ID})
}

func (d *fakeDaemon) unmount(w http.ResponseWriter, r *http.Request, v *outlet.Volume) error {
	var body struct{ ID string }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		return err
	}
	if v.Name == "scratch9" {
		return fail(404, "%s is not mounted", v.Name)
	}
	w.WriteHeader(204)
	return nil
}
