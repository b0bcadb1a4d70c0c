package outlet

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// decoder makes a [Config] of a node. It goes on after an error, so that all of
// them are told.
type decoder struct {
	warnings []string
	errs     []error
}

// maxTold bounds how many errors, and how many warnings, are told.
const maxTold = 50

func (d *decoder) warn(path, format string, args ...any) {
	if len(d.warnings) < maxTold {
		d.warnings = append(d.warnings, path+": "+fmt.Sprintf(format, args...))
	}
}

func (d *decoder) fail(path, format string, args ...any) {
	if len(d.errs) < maxTold {
		d.errs = append(d.errs, configError(path, format, args...))
	}
}

// field is a key of an object and where its value goes.
type field struct {
	key  string
	read func(path string, n node)
}

// object hands the values of n to the fields. Null is an object without keys.
func (d *decoder) object(path string, n node, fields ...field) {
	switch n.kind {
	case kindNull:
		return
	case kindObject:
	default:
		d.fail(path, "must be an object, not %s", n.kind)
		return
	}
	last := make(map[string]node, len(fields))
	for i, key := range n.keys {
		at := slices.IndexFunc(fields, func(f field) bool { return strings.EqualFold(f.key, key) })
		if at < 0 {
			d.unknown(path, key, fields)
			continue
		}
		f := fields[at]
		if _, ok := last[f.key]; ok {
			d.warn(join(path, f.key), "is there more than once, the last one counts")
		}
		last[f.key] = n.list[i]
	}
	for _, f := range fields {
		if v, ok := last[f.key]; ok && v.kind != kindNull && f.read != nil {
			f.read(join(path, f.key), v)
		}
	}
}

func (d *decoder) unknown(path, key string, fields []field) {
	for _, f := range fields {
		if similar(strings.ToLower(f.key), strings.ToLower(key)) {
			d.warn(join(path, key), "unknown key, ignored; did you mean %s?", f.key)
			return
		}
	}
	d.warn(join(path, key), "unknown key, ignored")
}

// similar says whether one edit makes b of a.
func similar(a, b string) bool {
	if len(a) < len(b) {
		a, b = b, a
	}
	if len(a)-len(b) > 1 {
		return false
	}
	for i := range len(b) {
		if a[i] == b[i] {
			continue
		}
		if len(a) > len(b) {
			return a[i+1:] == b[i:]
		}
		swapped := i+1 < len(a) && a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:]
		return swapped || a[i+1:] == b[i+1:]
	}
	return true
}

func (d *decoder) text(into *string) func(string, node) {
	return func(path string, n node) {
		if n.kind != kindString {
			d.fail(path, "must be a string, not %s", n.kind)
			return
		}
		*into = n.text
	}
}

func (d *decoder) optional(into **string) func(string, node) {
	return func(path string, n node) {
		if n.kind != kindString {
			d.fail(path, "must be a string or null, not %s", n.kind)
			return
		}
		*into = &n.text
	}
}

func (d *decoder) truth(into *bool) func(string, node) {
	return func(path string, n node) {
		if n.kind != kindBool {
			d.fail(path, "must be true or false, not %s", n.kind)
			return
		}
		*into = n.truth
	}
}

func (d *decoder) number(into *uint32) func(string, node) {
	return func(path string, n node) {
		v, err := strconv.ParseUint(n.text, 10, 32)
		if n.kind != kindNumber || err != nil {
			d.fail(path, "must be a whole number from 0 to 4294967295, not %s", n.shown())
			return
		}
		*into = uint32(v)
	}
}

func (n node) shown() string {
	if n.kind == kindNumber && len(n.text) <= 24 {
		return n.text
	}
	return string(n.kind)
}

// list reads each entry of a list into an element of its own.
func list[T any](d *decoder, into *[]T, of string, entry func(path string, n node, into *T)) func(string, node) {
	return func(path string, n node) {
		if n.kind != kindList {
			d.fail(path, "must be a list of %s, not %s", of, n.kind)
			return
		}
		l := make([]T, len(n.list))
		for i, e := range n.list {
			at := fmt.Sprintf("%s[%d]", path, i)
			if e.kind == kindNull {
				d.fail(at, "must not be null")
				continue
			}
			entry(at, e, &l[i])
		}
		*into = l
	}
}

