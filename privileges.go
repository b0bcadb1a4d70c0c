package outlet

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
)

// Privilege is one thing a plugin asks of the host.
type Privilege struct {
	Name        string
	Description string
	Value       []string
}

// Privileges are what a plugin asks of the host, or what its user grants. Order
// means nothing; the same entry twice means two. JSON of none is [].
type Privileges []Privilege

// MarshalJSON writes the list, and [] for nil.
func (p Privileges) MarshalJSON() ([]byte, error) {
	if p == nil {
		return []byte("[]"), nil
	}
	return json.Marshal([]Privilege(p))
}

// The names of privileges. Clients and provisioning tools carry copies of them.
const (
	privilegeNetwork      = "network"
	privilegeIPC          = "host ipc namespace"
	privilegePID          = "host pid namespace"
	privilegeMount        = "mount"
	privilegeDevice       = "device"
	privilegeAllDevices   = "allow-all-devices"
	privilegeCapabilities = "capabilities"
)

// RequiredPrivileges returns what a plugin with the config asks for, in the
// order of docs/spec/managed-plugins.md §4.1. For what was pulled pass the
// config as it was decoded, before [Validate] drops anything.
func RequiredPrivileges(c Config) Privileges {
	p := Privileges{}
	add := func(name, description string, value ...string) {
		p = append(p, Privilege{Name: name, Description: description, Value: value})
	}
	if t := c.Network.Type; t != "" && t != "null" && t != "bridge" {
		add(privilegeNetwork, "permissions to access a network", t)
	}
	if c.IpcHost {
		add(privilegeIPC, "allow access to host ipc namespace", "true")
	}
	if c.PidHost {
		add(privilegePID, "allow access to host pid namespace", "true")
	}
	for _, m := range c.Mounts {
		if m.Source != nil {
			add(privilegeMount, "host path to mount", *m.Source)
		}
	}
	for _, d := range c.Linux.Devices {
		if d.Path != nil {
			add(privilegeDevice, "host device to access", *d.Path)
		}
	}
	if c.Linux.AllowAllDevices {
		add(privilegeAllDevices, "allow 'rwm' access to all devices", "true")
	}
	if len(c.Linux.Capabilities) > 0 {
		add(privilegeCapabilities, "list of additional capabilities required", slices.Clone(c.Linux.Capabilities)...)
	}
	return p
}

// Equal says whether both hold the same entries, whatever their order and
// descriptions.
func (p Privileges) Equal(q Privileges) bool {
	if len(p) != len(q) {
		return false
	}
	return slices.EqualFunc(p.normal(), q.normal(), func(a, b Privilege) bool { return comparePrivileges(a, b) == 0 })
}

// Check says whether exactly what p requires was granted: neither less nor more.
// If not it is errdefs.ErrInvalidArgument.
func (p Privileges) Check(granted Privileges) error {
	if !p.Equal(granted) {
		return Errorf(errdefs.ErrInvalidArgument, "incorrect privileges")
	}
	return nil
}

// normal is a copy of p in which equal lists are equal entry by entry.
func (p Privileges) normal() Privileges {
	p = p.Clone()
	for i := range p {
		slices.Sort(p[i].Value)
	}
	slices.SortFunc(p, comparePrivileges)
	return p
}

func comparePrivileges(a, b Privilege) int {
	if c := strings.Compare(a.Name, b.Name); c != 0 {
		return c
	}
	return slices.Compare(a.Value, b.Value)
}

// Words says in plain words what granting p means. It is to be read beside p's
// name and value, and repeats neither. Of a privilege that is not known there is
// nothing more to say, and it is empty.
func Words(p Privilege) string {
	value := strings.Join(p.Value, ", ")
	switch p.Name {
	case privilegeNetwork:
		switch value {
		case "host":
			return "may use the network of the host"
		case "none":
			return "gets a network of its own that reaches nothing"
		}
		return "is no network that is known: gets one of its own that reaches nothing"
	case privilegeIPC:
		return "may use the shared memory and message queues of the host's processes"
	case privilegePID:
		return "may see and signal all processes of the host"
	case privilegeMount:
		return mountWords(value)
	case privilegeDevice:
		if value == "" {
			return "may use a device of the host that is not chosen yet"
		}
		return "may use this device of the host"
	case privilegeAllDevices:
		return "may use every device of the host, its disks and memory among them"
	case privilegeCapabilities:
		return capabilityWords(p.Value)
	}
	return ""
}

func mountWords(source string) string {
	switch source {
	case "":
		return "may mount a host directory into the plugin that is not chosen yet"
	case "/":
		return "may mount the whole file system of the host into the plugin"
	case "/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock", "/run/podman/podman.sock":
		return "may use the engine's socket, and through it the whole host"
	}
	return "may mount this directory of the host into the plugin"
}

// capabilityMeanings are those that are asked for often or weigh much.
var capabilityMeanings = map[string]string{
	"CAP_SYS_ADMIN":       "administer the system, for example mount",
	"CAP_NET_ADMIN":       "change the network it is in",
	"CAP_SYS_PTRACE":      "look into and change other processes",
	"CAP_SYS_MODULE":      "load code into the kernel",
	"CAP_SYS_RAWIO":       "reach hardware directly",
	"CAP_DAC_READ_SEARCH": "read every file it can name",
	"CAP_SYS_TIME":        "set the clock",
	"CAP_SYS_BOOT":        "restart the machine",
	"CAP_BPF":             "run programs in the kernel",
	"CAP_IPC_LOCK":        "lock memory",
	"CAP_SYS_RESOURCE":    "exceed limits",
	"CAP_SYSLOG":          "read the kernel's log",
}

func capabilityWords(caps []string) string {
	var words []string
	for _, c := range caps {
		if m, ok := capabilityMeanings[c]; ok {
			words = append(words, m)
		}
	}
	switch {
	case len(words) == 0:
		return "see capabilities(7)"
	case len(words) < len(caps):
		words = append(words, "more, see capabilities(7)")
	}
	return "may " + strings.Join(words, "; ")
}

// Notes says what else about the config somebody who grants privileges may want
// to know, one sentence each. None of it is part of what is granted.
func Notes(c Config) []string {
	var notes []string
	add := func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	if c.PropagatedMount != "" {
		add("what it mounts at or below %s becomes visible on the host", c.PropagatedMount)
	}
	for _, m := range c.Mounts {
		if m.Source != nil && (slices.Contains(m.Options, "shared") || slices.Contains(m.Options, "rshared")) {
			add("what it mounts at or below %s becomes visible on the host, at %s", m.Destination, orNotChosen(*m.Source))
		}
		if m.Source != nil && slices.Contains(m.Settable, "source") {
			add("the host directory of its mount %q can be changed with set, without asking again", m.Name)
		}
	}
	for _, d := range c.Linux.Devices {
		if d.Path != nil && slices.Contains(d.Settable, "path") {
			add("the host device of %q can be changed with set, without asking again", d.Name)
		}
	}
	for _, t := range c.Interface.Types {
		if t.Matches("authz") {
			add("it sees every request to an engine that asks it, and may refuse it")
		}
	}
	if c.Network.Type == "host" {
		add("in the host's network it can reach services that listen on the loopback interface only")
	}
	return notes
}

func orNotChosen(path string) string {
	if path == "" {
		return "the directory chosen for it"
	}
	return path
}
