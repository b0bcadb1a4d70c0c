package hostile

import (
	"archive/tar"
	"encoding/json"
	"strings"
	"testing"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/testutil/daemontest"
)

// Each of these is refused when the plugin is created, or warned of and refused
// when it is enabled, and what is said names the field.
func TestConfigs(t *testing.T) {
	d, c := start(t)
	with := func(key string, value any) string {
		cfg := daemontest.PluginConfig()
		cfg[key] = value
		b, err := json.Marshal(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	socket := func(name string) string {
		return with("interface", map[string]any{"socket": name, "types": []string{"docker.volumedriver/1.0"}})
	}
	mount := func(destination string) string {
		return with("mounts", []map[string]any{{"name": "m", "source": "/tmp", "destination": destination, "type": "bind", "options": []string{"rbind"}}})
	}
	for name, tc := range map[string]struct{ config, want string }{
		"empty":                                 {"", "config"},
		"no object":                             {"[]", "config"},
		"cut short":                             {with("workdir", "/")[:100], "config"},
		"two objects":                           {with("workdir", "/") + "{}", "config"},
		"more than is read":                     {with("description", strings.Repeat("x", 1<<20)), "limit of 1048576 bytes in config.json"},
		"ten thousand levels":                   {`{"a":` + strings.Repeat("[", 10000) + strings.Repeat("]", 10000) + `}`, ""},
		"levels without an end":                 {`{"a":` + strings.Repeat("[", 1<<19), "config"},
		"a million keys":                        {`{` + strings.Repeat(`"a":1,`, 150000) + `"b":1}`, ""},
		"an entry point that is a number":       {with("entrypoint", 7), "entrypoint"},
		"an interface that is a list":           {with("interface", []string{"x"}), "interface"},
		"env of the wrong type":                 {with("env", map[string]string{"A": "B"}), "env"},
		"NUL in an argument":                    {with("entrypoint", []string{"/plugin", "a\x00b"}), "entrypoint"},
		"NUL in the environment":                {with("env", []map[string]any{{"name": "A\x00B", "value": "x"}}), "env"},
		"= in a name of the environment":        {with("env", []map[string]any{{"name": "A=B", "value": "x"}}), "env"},
		"a socket below another directory":      {socket("a/p.sock"), "socket"},
		"a socket above":                        {socket("../p.sock"), "socket"},
		"a socket that is the directory":        {socket(".."), "socket"},
		"a socket with NUL":                     {socket("p\x00.sock"), "socket"},
		"a socket with a line feed":             {socket("p\n.sock"), "socket"},
		"a socket longer than the kernel takes": {socket(strings.Repeat("s", 100) + ".sock"), "socket"},
		"a mount onto the root":                 {mount("/"), "destination"},
		"a mount that climbs out":               {mount("/../../etc"), "destination"},
		"a mount at a relative path":            {mount("etc"), "destination"},
		"a mount with NUL":                      {mount("/a\x00b"), "destination"},
		"a mount over the socket's directory":   {mount("/run/docker/plugins"), "run/docker/plugins"},
		"a mount over /proc":                    {mount("/proc"), "proc"},
		"a propagated mount that climbs out":    {with("propagatedMount", "/../.."), "propagated"},
		"a propagated mount over the root":      {with("propagatedMount", "/"), "propagated"},
		"a device that climbs out":              {with("linux", map[string]any{"devices": []map[string]any{{"name": "d", "path": "/dev/../etc/passwd"}}}), "device"},
		"a capability that is none":             {with("linux", map[string]any{"capabilities": []string{"CAP_EVERYTHING"}}), "hostile"},
	} {
		t.Run(name, func(t *testing.T) {
			archive := stream(t, func(p packer) error {
				err := p.file("config.json", tc.config)
				if err == nil {
					err = p.entry(&tar.Header{Name: "rootfs/", Typeflag: tar.TypeDir}, "")
				}
				return err
			})
			_, warnings, err := c.Create(t.Context(), "hostile", archive, outlet.CreateOptions{})
			text := strings.Join(warnings, "\n")
			if err == nil {
				// Contained: there is a warning, or the runtime refuses.
				if err := c.Enable(t.Context(), "hostile", outlet.EnableOptions{}); err != nil {
					text += err.Error()
				} else {
					t.Error("it runs")
				}
				d.Outlet("rm", "-f", "hostile").OK()
			} else {
				text = err.Error()
			}
			if !strings.Contains(strings.ToLower(text), tc.want) {
				t.Errorf("nothing says %q: %.300s", tc.want, text)
			}
			if len(text) > 4096 {
				t.Errorf("the error has %d bytes: %.100s", len(text), text)
			}
			nothingLeft(t, d)
		})
	}
}

// Settings come from users, who may be programs.
func TestSettings(t *testing.T) {
	d, c := start(t)
	cfg := daemontest.PluginConfig()
	cfg["env"] = []map[string]any{{"name": "A", "value": "", "settable": []string{"value"}}}
	cfg["mounts"] = []map[string]any{{"name": "m", "source": "/tmp", "destination": "/m", "type": "bind", "options": []string{"rbind"}, "settable": []string{"source"}}}
	raw, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	archive := stream(t, func(p packer) error {
		return errorsFirst(p.file("config.json", string(raw)), p.entry(&tar.Header{Name: "rootfs/", Typeflag: tar.TypeDir}, ""))
	})
	if _, _, err := c.Create(t.Context(), "hostile", archive, outlet.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		set  []string
		want string
		late bool // what is wrong with the value is told when the plugin is enabled
	}{
		"nothing":              {[]string{""}, "invalid format", false},
		"no name":              {[]string{"=x"}, "invalid format", false},
		"no such setting":      {[]string{"B=x"}, `"B"`, false},
		"no such field":        {[]string{"m.destination=/etc"}, "destination", false},
		"the last one is bad":  {[]string{"A=x", "B=x"}, `"B"`, false},
		"more than is allowed": {[]string{"A=" + strings.Repeat("x", 8<<20)}, "too large", false},
		"NUL":                  {[]string{"A=a\x00b"}, "NUL byte", true},
		"a relative source":    {[]string{"m.source=etc"}, "absolute path", true},
		"NUL in a source":      {[]string{"m.source=/a\x00b"}, "NUL byte", true},
		"no such source":       {[]string{"m.source=/nonexistent/outlet"}, "does not exist", true},
	} {
		t.Run(name, func(t *testing.T) {
			before := d.Outlet("inspect", "-f", "{{json .Settings}}", "hostile").OK()
			err := c.Set(t.Context(), "hostile", outlet.SetOptions{Set: tc.set})
			if tc.late && err == nil {
				err = c.Enable(t.Context(), "hostile", outlet.EnableOptions{})
				if err := c.Set(t.Context(), "hostile", outlet.SetOptions{Unset: []string{"A", "m.source"}}); err != nil {
					t.Error(err)
				}
			}
			if err == nil {
				t.Error("it is accepted")
			} else if text := err.Error(); !strings.Contains(text, tc.want) || len(text) > 4096 {
				t.Errorf("the error does not say %q: %.300s", tc.want, text)
			}
			if after := d.Outlet("inspect", "-f", "{{json .Settings}}", "hostile").OK(); after != before {
				t.Errorf("the settings are %.200s, were %s", after, before)
			}
		})
	}
	d.Outlet("rm", "hostile").OK()
	// Names lead nowhere else either.
	for _, name := range []string{"..", "../..", "a/../b", "%2e%2e", ".", "a\x00b", "A", strings.Repeat("a", 300), "x:y:z", "-"} {
		archive := stream(t, func(p packer) error { return p.entries() })
		if _, _, err := c.Create(t.Context(), name, archive, outlet.CreateOptions{}); err == nil {
			t.Errorf("the name %q is accepted", name)
			d.Outlet("rm", "-f", name)
		}
	}
}
