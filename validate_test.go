package outlet_test

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/outletd/outlet"
)

const bad = "invalid plugin config: "

// validateTest is a row of the table of docs/spec/managed-plugins.md §2.4. What
// create and pull say is an error if it begins with "E ", a warning if it begins
// with "W ", and nothing if it is empty.
type validateTest struct {
	config       outlet.Config
	create, pull string
}

func socket(name string) outlet.Config {
	return outlet.Config{Interface: outlet.Interface{Socket: name}}
}

func types(names ...string) outlet.Config {
	var c outlet.Config
	for _, n := range names {
		c.Interface.Types = append(c.Interface.Types, outlet.ParseCapability(n))
	}
	return c
}

func mounts(m ...outlet.Mount) outlet.Config { return outlet.Config{Mounts: m} }

func caps(names ...string) outlet.Config {
	return outlet.Config{Linux: outlet.Linux{Capabilities: names}}
}

func both(config outlet.Config, says string) validateTest { return validateTest{config, says, says} }

func TestValidate(t *testing.T) {
	const noName = "is no file name: it must be one without slashes and control characters"
	inSocketDir := func(p string) string { return `"` + p + `" is the plugin's socket directory or in it` }
	a := []string{"value"}
	tests := map[string]validateTest{
		"nothing but a description": both(outlet.Config{Description: "x"}, ""),
		"mounts and devices without anything": both(outlet.Config{
			Mounts: []outlet.Mount{{Type: "none"}}, Linux: outlet.Linux{Devices: []outlet.Device{{}}},
		}, ""),

		"a socket":                          both(socket("plugin.sock"), ""),
		"a socket whose name has 80 bytes":  both(socket(strings.Repeat("s", 80)), ""),
		"a socket whose name has 81 bytes":  both(socket(strings.Repeat("s", 81)), "E Interface.Socket: is 81 bytes long: at most 80 are possible, since the path of a socket has at most 107"),
		"a socket in another directory":     both(socket("../x/x.sock"), `E Interface.Socket: "../x/x.sock" `+noName),
		"a socket that is the directory":    both(socket("."), `E Interface.Socket: "." `+noName),
		"a socket that is the parent":       both(socket(".."), `E Interface.Socket: ".." `+noName),
		"a socket with a NUL byte":          both(socket("a\x00b"), `E Interface.Socket: "a\x00b" `+noName),
		"a socket with a control character": both(socket("a\nb"), `E Interface.Socket: "a\nb" `+noName),

		"types that are not Docker's":         both(types("foo.bar.x/1", "volumedriver"), ""),
		"a type without capability":           both(types("docker./1.0"), `E Interface.Types[0]: "docker./1.0" names no capability: a type is for example docker.volumedriver/1.0`),
		"an empty type":                       both(types(""), `E Interface.Types[0]: "" names no capability: a type is for example docker.volumedriver/1.0`),
		"a type twice":                        both(types("docker.authz/1.0", "docker.authz/1.0"), "W Interface.Types[1]: docker.authz/1.0 is there more than once"),
		"a type in two versions is two types": both(types("docker.authz/1.0", "docker.authz/2.0"), ""),

		"a relative propagated mount":                 both(outlet.Config{PropagatedMount: "data"}, `E PropagatedMount: "data" must be an absolute path`),
		"a propagated mount with dots":                both(outlet.Config{PropagatedMount: "/a/../b"}, `E PropagatedMount: "/a/../b" must not contain ".."`),
		"the root as propagated mount":                both(outlet.Config{PropagatedMount: "//"}, `E PropagatedMount: must not be "/"`),
		"a propagated mount in the socket directory":  both(outlet.Config{PropagatedMount: "/run/docker/plugins/x"}, "W PropagatedMount: "+inSocketDir("/run/docker/plugins/x")),
		"a propagated mount above it":                 both(outlet.Config{PropagatedMount: "/run/docker"}, ""),
		"a propagated mount whose name begins so":     both(outlet.Config{PropagatedMount: "/run/docker/pluginsx"}, ""),
		"a relative working directory":                both(outlet.Config{WorkDir: "w"}, `E WorkDir: "w" must be an absolute path`),
		"the root as working directory":               both(outlet.Config{WorkDir: "/"}, ""),
		"a working directory with dots":               both(outlet.Config{WorkDir: "/w/.."}, `E WorkDir: "/w/.." must not contain ".."`),
		"a working directory in the socket directory": both(outlet.Config{WorkDir: "/run/docker/plugins/"}, "W WorkDir: "+inSocketDir("/run/docker/plugins")),
		"a relative destination":                      both(mounts(outlet.Mount{Destination: "m"}), `E Mounts[0].Destination: "m" must be an absolute path`),
		"a destination with dots":                     both(mounts(outlet.Mount{}, outlet.Mount{Destination: "/m/../x"}), `E Mounts[1].Destination: "/m/../x" must not contain ".."`),
		"a name with two dots in it":                  both(mounts(outlet.Mount{Destination: "/m..x/..."}), ""),
		"the root as destination":                     both(mounts(outlet.Mount{Destination: "/."}), `E Mounts[0].Destination: must not be "/"`),
		"a destination with a NUL byte":               both(mounts(outlet.Mount{Destination: "/a\x00"}), "E Mounts[0].Destination: must not contain a NUL byte"),
		"a destination that is the socket directory":  both(mounts(outlet.Mount{Destination: "/run/docker/plugins"}), "W Mounts[0].Destination: "+inSocketDir("/run/docker/plugins")),
		"a destination twice":                         both(mounts(outlet.Mount{Destination: "/m"}, outlet.Mount{Destination: "/m/"}), `W Mounts[1].Destination: "/m" is that of Mounts[0] too, which is hidden`),
		"a destination on the propagated mount":       both(outlet.Config{PropagatedMount: "/p/q", Mounts: []outlet.Mount{{Destination: "/p/q"}}}, `W Mounts[0].Destination: "/p/q" hides the propagated mount "/p/q"`),
		"a destination above the propagated mount":    both(outlet.Config{PropagatedMount: "/p/q", Mounts: []outlet.Mount{{Destination: "/p"}}}, `W Mounts[0].Destination: "/p" hides the propagated mount "/p/q"`),
		"a destination in the propagated mount":       both(outlet.Config{PropagatedMount: "/p/q", Mounts: []outlet.Mount{{Destination: "/p/q/r"}}}, ""),
		"a destination whose name begins so":          both(outlet.Config{PropagatedMount: "/p/q", Mounts: []outlet.Mount{{Destination: "/p/qq"}}}, ""),
		"a source with a NUL byte":                    both(mounts(outlet.Mount{Source: ptr("/a\x00")}), "E Mounts[0].Source: must not contain a NUL byte"),
		"a relative source can be set right":          both(mounts(outlet.Mount{Source: ptr("a")}), ""),

		"options and types as deployed plugins have them": both(mounts(
			outlet.Mount{Type: "bind", Options: []string{"rbind", "rshared"}}, outlet.Mount{Type: "none", Options: []string{"bind", "ro"}},
			outlet.Mount{Type: "", Options: []string{"readonly", "shared"}}, outlet.Mount{Type: "tmpfs", Options: []string{"size=1m", "nosuid"}},
			outlet.Mount{Type: "nfs", Options: []string{"nolock"}}, outlet.Mount{Type: "fuse.sshfs", Options: []string{"allow_other"}},
		), ""),
		"an unknown option":         both(mounts(outlet.Mount{Type: "bind", Options: []string{"rbind", "rshred"}}), `W Mounts[0].Options[1]: "rshred" is no known option`),
		"an unknown type of mount":  both(mounts(outlet.Mount{Type: "bnd"}), `W Mounts[0].Type: "bnd" is no known type: there are bind, tmpfs, none and file systems`),
		"an option with a NUL byte": both(mounts(outlet.Mount{Type: "tmpfs", Options: []string{"size=\x00"}}), "E Mounts[0].Options[0]: must not contain a NUL byte"),

		"a relative device":      both(outlet.Config{Linux: outlet.Linux{Devices: []outlet.Device{{Path: ptr("fuse")}}}}, `E Linux.Devices[0].Path: "fuse" must be an absolute path`),
		"a device with dots":     both(outlet.Config{Linux: outlet.Linux{Devices: []outlet.Device{{Path: ptr("/dev/../etc")}}}}, `E Linux.Devices[0].Path: "/dev/../etc" must not contain ".."`),
		"a device that is unset": both(outlet.Config{Linux: outlet.Linux{Devices: []outlet.Device{{Path: ptr("")}}}}, ""),

		"a variable without name":          both(outlet.Config{Env: []outlet.Env{{}}}, "E Env[0].Name: must not be empty"),
		"a variable with an equals sign":   both(outlet.Config{Env: []outlet.Env{{Name: "A=B"}}}, `E Env[0].Name: "A=B" must not contain "=" or a NUL byte`),
		"a variable with a NUL byte":       both(outlet.Config{Env: []outlet.Env{{Name: "A\x00"}}}, `E Env[0].Name: "A\x00" must not contain "=" or a NUL byte`),
		"a value with a NUL byte":          both(outlet.Config{Env: []outlet.Env{{Name: "A", Value: ptr("\x00")}}}, "E Env[0].Value: must not contain a NUL byte"),
		"an argument with a NUL byte":      both(outlet.Config{Args: outlet.Args{Value: []string{"a", "\x00"}}}, "E Args.Value[1]: must not contain a NUL byte"),
		"an entry point with a NUL byte":   both(outlet.Config{Entrypoint: []string{"\x00"}}, "E Entrypoint[0]: must not contain a NUL byte"),
		"names of variables are not words": both(outlet.Config{Env: []outlet.Env{{Name: "linode-token"}, {Name: "http_proxy"}, {Name: "ä ö"}}}, ""),

		"the five networks": both(outlet.Config{Network: outlet.Network{Type: "null"}}, ""),
		"another network":   both(outlet.Config{Network: outlet.Network{Type: "swarm"}}, `W Network.Type: "swarm" is no network here, the plugin gets one of its own without interfaces; there are host, bridge, none and null`),

		"capabilities":            both(caps("CAP_SYS_ADMIN", "CAP_NET_ADMIN"), ""),
		"a capability in short":   {caps("SYS_ADMIN"), `E Linux.Capabilities[0]: "SYS_ADMIN" is no capability: it must be one such as CAP_SYS_ADMIN`, `W Linux.Capabilities[0]: "SYS_ADMIN" is no capability: it must be one such as CAP_SYS_ADMIN, it is left out`},
		"a capability in small":   {caps("cap_sys_admin"), `E Linux.Capabilities[0]: "cap_sys_admin" is no capability: it must be one such as CAP_SYS_ADMIN`, `W Linux.Capabilities[0]: "cap_sys_admin" is no capability: it must be one such as CAP_SYS_ADMIN, it is left out`},
		"all capabilities":        {caps("ALL"), `E Linux.Capabilities[0]: "ALL" is not possible: each capability must be named`, `W Linux.Capabilities[0]: "ALL" is not possible: each capability must be named, it is left out`},
		"a capability twice":      {caps("CAP_X", "CAP_X"), `E Linux.Capabilities[1]: "CAP_X" is there more than once`, `W Linux.Capabilities[1]: "CAP_X" is there more than once, it is left out`},
		"a capability of no name": {caps("CAP_"), `E Linux.Capabilities[0]: "CAP_" is no capability: it must be one such as CAP_SYS_ADMIN`, `W Linux.Capabilities[0]: "CAP_" is no capability: it must be one such as CAP_SYS_ADMIN, it is left out`},

		"a name twice, both settable": {
			outlet.Config{Env: []outlet.Env{{Name: "x", Settable: a}}, Mounts: []outlet.Mount{{Name: "x", Settable: []string{"source"}}}},
			`E Mounts[0].Name: "x" is the name of Env[0] too: set reaches only that`, `W Mounts[0].Name: "x" is the name of Env[0] too: set reaches only that`,
		},
		"a name twice, none settable":     both(outlet.Config{Env: []outlet.Env{{Name: "x"}, {Name: "x"}}}, ""),
		"a name twice, the first is":      both(outlet.Config{Env: []outlet.Env{{Name: "x", Settable: a}, {Name: "x"}}}, ""),
		"a name twice, the first is not":  both(outlet.Config{Env: []outlet.Env{{Name: "x"}, {Name: "x", Settable: a}}}, `W Env[1].Name: "x" is the name of Env[0] too, which is not settable: set does not reach this one`),
		"settable arguments without name": {outlet.Config{Args: outlet.Args{Settable: a}}, "E Args.Name: must not be empty: what is settable needs a name to be set by", "W Args.Name: must not be empty: what is settable needs a name to be set by"},
		"a settable mount without name":   both(mounts(outlet.Mount{Settable: []string{"source"}}), "W Mounts[0].Name: is empty: what is settable needs a name to be set by"),
		"a name of arguments taken":       {outlet.Config{Env: []outlet.Env{{Name: "x", Settable: a}}, Args: outlet.Args{Name: "x", Settable: a}}, `E Args.Name: "x" is the name of Env[0] too: set reaches only that`, `W Args.Name: "x" is the name of Env[0] too: set reaches only that`},

		"another field of a variable": {outlet.Config{Env: []outlet.Env{{Name: "x", Settable: []string{"name"}}}}, `E Env[0].Settable[0]: "name" cannot be settable, only "value" can`, `W Env[0].Settable[0]: "name" cannot be settable, only "value" can`},
		"another field of a mount":    {mounts(outlet.Mount{Name: "x", Settable: []string{"source", "options"}}), `E Mounts[0].Settable[1]: "options" cannot be settable, only "source" can`, `W Mounts[0].Settable[1]: "options" cannot be settable, only "source" can`},
		"another field of a device":   {outlet.Config{Linux: outlet.Linux{Devices: []outlet.Device{{Name: "x", Settable: []string{"value"}}}}}, `E Linux.Devices[0].Settable[0]: "value" cannot be settable, only "path" can`, `W Linux.Devices[0].Settable[0]: "value" cannot be settable, only "path" can`},
		"another field of arguments":  {outlet.Config{Args: outlet.Args{Name: "x", Settable: []string{"Value"}}}, `E Args.Settable[0]: "Value" cannot be settable, only "value" can`, `W Args.Settable[0]: "Value" cannot be settable, only "value" can`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			before := tt.config.Clone()
			for strict, says := range map[bool]string{true: tt.create, false: tt.pull} {
				_, warnings, err := outlet.Validate(tt.config, outlet.ValidateOptions{Strict: strict, MaxSocketName: 80})
				var got string
				if err != nil {
					got = "E " + strings.TrimPrefix(err.Error(), bad)
				}
				for _, w := range warnings {
					got += "W " + w
				}
				if got != says {
					t.Errorf("strict %v:\ngot  %s\nwant %s", strict, got, says)
				}
				if err != nil && (!errdefs.IsInvalidArgument(err) || !strings.HasPrefix(err.Error(), bad)) {
					t.Errorf("strict %v: error %v", strict, err)
				}
			}
			if diff := cmp.Diff(before, tt.config); diff != "" {
				t.Errorf("the config changed:\n%s", diff)
			}
		})
	}
}

