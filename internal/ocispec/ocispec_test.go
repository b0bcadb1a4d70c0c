package ocispec

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/host"
)

func ptr[T any](v T) *T { return &v }

// result is what the golden files hold.
type result struct {
	Warnings []string `json:",omitempty"`
	Spec     *specs.Spec
}

// What configs in the field do (docs/spec/users-and-plugins.md §3), and what
// there is beside.
func TestSpecs(t *testing.T) {
	for name, change := range map[string]func(in *Input){
		"base":      func(in *Input) {},
		"base-v1":   func(in *Input) { in.Host = hosts()["v1"] },
		"base-v2":   func(in *Input) { in.Host = hosts()["v2"] },
		"base-user": func(in *Input) { in.Host = hosts()["userns"] },
		"sshfs-empty-source": func(in *Input) {
			m := mount("bind", "", "/root/.ssh", "rbind")
			m.Name, m.Settable = "sshkey", []string{"source"}
			in.Settings.Mounts = []outlet.Mount{m, mount("bind", "/var/lib/docker/plugins/", "/mnt/state", "rbind")}
			in.Config.PropagatedMount = "/mnt/volumes/"
			in.Config.Linux.Capabilities = []string{"CAP_SYS_ADMIN"}
			in.Settings.Devices = []outlet.Device{{Path: ptr("/dev/fuse")}}
			in.Devices = []host.Device{{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229, Mode: 0o666}}
		},
		"metrics": func(in *Input) {
			in.Config.Interface.Types = []outlet.Capability{{Prefix: "docker", Capability: "metricscollector", Version: "1.0"}}
			in.Config.PropagatedMount = "/run/docker"
			in.Config.Network.Type = "host"
			in.MetricsSocket = "/run/outlet/metrics.sock"
		},
		"docker-socket": func(in *Input) {
			in.Settings.Mounts = []outlet.Mount{mount("bind", "/var/run/docker.sock", "/run/docker.sock", "bind")}
			in.Config.Network.Type = "host"
			in.Config.PidHost = true
			in.Config.Linux.Capabilities = []string{"CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE"}
		},
		"host-dev-sys-root": func(in *Input) {
			in.Settings.Mounts = []outlet.Mount{
				mount("bind", "/dev", "/dev", "rbind", "rshared"), mount("bind", "/sys", "/sys/", "rbind"),
				mount("bind", "/lib/modules", "/lib/modules", "rbind", "ro"), mount("bind", "/", "/host", "rbind", "rshared"),
			}
			in.Config.Linux.AllowAllDevices = true
			in.Config.IpcHost, in.Config.PidHost = true, true
			in.Config.Linux.Capabilities = []string{"CAP_SYS_ADMIN", "CAP_SYS_MODULE"}
			in.Settings.Devices = []outlet.Device{{Path: ptr("/dev/null")}}
			in.Devices = []host.Device{{Path: "/dev/null", Type: "c", Major: 1, Minor: 3}}
		},
		"mount-words": func(in *Input) {
			in.Settings.Mounts = []outlet.Mount{
				mount("none", "/a", "/a", "bind", "ro"), mount("none", "/b", "/b"), mount("", "/c", "/c", "readonly", "shared"),
				mount("bind", "/d", "/d", "private"), mount("bind", "/e", "/e"), mount("tmpfs", "tmpfs", "/f", "size=1m", "readonly"), mount("tmpfs", "", "/g"),
			}
		},
		"mounts-below-dev": func(in *Input) {
			in.Settings.Mounts = []outlet.Mount{mount("bind", "/dev/shm", "/dev/shm"), mount("bind", "/dev/mqueue", "/dev/mqueue"), mount("bind", "/dev/snd", "/dev/snd")}
		},
		"args-and-environment": func(in *Input) {
			in.Config.Entrypoint = []string{"./venv/bin/python", "-u"}
			in.Config.WorkDir = "/opt/app/"
			in.Settings.Args = []string{"-v", "--x", ""}
			in.Settings.Env = []string{"linode-token=x=y", "apikey=", "http_proxy=a", "PATH=/mine:/bin", "apikey=z", "CSI_ENDPOINT=unix:///run/docker/plugins/csi.sock"}
		},
		"network-of-its-own": func(in *Input) { in.Config.Network.Type = "seaweedfs_internal" },
		"limits-and-policy": func(in *Input) {
			in.Host = hosts()["v2"]
			in.Limits = Limits{MemoryBytes: 64 << 20, CPUs: 1.5, PIDs: 100}
			in.HonourUser, in.NoNewPrivileges, in.ReadonlyRootfs = true, true, true
			in.Config.User = outlet.User{UID: 1000, GID: 100}
			in.Config.Linux.Capabilities = []string{"CAP_SYS_NICE"}
			in.Hostname, in.OOMScoreAdj, in.CgroupParent = "rclone", ptr(-500), "/machine/outlet"
			in.Seccomp = &specs.LinuxSeccomp{DefaultAction: specs.ActAllow}
		},
		"user-namespace": func(in *Input) {
			in.Host = hosts()["userns"]
			in.Config.Network.Type = "host"
			in.Config.PidHost, in.Config.IpcHost = true, true
			in.Config.PropagatedMount, in.PropagatedDir = "/data", "/home/u/propagated"
			in.Settings.Mounts = []outlet.Mount{mount("bind", "/usb", "/usb", "rbind", "rw")}
			in.MountFlags = map[string][]string{
				"/usb": {"ro", "nosuid", "nodev", "relatime"}, "/home/u/propagated": {"nosuid", "nodev"}, "/proc": {"relatime"},
			}
			in.Limits = Limits{PIDs: 5}
		},
		"user-namespace-delegated": func(in *Input) {
			in.Host = hosts()["delegated"]
			in.Limits = Limits{MemoryBytes: 1 << 20, CPUs: 1, PIDs: 5}
		},
		"unknown-capabilities": func(in *Input) {
			in.Host.Capabilities = in.Host.Capabilities.Without("CAP_SYS_RESOURCE", "CAP_AUDIT_WRITE")
			in.Config.Linux.Capabilities = []string{"CAP_SYS_RESOURCE", "CAP_NONSENSE", "ALL", "CAP_CHOWN", "CAP_CHOWN"}
		},
		"devices": func(in *Input) {
			in.Settings.Devices = []outlet.Device{{Path: ptr("/dev/fuse")}, {Path: ptr("/dev/block")}}
			in.Devices = []host.Device{
				{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229, Mode: 0o666},
				{Path: "/dev/sda", Type: "b", Major: 8, Mode: 0o660, GID: 6},
				{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229, Mode: 0o666},
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := input()
			in.PropagatedDir = "/var/lib/outlet/plugins/0123456789ab/propagated-mount"
			change(&in)
			before := marshal(t, in)
			spec, warnings, err := Build(in)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(before, marshal(t, in)); d != "" {
				t.Errorf("the input was changed:\n%s", d)
			}
			golden(t, name, result{warnings, spec})
		})
	}
}

