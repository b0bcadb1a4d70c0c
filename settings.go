package outlet

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
)

// Field names that Settable lists of a config can hold.
const (
	fieldValue  = "value"  // of Args and Env
	fieldSource = "source" // of Mount
	fieldPath   = "path"   // of Device
)

// NewSettings returns the settings that a plugin with the config starts its
// life with: copies of the defaults. Its lists are never nil.
func NewSettings(c Config) Settings {
	c = c.Clone()
	s := Settings{
		Args:    append([]string{}, c.Args.Value...),
		Devices: append([]Device{}, c.Linux.Devices...),
		Env:     []string{},
		Mounts:  append([]Mount{}, c.Mounts...),
	}
	for _, e := range c.Env {
		if e.Value != nil {
			s.Env = append(s.Env, e.Name+"="+*e.Value)
		}
	}
	return s
}

// MarshalJSON writes s with [] for lists that are nil.
func (s Settings) MarshalJSON() ([]byte, error) {
	type plain Settings // without this method
	p := plain(s)
	if p.Args == nil {
		p.Args = []string{}
	}
	if p.Devices == nil {
		p.Devices = []Device{}
	}
	if p.Env == nil {
		p.Env = []string{}
	}
	if p.Mounts == nil {
		p.Mounts = []Mount{}
	}
	return json.Marshal(p)
}

// Set returns settings changed by args, each of the grammar
// name[.field][=value] (docs/spec/managed-plugins.md §3.2), applied in order. s
// is left as it is. One bad argument is an error (errdefs.ErrInvalidArgument)
// for all of them.
//
// Neither that a path exists nor its form is looked at here: see [Ready].
func (s Settings) Set(c Config, args []string) (Settings, error) {
	parsed := make([]assignment, len(args))
	for i, arg := range args {
		var err error
		if parsed[i], err = parseAssignment(arg); err != nil {
			return s, err
		}
	}
	out := s.Clone()
	for _, a := range parsed {
		t, err := find(c, a.target)
		if err != nil {
			return s, err
		}
		t.set(&out, a.value)
	}
	return out, nil
}

// SetArgs returns settings with the arguments args, as they are: nothing is
// split. Arguments that are not settable are errdefs.ErrInvalidArgument.
func (s Settings) SetArgs(c Config, args []string) (Settings, error) {
	a := assignment{target: target{name: c.Args.Name, field: fieldValue}}
	if !slices.Contains(c.Args.Settable, fieldValue) {
		if a.name == "" {
			a.name = "args"
		}
		return s, a.notSettable()
	}
	out := s.Clone()
	out.Args = append([]string{}, args...)
	return out, nil
}

// Unset returns settings in which those named, each name[.field], are what the
// config says again: a variable without a default is not set at all. A name
// that could not have been set is an error as with [Settings.Set].
func (s Settings) Unset(c Config, names []string) (Settings, error) {
	out := s.Clone()
	for _, name := range names {
		if strings.Contains(name, "=") {
			return s, Errorf(errdefs.ErrInvalidArgument, "invalid format, must be <name>[.<field>]")
		}
		a, err := parseAssignment(name)
		if err != nil {
			return s, err
		}
		t, err := find(c, a.target)
		if err != nil {
			return s, err
		}
		t.unset(&out)
	}
	return out, nil
}

// target is what an argument of set names.
type target struct{ name, field string }

type assignment struct {
	target
	value string
}

func parseAssignment(arg string) (assignment, error) {
	left, value, _ := strings.Cut(arg, "=")
	a := assignment{target: target{name: left}, value: value}
	switch i := strings.LastIndexByte(left, '.'); {
	case left == "" || i == 0:
		return a, Errorf(errdefs.ErrInvalidArgument, "invalid format, must be <name>[.<field>][=<value>]")
	case i > 0:
		a.name, a.field = left[:i], left[i+1:]
	}
	return a, nil
}

func (t target) String() string {
	if t.field == "" {
		return t.name
	}
	return t.name + "." + t.field
}

func (t target) notSettable() error {
	return Errorf(errdefs.ErrInvalidArgument, "%q is not settable", t.String())
}

// check says whether the target, an item with the Settable list settable, of
// whose fields one can be set at all, can be set.
func (t target) check(settable []string, allowed string) error {
	if t.field == "" {
		switch len(settable) {
		case 0:
		case 1:
			t.field = settable[0]
		default:
			return Errorf(errdefs.ErrInvalidArgument, "multiple fields are settable, one must be specified")
		}
	}
	if t.field != allowed || !slices.Contains(settable, allowed) {
		return t.notSettable()
	}
	return nil
}

// setting is one item of a config that can be set.
type setting interface {
	set(s *Settings, value string)
	unset(s *Settings)
}