func TestValidateTellsAllErrors(t *testing.T) {
	_, _, err := outlet.Validate(outlet.Config{WorkDir: "w", PropagatedMount: "p", Env: []outlet.Env{{}}}, outlet.ValidateOptions{})
	for _, want := range []string{"WorkDir", "PropagatedMount", "Env[0].Name"} {
		if err == nil || !strings.Contains(err.Error(), bad+want+": ") {
			t.Errorf("%s is not told: %v", want, err)
		}
	}
}

func TestValidateMends(t *testing.T) {
	in := outlet.Config{
		PropagatedMount: "/mnt//volumes/", WorkDir: "/w/./x",
		Mounts:    []outlet.Mount{{Destination: "/m/"}},
		Interface: outlet.Interface{Types: []outlet.Capability{{Prefix: "docker", Capability: "authz"}, {Prefix: "docker", Capability: "authz"}}},
		Linux:     outlet.Linux{Capabilities: []string{"ALL", "CAP_X", "CAP_X"}, Devices: []outlet.Device{{Path: ptr("/dev//fuse")}}},
	}
	got, _, err := outlet.Validate(in, outlet.ValidateOptions{})
	want := outlet.Config{
		PropagatedMount: "/mnt/volumes", WorkDir: "/w/x",
		Mounts:    []outlet.Mount{{Destination: "/m"}},
		Interface: outlet.Interface{Types: []outlet.Capability{{Prefix: "docker", Capability: "authz"}}},
		Linux:     outlet.Linux{Capabilities: []string{"CAP_X"}, Devices: []outlet.Device{{Path: ptr("/dev/fuse")}}},
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	whole, _, err := outlet.Validate(fullConfig(), outlet.ValidateOptions{Strict: true, MaxSocketName: 80})
	if diff := cmp.Diff(fullConfig(), whole); err != nil || diff != "" {
		t.Errorf("a config with nothing to mend: %v %s", err, diff)
	}
}

func TestReady(t *testing.T) {
	ready := func(change func(*outlet.Config)) outlet.Config {
		c := types("docker.volumedriver/1.0")
		c.Interface.Socket = "x.sock"
		c.Entrypoint = []string{"/x"}
		change(&c)
		return c
	}
	mount := func(m outlet.Mount) outlet.Config {
		return ready(func(c *outlet.Config) { c.Mounts = []outlet.Mount{m} })
	}
	device := func(d outlet.Device) outlet.Config {
		return ready(func(c *outlet.Config) { c.Linux.Devices = []outlet.Device{d} })
	}
	tests := map[string]struct {
		config outlet.Config
		want   string
	}{
		"enough":                      {ready(func(*outlet.Config) {}), ""},
		"no program":                  {ready(func(c *outlet.Config) { c.Entrypoint = nil }), "E Entrypoint: must name the program that the plugin runs"},
		"arguments are a program too": {ready(func(c *outlet.Config) { c.Entrypoint = nil; c.Args.Value = []string{"/x"} }), ""},
		"a program without name":      {ready(func(c *outlet.Config) { c.Entrypoint = []string{""} }), "E Entrypoint[0]: must not be empty, it is the program that the plugin runs"},
		"no type":                     {ready(func(c *outlet.Config) { c.Interface.Types = nil }), "E Interface.Types: must name what the plugin provides, for example docker.volumedriver/1.0"},
		"no socket":                   {ready(func(c *outlet.Config) { c.Interface.Socket = "" }), "E Interface.Socket: must name the socket that the plugin listens on"},
		"a mount":                     {mount(outlet.Mount{Destination: "/d", Source: ptr("/s"), Type: "bind"}), ""},
		"a mount without destination": {mount(outlet.Mount{Source: ptr("/s"), Type: "bind"}), "E Mounts[0].Destination: must name where it is mounted"},
		"a mount without source":      {mount(outlet.Mount{Destination: "/d", Type: "bind"}), "E Mounts[0].Source: mount source is not specified"},
		"a mount that is not set": {
			mount(outlet.Mount{Name: "sshkey", Destination: "/root/.ssh", Source: ptr(""), Type: "none", Options: []string{"rbind"}, Settable: []string{"source"}}),
			"W Mounts[0].Source: is empty, the mount on /root/.ssh is left out; set it with sshkey.source=PATH",
		},
		"a mount that is not set and cannot be": {mount(outlet.Mount{Name: "x", Destination: "/d", Source: ptr(""), Type: "bind"}), "W Mounts[0].Source: is empty, the mount on /d is left out"},
		"a mount of no type is one of the host": {mount(outlet.Mount{Destination: "/d", Source: ptr("s")}), `E Mounts[0].Source: "s" must be an absolute path of the host`},
		"a file system of the host bound":       {mount(outlet.Mount{Destination: "/d", Source: ptr("s"), Type: "ext4", Options: []string{"rbind"}}), `E Mounts[0].Source: "s" must be an absolute path of the host`},
		"a tmpfs needs no source":               {mount(outlet.Mount{Destination: "/d", Source: ptr(""), Type: "tmpfs"}), ""},
		"a tmpfs with any source":               {mount(outlet.Mount{Destination: "/d", Source: ptr("tmpfs"), Type: "tmpfs"}), ""},
		"a relative source":                     {mount(outlet.Mount{Destination: "/d", Source: ptr("s"), Type: "bind"}), `E Mounts[0].Source: "s" must be an absolute path of the host`},
		"a source with dots":                    {mount(outlet.Mount{Destination: "/d", Source: ptr("/a/../b"), Options: []string{"bind"}}), `E Mounts[0].Source: "/a/../b" must not contain ".."`},
		"a source with a NUL byte":              {mount(outlet.Mount{Destination: "/d", Source: ptr("/a\x00"), Type: "bind"}), "E Mounts[0].Source: must not contain a NUL byte"},
		"a device":                              {device(outlet.Device{Path: ptr("/dev/fuse")}), ""},
		"a device without path":                 {device(outlet.Device{}), "E Linux.Devices[0].Path: device path is not specified"},
		"a device that is not set":              {device(outlet.Device{Name: "d", Path: ptr(""), Settable: []string{"path"}}), "E Linux.Devices[0].Path: device path is not specified; set it with d.path=PATH"},
		"a relative device":                     {device(outlet.Device{Path: ptr("fuse")}), `E Linux.Devices[0].Path: "fuse" must be an absolute path of the host`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			warnings, err := outlet.Ready(tt.config, outlet.NewSettings(tt.config))
			var got string
			if err != nil {
				got = "E " + strings.TrimPrefix(err.Error(), bad)
			}
			for _, w := range warnings {
				got += "W " + w
			}
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if err != nil && !errdefs.IsInvalidArgument(err) {
				t.Errorf("error %v has no class", err)
			}
		})
	}
	t.Run("what counts are the settings", func(t *testing.T) {
		c := mount(outlet.Mount{Name: "m", Destination: "/d", Source: ptr("/s"), Type: "bind", Settable: []string{"source"}})
		c.Env = []outlet.Env{{Name: "E", Settable: []string{"value"}}}
		c.Args = outlet.Args{Name: "args", Settable: []string{"value"}}
		s, err := outlet.NewSettings(c).Set(c, []string{"m=relative", "E=\x00", "args=\x00"})
		if err != nil {
			t.Fatal(err)
		}
		_, err = outlet.Ready(c, s)
		for _, want := range []string{"Mounts[0].Source: ", `Env: the value of "E" must not`, "Args.Value[0]: "} {
			if err == nil || !strings.Contains(err.Error(), bad+want) {
				t.Errorf("%q is not told: %v", want, err)
			}
		}
	})
}
