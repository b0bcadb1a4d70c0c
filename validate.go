package outlet

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// PluginSocketDir is the directory inside of every plugin that its socket is
// in.
const PluginSocketDir = "/run/docker/plugins"

// ValidateOptions say how strict [Validate] is.
type ValidateOptions struct {
	// Strict is for a config whose author hands it in, and can mend it. Without
	// it, for configs that were published, some errors are warnings and what
	// they are about is left out of the config.
	Strict bool
	// MaxSocketName is how many bytes the name of the socket may have, so that
	// its path on the host is one that the kernel takes; 0 is no bound.
	MaxSocketName int
}

// Validate checks the values of a config by the structural rules of
// docs/spec/managed-plugins.md §2.4, and returns the config to use: paths are
// in their shortest form, what warnings say is left out is not in it. cfg itself
// is not changed.
//
// err joins all errors there are; each is errdefs.ErrInvalidArgument and names
// the field and what it takes. Whether the plugin can be started is another
// question: see [Ready].
func Validate(cfg Config, o ValidateOptions) (fixed Config, warnings []string, err error) {
	v := validator{decoder: new(decoder), strict: o.Strict}
	fixed = cfg.Clone()
	v.iface(&fixed.Interface, o.MaxSocketName)
	v.paths(&fixed)
	for i := range fixed.Mounts {
		v.mount(fmt.Sprintf("Mounts[%d]", i), fixed.Mounts[i])
	}
	for i, d := range fixed.Linux.Devices {
		at := fmt.Sprintf("Linux.Devices[%d]", i)
		v.noNUL(at+".Name", d.Name)
		if d.Path != nil && *d.Path != "" {
			v.path(at+".Path", d.Path)
		}
	}
	v.process(fixed)
	v.capabilities(&fixed.Linux)
	v.names(fixed)
	v.settable(fixed)
	if !slices.Contains([]string{"", "none", "null", "bridge", "host"}, fixed.Network.Type) {
		v.warn("Network.Type", "%q is no network here, the plugin gets one of its own without interfaces; there are host, bridge, none and null", fixed.Network.Type)
	}
	return fixed, v.warnings, errors.Join(v.errs...)
}

// validator collects what is told of a config.
type validator struct {
	*decoder
	strict bool
}

// sloppy is an error in a config that its author hands in, and a warning in one
// that was published.
func (v validator) sloppy(at, format string, args ...any) {
	if v.strict {
		v.fail(at, format, args...)
	} else {
		v.warn(at, format, args...)
	}
}

func (v validator) noNUL(at, s string) {
	if strings.ContainsRune(s, 0) {
		v.fail(at, "must not contain a NUL byte")
	}
}

func (v validator) iface(i *Interface, maxName int) {
	if s := i.Socket; s != "" {
		const at = "Interface.Socket"
		switch {
		case s == "." || s == "..", strings.ContainsFunc(s, func(r rune) bool { return r == '/' || r < ' ' || r == 0x7f }):
			v.fail(at, "%q is no file name: it must be one without slashes and control characters", s)
		case maxName > 0 && len(s) > maxName:
			v.fail(at, "is %d bytes long: at most %d are possible, since the path of a socket has at most 107", len(s), maxName)
		}
	}
	types := i.Types
	i.Types = types[:0:0]
	for n, t := range types {
		at := fmt.Sprintf("Interface.Types[%d]", n)
		if err := t.Check(); err != nil {
			v.fail(at, "%v", err)
		} else if t.Capability == "" {
			v.fail(at, "%q names no capability: a type is for example docker.volumedriver/1.0", t)
		}
		if slices.Contains(i.Types, t) {
			v.warn(at, "%s is there more than once", t)
			continue
		}
		i.Types = append(i.Types, t)
	}
	if types != nil && i.Types == nil {
		i.Types = []Capability{}
	}
}

// path checks a path inside of a plugin or on the host, which is set, and
// brings it into its shortest form. It says whether it is one.
func (v validator) path(at string, p *string) bool {
	switch {
	case strings.ContainsRune(*p, 0):
		v.fail(at, "must not contain a NUL byte")
	case !path.IsAbs(*p):
		v.fail(at, "%q must be an absolute path", *p)
	case slices.Contains(strings.Split(*p, "/"), ".."):
		v.fail(at, "%q must not contain \"..\"", *p)
	default:
		*p = path.Clean(*p)
		return true
	}
	return false
}

