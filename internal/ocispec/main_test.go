package ocispec

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/host"
	"github.com/outletd/outlet/internal/testutil"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

func TestMain(m *testing.M) { flag.Parse(); os.Exit(testutil.Main(m)) }

// hosts are machines plugins run on.
func hosts() map[string]host.Facts {
	root := host.Facts{
		Capabilities: host.AllCapabilities,
		Cgroups:      host.Cgroups{Mode: host.CgroupHybrid, Controllers: []string{"cpu", "devices", "freezer", "memory", "pids"}, Base: "/"},
		CanMount:     true, CanUnshare: true,
	}
	v1, v2, userns := root, root, root
	v1.Cgroups.Mode = host.CgroupV1
	v2.Cgroups = host.Cgroups{Mode: host.CgroupV2, Controllers: []string{"cpu", "memory", "pids"}, Base: "/"}
	v2.ThermalThrottle = []string{"/sys/devices/system/cpu/cpu0/thermal_throttle", "/sys/devices/system/cpu/cpu1/thermal_throttle"}
	userns.UserNS, userns.Rootless, userns.OOMScoreAdj = true, true, 200
	userns.Cgroups = host.Cgroups{Mode: host.CgroupHybrid}
	delegated := userns
	delegated.Cgroups = host.Cgroups{Mode: host.CgroupV2, Controllers: []string{"memory", "pids"}, Base: "/user.slice/user-1000.slice"}
	return map[string]host.Facts{"hybrid": root, "v1": v1, "v2": v2, "userns": userns, "delegated": delegated}
}

// input is a plugin with nothing but what every plugin has.
func input() Input {
	return Input{
		ID: "0123456789ab",
		Config: outlet.Config{
			Entrypoint: []string{"/plugin"},
			Interface: outlet.Interface{
				Socket: "p.sock",
				Types:  []outlet.Capability{{Prefix: "docker", Capability: "volumedriver", Version: "1.0"}},
			},
		},
		Rootfs:    "/var/lib/outlet/rootfs",
		SocketDir: "/run/outlet/p/0123456789ab",
		Host:      hosts()["hybrid"],
	}
}

// mount is a mount of settings.
func mount(kind, source, destination string, options ...string) outlet.Mount {
	return outlet.Mount{Type: kind, Source: &source, Destination: destination, Options: options}
}

func golden(t *testing.T, name string, v any) {
	t.Helper()
	got, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	path := filepath.Join("testdata", name+".json")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; write it with: go test ./internal/ocispec -update", err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s (-want +got):\n%s\nif that is as it should be: go test ./internal/ocispec -update", path, d)
	}
}