func (d *decoder) texts(into *[]string) func(string, node) {
	return list(d, into, "strings", func(path string, n node, into *string) { d.text(into)(path, n) })
}

func (d *decoder) config(n node) Config {
	var c Config
	d.object("", n,
		field{"Args", func(path string, n node) {
			d.object(path, n,
				field{"Description", d.text(&c.Args.Description)},
				field{"Name", d.text(&c.Args.Name)},
				field{"Settable", d.texts(&c.Args.Settable)},
				field{"Value", d.texts(&c.Args.Value)})
		}},
		field{"Description", d.text(&c.Description)},
		field{"DockerVersion", nil}, // written by Docker before version 29
		field{"Documentation", d.text(&c.Documentation)},
		field{"Entrypoint", d.texts(&c.Entrypoint)},
		field{"Env", list(d, &c.Env, "objects", d.env)},
		field{"Interface", func(path string, n node) {
			d.object(path, n,
				field{"ProtocolScheme", d.text(&c.Interface.ProtocolScheme)},
				field{"Socket", d.text(&c.Interface.Socket)},
				field{"Types", list(d, &c.Interface.Types, "strings", d.capability)})
		}},
		field{"IpcHost", d.truth(&c.IpcHost)},
		field{"Linux", func(path string, n node) {
			d.object(path, n,
				field{"AllowAllDevices", d.truth(&c.Linux.AllowAllDevices)},
				field{"Capabilities", d.texts(&c.Linux.Capabilities)},
				field{"Devices", list(d, &c.Linux.Devices, "objects", d.device)})
		}},
		field{"Mounts", list(d, &c.Mounts, "objects", d.mount)},
		field{"Network", func(path string, n node) {
			d.object(path, n, field{"Type", d.text(&c.Network.Type)})
		}},
		field{"PidHost", d.truth(&c.PidHost)},
		field{"PropagatedMount", d.text(&c.PropagatedMount)},
		field{"User", func(path string, n node) {
			d.object(path, n,
				field{"UID", d.number(&c.User.UID)},
				field{"GID", d.number(&c.User.GID)})
		}},
		field{"WorkDir", d.text(&c.WorkDir)},
		field{"rootfs", func(path string, n node) {
			c.Rootfs = new(Rootfs)
			d.object(path, n,
				field{"type", d.text(&c.Rootfs.Type)},
				field{"diff_ids", d.texts(&c.Rootfs.DiffIDs)})
		}},
	)
	return c
}

func (d *decoder) env(path string, n node, into *Env) {
	d.object(path, n,
		field{"Description", d.text(&into.Description)},
		field{"Name", d.text(&into.Name)},
		field{"Settable", d.texts(&into.Settable)},
		field{"Value", d.optional(&into.Value)})
}

func (d *decoder) device(path string, n node, into *Device) {
	d.object(path, n,
		field{"Description", d.text(&into.Description)},
		field{"Name", d.text(&into.Name)},
		field{"Path", d.optional(&into.Path)},
		field{"Settable", d.texts(&into.Settable)})
}

func (d *decoder) mount(path string, n node, into *Mount) {
	d.object(path, n,
		field{"Description", d.text(&into.Description)},
		field{"Destination", d.text(&into.Destination)},
		field{"Name", d.text(&into.Name)},
		field{"Options", d.texts(&into.Options)},
		field{"Settable", d.texts(&into.Settable)},
		field{"Source", d.optional(&into.Source)},
		field{"Type", d.text(&into.Type)})
}

func (d *decoder) capability(path string, n node, into *Capability) {
	if n.kind != kindString {
		d.fail(path, "must be a string such as \"docker.volumedriver/1.0\", not %s", n.kind)
		return
	}
	*into = ParseCapability(n.text)
}