// find returns the first item of the config with the target's name, in the
// order of docs/spec/managed-plugins.md §3.3. A later one of that name cannot be
// reached.
func find(c Config, t target) (setting, error) {
	for _, e := range c.Env {
		if e.Name == t.name {
			return envSetting(e), t.check(e.Settable, fieldValue)
		}
	}
	for _, m := range c.Mounts {
		if m.Name != t.name {
			continue
		}
		if err := t.check(m.Settable, fieldSource); err != nil {
			return nil, err
		}
		if m.Source == nil {
			return nil, Errorf(errdefs.ErrInvalidArgument, "plugin config has no mount source")
		}
		return mountSetting(m), nil
	}
	for _, d := range c.Linux.Devices {
		if d.Name != t.name {
			continue
		}
		if err := t.check(d.Settable, fieldPath); err != nil {
			return nil, err
		}
		if d.Path == nil {
			return nil, Errorf(errdefs.ErrInvalidArgument, "plugin config has no device path")
		}
		return deviceSetting(d), nil
	}
	if c.Args.Name == t.name {
		return argsSetting(c.Args), t.check(c.Args.Settable, fieldValue)
	}
	return nil, Errorf(errdefs.ErrInvalidArgument, "setting %q not found in the plugin configuration", t.name)
}

type envSetting Env

func (e envSetting) set(s *Settings, value string) {
	entry := e.Name + "=" + value
	if i := e.index(s); i >= 0 {
		s.Env[i] = entry
	} else {
		s.Env = append(s.Env, entry)
	}
}

func (e envSetting) unset(s *Settings) {
	if e.Value != nil {
		e.set(s, *e.Value)
	} else if i := e.index(s); i >= 0 {
		s.Env = slices.Delete(s.Env, i, i+1)
	}
}

func (e envSetting) index(s *Settings) int {
	return slices.IndexFunc(s.Env, func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return name == e.Name
	})
}

type mountSetting Mount

func (m mountSetting) set(s *Settings, value string) {
	i := slices.IndexFunc(s.Mounts, func(have Mount) bool { return have.Name == m.Name })
	if i < 0 {
		i = len(s.Mounts)
		s.Mounts = append(s.Mounts, Mount(m).Clone())
	}
	s.Mounts[i].Source = &value
}

func (m mountSetting) unset(s *Settings) { m.set(s, *m.Source) }

type deviceSetting Device

func (d deviceSetting) set(s *Settings, value string) {
	i := slices.IndexFunc(s.Devices, func(have Device) bool { return have.Name == d.Name })
	if i < 0 {
		i = len(s.Devices)
		s.Devices = append(s.Devices, Device(d).Clone())
	}
	s.Devices[i].Path = &value
}

func (d deviceSetting) unset(s *Settings) { d.set(s, *d.Path) }

type argsSetting Args

func (argsSetting) set(s *Settings, value string) { s.Args = strings.Split(value, " ") }

func (a argsSetting) unset(s *Settings) { s.Args = append([]string{}, a.Value...) }

// SettableField is something of a plugin that set changes.
type SettableField struct {
	Name        string // of the item
	Field       string // "value", "source" or "path"
	Kind        string // "env", "mount", "device" or "args"
	Description string // the author's
	// Default is what the config says, as set takes it; Set says whether it
	// says anything.
	Default string
	Set     bool
}

// Settable returns what of the config set can change, in the order in which
// names are looked up. Items that an earlier one of their name hides are not in
// it.
func Settable(c Config) []SettableField {
	var l []SettableField
	add := func(f SettableField) {
		if f.Name == "" {
			return
		}
		s, err := find(c, target{name: f.Name, field: f.Field})
		if err == nil && f.isKind(s) && !slices.ContainsFunc(l, func(have SettableField) bool { return have.Name == f.Name }) {
			l = append(l, f)
		}
	}
	for _, e := range c.Env {
		f := SettableField{Name: e.Name, Field: fieldValue, Kind: "env", Description: e.Description}
		if e.Value != nil {
			f.Default, f.Set = *e.Value, true
		}
		add(f)
	}
	for _, m := range c.Mounts {
		if m.Source != nil {
			add(SettableField{Name: m.Name, Field: fieldSource, Kind: "mount", Description: m.Description, Default: *m.Source, Set: *m.Source != ""})
		}
	}
	for _, d := range c.Linux.Devices {
		if d.Path != nil {
			add(SettableField{Name: d.Name, Field: fieldPath, Kind: "device", Description: d.Description, Default: *d.Path, Set: *d.Path != ""})
		}
	}
	add(SettableField{
		Name: c.Args.Name, Field: fieldValue, Kind: "args", Description: c.Args.Description,
		Default: strings.Join(c.Args.Value, " "), Set: len(c.Args.Value) > 0,
	})
	return l
}

func (f SettableField) isKind(s setting) bool {
	switch s.(type) {
	case envSetting:
		return f.Kind == "env"
	case mountSetting:
		return f.Kind == "mount"
	case deviceSetting:
		return f.Kind == "device"
	default:
		return f.Kind == "args"
	}
}
