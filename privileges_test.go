package outlet_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/outletd/outlet"
)

func ptr(s string) *string { return &s }

func TestRequiredPrivileges(t *testing.T) {
	tests := map[string]struct {
		config outlet.Config
		want   outlet.Privileges
	}{
		"nothing":               {outlet.Config{}, outlet.Privileges{}},
		"no network":            {outlet.Config{Network: outlet.Network{Type: ""}}, outlet.Privileges{}},
		"network null":          {outlet.Config{Network: outlet.Network{Type: "null"}}, outlet.Privileges{}},
		"network bridge":        {outlet.Config{Network: outlet.Network{Type: "bridge"}}, outlet.Privileges{}},
		"network none asks too": {outlet.Config{Network: outlet.Network{Type: "none"}}, outlet.Privileges{{"network", "permissions to access a network", []string{"none"}}}},
		"a network of another name": {
			outlet.Config{Network: outlet.Network{Type: "seaweedfs_internal"}},
			outlet.Privileges{{"network", "permissions to access a network", []string{"seaweedfs_internal"}}},
		},
		"mounts and devices without source and path ask for nothing": {
			outlet.Config{Mounts: []outlet.Mount{{Name: "m"}}, Linux: outlet.Linux{Devices: []outlet.Device{{Name: "d"}}}},
			outlet.Privileges{},
		},
		"an empty source asks": {
			outlet.Config{Mounts: []outlet.Mount{{Source: ptr("")}}},
			outlet.Privileges{{"mount", "host path to mount", []string{""}}},
		},
		"everything, in order": {
			outlet.Config{
				Network: outlet.Network{Type: "host"}, IpcHost: true, PidHost: true,
				Mounts: []outlet.Mount{{Source: ptr("/b")}, {Source: ptr("/a")}},
				Linux: outlet.Linux{
					AllowAllDevices: true, Capabilities: []string{"CAP_SYS_ADMIN", "CAP_NET_ADMIN"},
					Devices: []outlet.Device{{Path: ptr("/dev/fuse")}},
				},
			},
			outlet.Privileges{
				{"network", "permissions to access a network", []string{"host"}},
				{"host ipc namespace", "allow access to host ipc namespace", []string{"true"}},
				{"host pid namespace", "allow access to host pid namespace", []string{"true"}},
				{"mount", "host path to mount", []string{"/b"}},
				{"mount", "host path to mount", []string{"/a"}},
				{"device", "host device to access", []string{"/dev/fuse"}},
				{"allow-all-devices", "allow 'rwm' access to all devices", []string{"true"}},
				{"capabilities", "list of additional capabilities required", []string{"CAP_SYS_ADMIN", "CAP_NET_ADMIN"}},
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, outlet.RequiredPrivileges(tt.config)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPrivilegesCheck(t *testing.T) {
	network := outlet.Privilege{Name: "network", Value: []string{"host"}}
	caps := outlet.Privilege{Name: "capabilities", Value: []string{"CAP_A", "CAP_B"}}
	a, b := outlet.Privilege{Name: "mount", Value: []string{"/a"}}, outlet.Privilege{Name: "mount", Value: []string{"/b"}}
	with := func(p outlet.Privilege, value ...string) outlet.Privilege { p.Value = value; return p }
	tests := map[string]struct {
		required, granted outlet.Privileges
		ok                bool
	}{
		"nothing":                               {nil, nil, true},
		"nothing, as empty list":                {outlet.Privileges{}, nil, true},
		"the same":                              {outlet.Privileges{network, caps}, outlet.Privileges{network, caps}, true},
		"another order":                         {outlet.Privileges{network, caps}, outlet.Privileges{caps, network}, true},
		"mounts in another order":               {outlet.Privileges{a, b}, outlet.Privileges{b, a}, true},
		"values in another order":               {outlet.Privileges{caps}, outlet.Privileges{with(caps, "CAP_B", "CAP_A")}, true},
		"descriptions do not count":             {outlet.Privileges{a}, outlet.Privileges{{Name: "mount", Description: "x", Value: a.Value}}, true},
		"less":                                  {outlet.Privileges{network, caps}, outlet.Privileges{network}, false},
		"more":                                  {outlet.Privileges{network}, outlet.Privileges{network, caps}, false},
		"nothing granted":                       {outlet.Privileges{network}, nil, false},
		"the only one differs (CVE-2026-33997)": {outlet.Privileges{network}, outlet.Privileges{with(network, "none")}, false},
		"the first by name differs (CVE-2026-33997)": {outlet.Privileges{caps, network}, outlet.Privileges{with(caps, "CAP_A"), network}, false},
		"the name of the only one differs":           {outlet.Privileges{{Name: "device", Value: []string{"/a"}}}, outlet.Privileges{a}, false},
		"one of two mounts twice":                    {outlet.Privileges{a, b}, outlet.Privileges{a, a}, false},
		"twice is not once":                          {outlet.Privileges{a, a}, outlet.Privileges{a, b}, false},
		"a value in the other's place":               {outlet.Privileges{with(network, "x"), with(caps, "y")}, outlet.Privileges{with(network, "y"), with(caps, "x")}, false},
		"two values are not one":                     {outlet.Privileges{with(caps, "a", "b")}, outlet.Privileges{with(caps, "a,b")}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			required, granted := tt.required.Clone(), tt.granted.Clone()
			err := tt.required.Check(tt.granted)
			if ok := err == nil; ok != tt.ok {
				t.Errorf("got %v, want success: %v", err, tt.ok)
			}
			if err != nil && (err.Error() != "incorrect privileges" || !errdefs.IsInvalidArgument(err)) {
				t.Errorf("error %v", err)
			}
			if diff := cmp.Diff(required, tt.required); diff != "" {
				t.Errorf("the required ones were changed:\n%s", diff)
			}
			if diff := cmp.Diff(granted, tt.granted); diff != "" {
				t.Errorf("the granted ones were changed:\n%s", diff)
			}
		})
	}
}

func TestWords(t *testing.T) {
	tests := []struct {
		privilege outlet.Privilege
		want      string
	}{
		{outlet.Privilege{Name: "network", Value: []string{"host"}}, "may use the network of the host"},
		{outlet.Privilege{Name: "network", Value: []string{"none"}}, "gets a network of its own that reaches nothing"},
		{outlet.Privilege{Name: "network", Value: []string{"x"}}, "is no network that is known: gets one of its own that reaches nothing"},
		{outlet.Privilege{Name: "host ipc namespace", Value: []string{"true"}}, "may use the shared memory and message queues of the host's processes"},
		{outlet.Privilege{Name: "host pid namespace", Value: []string{"true"}}, "may see and signal all processes of the host"},
		{outlet.Privilege{Name: "mount", Value: []string{"/x"}}, "may mount this directory of the host into the plugin"},
		{outlet.Privilege{Name: "mount", Value: []string{""}}, "may mount a host directory into the plugin that is not chosen yet"},
		{outlet.Privilege{Name: "mount", Value: []string{"/"}}, "may mount the whole file system of the host into the plugin"},
		{outlet.Privilege{Name: "mount", Value: []string{"/var/run/docker.sock"}}, "may use the engine's socket, and through it the whole host"},
		{outlet.Privilege{Name: "device", Value: []string{"/dev/fuse"}}, "may use this device of the host"},
		{outlet.Privilege{Name: "device", Value: []string{""}}, "may use a device of the host that is not chosen yet"},
		{outlet.Privilege{Name: "allow-all-devices", Value: []string{"true"}}, "may use every device of the host, its disks and memory among them"},
		{outlet.Privilege{Name: "capabilities", Value: []string{"CAP_SYS_ADMIN"}}, "may administer the system, for example mount"},
		{outlet.Privilege{Name: "capabilities", Value: []string{"CAP_SYS_ADMIN", "CAP_X", "CAP_BPF"}}, "may administer the system, for example mount; run programs in the kernel; more, see capabilities(7)"},
		{outlet.Privilege{Name: "capabilities", Value: []string{"CAP_X"}}, "see capabilities(7)"},
		{outlet.Privilege{Name: "new", Value: []string{"a", "b"}}, ""},
	}
	for _, tt := range tests {
		if got := outlet.Words(tt.privilege); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.privilege, got, tt.want)
		}
		for _, v := range tt.privilege.Value { // "host" and "/" are words, too
			if len(v) > 4 && strings.Contains(tt.want, v) {
				t.Errorf("%+v: %q repeats the value", tt.privilege, tt.want)
			}
		}
	}
}

func TestNotes(t *testing.T) {
	c := outlet.Config{
		PropagatedMount: "/mnt/volumes",
		Network:         outlet.Network{Type: "host"},
		Interface:       outlet.Interface{Types: []outlet.Capability{outlet.ParseCapability("docker.authz/1.0")}},
		Mounts:          []outlet.Mount{{Name: "dev", Source: ptr("/dev"), Destination: "/dev", Options: []string{"rbind", "rshared"}, Settable: []string{"source"}}},
		Linux:           outlet.Linux{Devices: []outlet.Device{{Name: "fuse", Path: ptr("/dev/fuse"), Settable: []string{"path"}}}},
	}
	notes := outlet.Notes(c)
	for _, want := range []string{"/mnt/volumes becomes visible on the host", "/dev becomes visible on the host", `mount "dev" can be changed`, `device of "fuse" can be changed`, "every request to an engine", "loopback"} {
		if !slices.ContainsFunc(notes, func(n string) bool { return strings.Contains(n, want) }) {
			t.Errorf("no note says %q: %q", want, notes)
		}
	}
	if notes := outlet.Notes(outlet.Config{}); len(notes) != 0 {
		t.Errorf("notes on nothing: %q", notes)
	}
}
