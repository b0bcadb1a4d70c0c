package outlet

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Ready checks whether a plugin can be started with its config and settings, as
// far as these alone tell (docs/spec/managed-plugins.md §2.4). Whether host
// paths exist, and whether policy allows what it asks, is for whoever starts it.
//
// err joins all errors; each is errdefs.ErrInvalidArgument and names the field.
// The warnings name mounts that are left out because their source is not set.
func Ready(c Config, s Settings) (warnings []string, err error) {
	d := new(decoder)
	if len(c.Entrypoint)+len(s.Args) == 0 {
		d.fail("Entrypoint", "must name the program that the plugin runs")
	} else if slices.Concat(c.Entrypoint, s.Args)[0] == "" {
		d.fail("Entrypoint[0]", "must not be empty, it is the program that the plugin runs")
	}
	if len(c.Interface.Types) == 0 {
		d.fail("Interface.Types", "must name what the plugin provides, for example docker.volumedriver/1.0")
	}
	if c.Interface.Socket == "" {
		d.fail("Interface.Socket", "must name the socket that the plugin listens on")
	}
	for i, m := range s.Mounts {
		d.mountReady(fmt.Sprintf("Mounts[%d]", i), m)
	}
	for i, dev := range s.Devices {
		at := fmt.Sprintf("Linux.Devices[%d].Path", i)
		if dev.Path == nil || *dev.Path == "" {
			d.fail(at, "device path is not specified%s", hintSet(dev.Name, dev.Settable, fieldPath, dev.Path != nil))
		} else {
			d.hostPath(at, *dev.Path)
		}
	}
	for _, e := range s.Env {
		if strings.ContainsRune(e, 0) {
			name, _, _ := strings.Cut(e, "=")
			d.fail("Env", "the value of %q must not contain a NUL byte", name)
		}
	}
	for i, a := range s.Args {
		if strings.ContainsRune(a, 0) {
			d.fail(fmt.Sprintf("Args.Value[%d]", i), "must not contain a NUL byte")
		}
	}
	return d.warnings, errors.Join(d.errs...)
}

func (d *decoder) mountReady(at string, m Mount) {
	if m.Destination == "" {
		d.fail(at+".Destination", "must name where it is mounted")
	}
	switch {
	case m.Source == nil:
		d.fail(at+".Source", "mount source is not specified")
	case m.NotSet():
		d.warn(at+".Source", "is empty, the mount on %s is left out%s", m.Destination, hintSet(m.Name, m.Settable, fieldSource, true))
	case m.IsBind():
		d.hostPath(at+".Source", *m.Source)
	case strings.ContainsRune(*m.Source, 0):
		d.fail(at+".Source", "must not contain a NUL byte")
	}
}

// hostPath checks the form of a path of the host, which set takes as it is.
func (d *decoder) hostPath(at, p string) {
	switch {
	case strings.ContainsRune(p, 0):
		d.fail(at, "must not contain a NUL byte")
	case !path.IsAbs(p):
		d.fail(at, "%q must be an absolute path of the host", p)
	case slices.Contains(strings.Split(p, "/"), ".."):
		d.fail(at, "%q must not contain \"..\"", p)
	}
}

// hintSet says how a field is set, if it can be.
func hintSet(name string, settable []string, field string, possible bool) string {
	if name == "" || !possible || !slices.Contains(settable, field) {
		return ""
	}
	return fmt.Sprintf("; set it with %s.%s=PATH", name, field)
}