func marshal(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Keys in any case and keys nobody knows (rexray, juicefs).
func TestSpecOfAConfigWithOddKeys(t *testing.T) {
	in := input()
	err := json.Unmarshal([]byte(`{"ENTRYPOINT":["/rexray"],"Workdir":"/x","Network":{"Type":"host"},"Linux":{"AllowAllDevices":true,
		"capabilities":["CAP_SYS_ADMIN"]},"PropagatedMount":"/var/lib/rexray","mount":[{"source":"/never"}],"pidhost":true}`), &in.Config)
	if err != nil {
		t.Fatal(err)
	}
	in.PropagatedDir = "/p"
	spec, warnings, err := Build(in)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "odd-keys", result{warnings, spec})
}

func TestPluginsThatCannotBeStarted(t *testing.T) {
	settable := mount("bind", "/gone", "/mnt", "rbind")
	settable.Name, settable.Settable = "state", []string{"source"}
	for name, c := range map[string]struct {
		change func(in *Input)
		text   string
	}{
		"no entry point":         {func(in *Input) { in.Config.Entrypoint = nil }, "invalid plugin config: Entrypoint: it is empty, so there is nothing to start"},
		"a mount without source": {func(in *Input) { in.Settings.Mounts = []outlet.Mount{{Type: "none"}} }, "mount source is not specified"},
		"a mount without destination": {
			func(in *Input) { in.Settings.Mounts = []outlet.Mount{mount("bind", "/a", "")} },
			`invalid plugin config: Mounts: the mount on : destination "" is not an absolute path below /`,
		},
		"a mount on the root": {
			func(in *Input) { in.Settings.Mounts = []outlet.Mount{mount("bind", "/a", "//.")} },
			`invalid plugin config: Mounts: the mount on //.: destination "//." is not an absolute path below /`,
		},
		"a relative source": {
			func(in *Input) { in.Settings.Mounts = []outlet.Mount{mount("bind", "a", "/b")} },
			`the mount on /b: source "a" is not an absolute path`,
		},
		"a source that does not exist": {func(in *Input) {
			in.Settings.Mounts = []outlet.Mount{mount("bind", "/gone", "/mnt", "rbind")}
			in.Missing = []string{"/gone"}
		}, "the mount on /mnt: its source /gone does not exist on this host: create it"},
		"one that can be set": {func(in *Input) {
			in.Settings.Mounts = []outlet.Mount{settable}
			in.Missing = []string{"/gone"}
		}, "mount state: its source /gone does not exist on this host: create it, or set another with state.source=PATH"},
		"a device without path": {func(in *Input) { in.Settings.Devices = []outlet.Device{{Name: "d"}} }, "device path is not specified"},
		"one whose path can be set": {func(in *Input) {
			in.Settings.Devices = []outlet.Device{{Name: "disk", Path: ptr(""), Settable: []string{"path"}}}
		}, "device path is not specified; set it with disk.path=PATH"},
		"a propagated mount on the root": {
			func(in *Input) { in.Config.PropagatedMount, in.PropagatedDir = "/.", "/p" },
			`invalid plugin config: PropagatedMount: "/." cannot be mounted from "/p"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := input()
			c.change(&in)
			_, _, err := Build(in)
			if !errors.Is(err, errdefs.ErrInvalidArgument) || err.Error() != c.text {
				t.Errorf("error %v, want %s", err, c.text)
			}
		})
	}
	if _, _, err := Build(Input{Config: outlet.Config{Entrypoint: []string{"/x"}}}); err == nil {
		t.Error("a spec was made of nothing")
	}
}

func TestLookupNamesAllThatIsOnTheHost(t *testing.T) {
	in := input()
	in.Config.Network.Type = "host"
	in.Config.PropagatedMount, in.PropagatedDir = "/mnt", "/p"
	in.Settings.Mounts = []outlet.Mount{mount("bind", "/a", "/x"), mount("tmpfs", "tmpfs", "/y"), mount("none", "/a", "/z"), mount("bind", "", "/w")}
	in.Settings.Devices = []outlet.Device{{Path: ptr("/dev/fuse")}, {Path: ptr("")}, {}}
	n := Lookup(in)
	if want := []string{"/dev/fuse"}; !slices.Equal(n.Devices, want) {
		t.Errorf("devices %v", n.Devices)
	}
	if want := []string{"/p", "/a", in.SocketDir, "/etc/hosts", "/etc/resolv.conf"}; !slices.Equal(n.Sources, want) {
		t.Errorf("sources %v, want %v", n.Sources, want)
	}
	in.Host = hosts()["userns"]
	if n := Lookup(in); !slices.Contains(n.Sources, "/sys") {
		t.Errorf("in a user namespace: sources %v", n.Sources)
	}
}

func TestHostsThatHaveNoResolverConfiguration(t *testing.T) {
	in := input()
	in.Config.Network.Type, in.Missing = "host", []string{"/etc/resolv.conf"}
	spec, warnings, err := Build(in)
	if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "/etc/resolv.conf") {
		t.Fatalf("warnings %q, error %v", warnings, err)
	}
	if slices.ContainsFunc(spec.Mounts, func(m specs.Mount) bool { return m.Destination == "/etc/resolv.conf" }) {
		t.Error("it is mounted nevertheless")
	}
}

func TestSpecsShareNothingWithTheirInput(t *testing.T) {
	in := input()
	in.Config.Entrypoint = append(make([]string, 0, 10), "/plugin")
	in.Settings.Mounts = []outlet.Mount{mount("bind", "/a", "/b", "rbind")}
	first, _, err := Build(in)
	if err != nil {
		t.Fatal(err)
	}
	in.Settings.Args = []string{"other"}
	if _, _, err := Build(in); err != nil {
		t.Fatal(err)
	}
	first.Mounts[len(first.Mounts)-2].Options[0] = "changed"
	first.Process.Args[0] = "changed"
	if len(first.Process.Args) != 1 || in.Config.Entrypoint[0] != "/plugin" || in.Settings.Mounts[0].Options[0] != "rbind" {
		t.Errorf("args %v, input %v", first.Process.Args, in.Settings.Mounts)
	}
}