// paths checks the paths inside of the plugin.
func (v validator) paths(c *Config) {
	check := func(at string, p *string, rootAllowed bool) bool {
		if *p == "" || !v.path(at, p) {
			return false
		}
		if *p == "/" && !rootAllowed {
			v.fail(at, "must not be \"/\"")
			return false
		}
		if Within(PluginSocketDir, *p) {
			v.warn(at, "%q is the plugin's socket directory or in it", *p)
		}
		return true
	}
	propagated := check("PropagatedMount", &c.PropagatedMount, false)
	check("WorkDir", &c.WorkDir, true)
	first := make(map[string]int)
	for i := range c.Mounts {
		at, m := fmt.Sprintf("Mounts[%d].Destination", i), &c.Mounts[i]
		if !check(at, &m.Destination, false) {
			continue
		}
		if j, ok := first[m.Destination]; ok {
			v.warn(at, "%q is that of Mounts[%d] too, which is hidden", m.Destination, j)
		}
		first[m.Destination] = i
		if propagated && Within(m.Destination, c.PropagatedMount) {
			v.warn(at, "%q hides the propagated mount %q", m.Destination, c.PropagatedMount)
		}
	}
}

// Within says whether p is dir or below it. Both are absolute and in their
// shortest form; it compares whole components.
func Within(dir, p string) bool {
	return p == dir || strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/")
}

// process checks what becomes arguments and environment.
func (v validator) process(c Config) {
	for i, a := range c.Entrypoint {
		v.noNUL(fmt.Sprintf("Entrypoint[%d]", i), a)
	}
	for i, a := range c.Args.Value {
		v.noNUL(fmt.Sprintf("Args.Value[%d]", i), a)
	}
	for i, e := range c.Env {
		at := fmt.Sprintf("Env[%d]", i)
		switch {
		case e.Name == "":
			v.fail(at+".Name", "must not be empty")
		case strings.ContainsAny(e.Name, "=\x00"):
			v.fail(at+".Name", "%q must not contain \"=\" or a NUL byte", e.Name)
		}
		if e.Value != nil {
			v.noNUL(at+".Value", *e.Value)
		}
	}
}

var capabilityName = regexp.MustCompile(`^CAP_[A-Z0-9_]+$`)

func (v validator) capabilities(l *Linux) {
	all := l.Capabilities
	l.Capabilities = nil
	for i, c := range all {
		at := fmt.Sprintf("Linux.Capabilities[%d]", i)
		left := ", it is left out"
		if v.strict {
			left = ""
		}
		switch {
		case c == "ALL" || c == "CAP_ALL":
			v.sloppy(at, "%q is not possible: each capability must be named%s", c, left)
		case !capabilityName.MatchString(c):
			v.sloppy(at, "%q is no capability: it must be one such as CAP_SYS_ADMIN%s", c, left)
		case slices.Contains(l.Capabilities, c):
			v.sloppy(at, "%q is there more than once%s", c, left)
		default:
			l.Capabilities = append(l.Capabilities, c)
		}
	}
	if all != nil && l.Capabilities == nil {
		l.Capabilities = []string{}
	}
}

// named is an item of a config that set can name.
type named struct {
	at       string
	name     string
	settable []string
	allowed  string // the field that can be settable
}

// items are what set can name, in the order in which it looks them up.
func items(c Config) []named {
	var l []named
	for i, e := range c.Env {
		l = append(l, named{fmt.Sprintf("Env[%d]", i), e.Name, e.Settable, fieldValue})
	}
	for i, m := range c.Mounts {
		l = append(l, named{fmt.Sprintf("Mounts[%d]", i), m.Name, m.Settable, fieldSource})
	}
	for i, d := range c.Linux.Devices {
		l = append(l, named{fmt.Sprintf("Linux.Devices[%d]", i), d.Name, d.Settable, fieldPath})
	}
	return append(l, named{"Args", c.Args.Name, c.Args.Settable, fieldValue})
}

// names checks that set reaches everything that is settable.
func (v validator) names(c Config) {
	first := make(map[string]named)
	for _, n := range items(c) {
		switch before, taken := first[n.name]; {
		case n.name == "" && len(n.settable) > 0 && n.at == "Args":
			v.sloppy(n.at+".Name", "must not be empty: what is settable needs a name to be set by")
		case n.name == "" && len(n.settable) > 0:
			v.warn(n.at+".Name", "is empty: what is settable needs a name to be set by")
		case n.name == "":
		case !taken:
			first[n.name] = n
		case len(n.settable) > 0 && len(before.settable) > 0:
			v.sloppy(n.at+".Name", "%q is the name of %s too: set reaches only that", n.name, before.at)
		case len(n.settable) > 0:
			v.warn(n.at+".Name", "%q is the name of %s too, which is not settable: set does not reach this one", n.name, before.at)
		}
	}
}

func (v validator) settable(c Config) {
	for _, n := range items(c) {
		for i, f := range n.settable {
			if f != n.allowed {
				v.sloppy(fmt.Sprintf("%s.Settable[%d]", n.at, i), "%q cannot be settable, only %q can", f, n.allowed)
			}
		}
	}
}
