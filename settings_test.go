package outlet_test

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/outletd/outlet"
)

// settable is a config with something of every kind to set.
func settable() outlet.Config {
	return outlet.Config{
		Args: outlet.Args{Name: "args", Settable: []string{"value"}, Value: []string{"-v", "--x"}},
		Env: []outlet.Env{
			{Name: "DEBUG", Settable: []string{"value"}, Value: ptr("0")},
			{Name: "FIXED", Value: ptr("1")},
			{Name: "NONE", Settable: []string{"value"}},
			{Name: "dotted.name", Settable: []string{"value"}, Value: ptr("d")},
			{Name: "WEIRD", Settable: []string{"other"}, Value: ptr("w")},
			{Name: "MANY", Settable: []string{"value", "other"}, Value: ptr("m")},
			{Name: "shadow", Value: ptr("s")},
		},
		Mounts: []outlet.Mount{
			{Name: "state", Source: ptr("/var/lib/state"), Destination: "/state", Settable: []string{"source"}},
			{Name: "nosource", Settable: []string{"source"}},
			{Name: "fixedmount", Source: ptr("/x")},
			{Name: "shadow", Source: ptr("/hidden"), Settable: []string{"source"}},
			{Name: "state", Source: ptr("/second"), Settable: []string{"source"}},
		},
		Linux: outlet.Linux{Devices: []outlet.Device{
			{Name: "fuse", Path: ptr("/dev/fuse"), Settable: []string{"path"}},
			{Name: "nopath", Settable: []string{"path"}},
		}},
	}
}

func TestNewSettingsAreCopiesOfTheDefaults(t *testing.T) {
	c := settable()
	s := outlet.NewSettings(c)
	want := outlet.Settings{
		Args: []string{"-v", "--x"}, Devices: c.Linux.Devices, Mounts: c.Mounts,
		Env: []string{"DEBUG=0", "FIXED=1", "dotted.name=d", "WEIRD=w", "MANY=m", "shadow=s"},
	}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Error(diff)
	}
	*s.Mounts[0].Source, *s.Devices[0].Path, s.Args[0] = "x", "x", "x"
	if diff := cmp.Diff(settable(), c); diff != "" {
		t.Errorf("they share memory with the config:\n%s", diff)
	}
	empty := outlet.NewSettings(outlet.Config{})
	if empty.Args == nil || empty.Devices == nil || empty.Env == nil || empty.Mounts == nil {
		t.Errorf("a list of the settings of nothing is nil: %+v", empty)
	}
}

func TestSet(t *testing.T) {
	env := func(s outlet.Settings) string { return strings.Join(s.Env, " ") }
	source := func(s outlet.Settings) string { return *s.Mounts[0].Source }
	device := func(s outlet.Settings) string { return *s.Devices[0].Path }
	args := func(s outlet.Settings) string { return strings.Join(s.Args, "|") }
	const untouched = "DEBUG=0 FIXED=1 dotted.name=d WEIRD=w MANY=m shadow=s"
	tests := map[string]struct {
		args []string
		get  func(outlet.Settings) string
		want string
	}{
		"no argument changes nothing at all":       {nil, env, untouched},
		"a variable keeps its place in the list":   {[]string{"DEBUG=1"}, env, strings.Replace(untouched, "DEBUG=0", "DEBUG=1", 1)},
		"a variable with its field":                {[]string{"DEBUG.value=1"}, env, strings.Replace(untouched, "DEBUG=0", "DEBUG=1", 1)},
		"a variable without a default is appended": {[]string{"NONE=x"}, env, untouched + " NONE=x"},
		"no equals sign sets to nothing":           {[]string{"DEBUG"}, env, strings.Replace(untouched, "DEBUG=0", "DEBUG=", 1)},
		"a value may have equals signs":            {[]string{"DEBUG=a=b=c"}, env, strings.Replace(untouched, "DEBUG=0", "DEBUG=a=b=c", 1)},
		"a value may have dots":                    {[]string{"DEBUG=a.b"}, env, strings.Replace(untouched, "DEBUG=0", "DEBUG=a.b", 1)},
		"a name with dots needs the field":         {[]string{"dotted.name.value=x"}, env, strings.Replace(untouched, "dotted.name=d", "dotted.name=x", 1)},
		"a name with a dot at its end":             {[]string{"DEBUG.=2"}, env, strings.Replace(untouched, "DEBUG=0", "DEBUG=2", 1)},
		"the last of two wins":                     {[]string{"DEBUG=1", "DEBUG=2"}, env, strings.Replace(untouched, "DEBUG=0", "DEBUG=2", 1)},
		"one of several settable fields":           {[]string{"MANY.value=x"}, env, strings.Replace(untouched, "MANY=m", "MANY=x", 1)},
		"a mount's source":                         {[]string{"state=/srv"}, source, "/srv"},
		"a mount's source with its field":          {[]string{"state.source=/srv"}, source, "/srv"},
		"a relative source is taken":               {[]string{"state=some/where"}, source, "some/where"},
		"a device's path":                          {[]string{"fuse.path=/dev/other"}, device, "/dev/other"},
		"arguments are split at spaces":            {[]string{"args=-a  b"}, args, "-a||b"},
		"no arguments are one empty one":           {[]string{"args="}, args, ""},
		"quotes mean nothing":                      {[]string{`args="a b"`}, args, `"a|b"`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := settable()
			before := outlet.NewSettings(c)
			after, err := before.Set(c, tt.args)
			if err != nil {
				t.Fatal(err)
			}
			if got := tt.get(after); got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
			if diff := cmp.Diff(outlet.NewSettings(settable()), before); diff != "" {
				t.Errorf("the settings it was called on changed:\n%s", diff)
			}
			if diff := cmp.Diff(settable(), c); diff != "" {
				t.Errorf("the config changed:\n%s", diff)
			}
		})
	}
}

func TestSetNoArgumentsIsOneEmptyArgument(t *testing.T) {
	c := settable()
	s, err := outlet.NewSettings(c).Set(c, []string{"args"})
	if diff := cmp.Diff([]string{""}, s.Args); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
}

func TestSetRefuses(t *testing.T) {
	const format = "invalid format, must be <name>[.<field>][=<value>]"
	tests := map[string]struct{ arg, want string }{
		"an equals sign first":                 {"=x", format},
		"an empty argument":                    {"", format},
		"a name that begins with a dot":        {".x=1", format},
		"nothing but a dot":                    {".", format},
		"several settable fields":              {"MANY=1", "multiple fields are settable, one must be specified"},
		"what is not settable":                 {"FIXED=1", `"FIXED" is not settable`},
		"a field that is not settable":         {"FIXED.value=1", `"FIXED.value" is not settable`},
		"a field of another kind":              {"DEBUG.source=1", `"DEBUG.source" is not settable`},
		"the only settable field is no field":  {"WEIRD=1", `"WEIRD.other" is not settable`},
		"that field by its name":               {"WEIRD.other=1", `"WEIRD.other" is not settable`},
		"a mount that is not settable":         {"fixedmount=/y", `"fixedmount" is not settable`},
		"a mount without source":               {"nosource=/y", "plugin config has no mount source"},
		"a device without path":                {"nopath=/y", "plugin config has no device path"},
		"an unknown name":                      {"UNKNOWN=1", `setting "UNKNOWN" not found in the plugin configuration`},
		"an unknown name, without its field":   {"UNKNOWN.value=1", `setting "UNKNOWN" not found in the plugin configuration`},
		"a name with dots without its field":   {"dotted.name=1", `setting "dotted" not found in the plugin configuration`},
		"case matters":                         {"debug=1", `setting "debug" not found in the plugin configuration`},
		"a name that an earlier one hides":     {"shadow=/x", `"shadow" is not settable`},
		"a name that an earlier one hides too": {"shadow.source=/x", `"shadow.source" is not settable`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := settable()
			before := outlet.NewSettings(c)
			after, err := before.Set(c, []string{"DEBUG=1", tt.arg, "state=/srv"})
			if err == nil || err.Error() != tt.want || !errdefs.IsInvalidArgument(err) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if diff := cmp.Diff(outlet.NewSettings(settable()), after); diff != "" {
				t.Errorf("half of it was applied:\n%s", diff)
			}
		})
	}
	t.Run("arguments that are not settable", func(t *testing.T) {
		c := settable()
		c.Args.Settable = nil
		if _, err := outlet.NewSettings(c).Set(c, []string{"args=x"}); err == nil || err.Error() != `"args" is not settable` {
			t.Errorf("got %v", err)
		}
	})
}

func TestSetArgs(t *testing.T) {
	c := settable()
	s, err := outlet.NewSettings(c).SetArgs(c, []string{"a b", "c"})
	if diff := cmp.Diff([]string{"a b", "c"}, s.Args); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	if s, err = s.SetArgs(c, nil); err != nil || s.Args == nil || len(s.Args) != 0 {
		t.Errorf("no arguments: %v, %#v", err, s.Args)
	}
	for _, tt := range []struct{ name, want string }{{"args", `"args.value" is not settable`}, {"", `"args.value" is not settable`}} {
		c.Args = outlet.Args{Name: tt.name}
		if _, err := s.SetArgs(c, []string{"x"}); err == nil || err.Error() != tt.want || !errdefs.IsInvalidArgument(err) {
			t.Errorf("arguments called %q that are not settable: %v, want %q", tt.name, err, tt.want)
		}
	}
}

func TestUnset(t *testing.T) {
	c := settable()
	set, err := outlet.NewSettings(c).Set(c, []string{"DEBUG=1", "NONE=x", "state=/srv", "fuse=/dev/x", "args=a", "dotted.name.value=y"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := set.Unset(c, []string{"DEBUG", "NONE", "state.source", "fuse", "args", "dotted.name.value"})
	if diff := cmp.Diff(outlet.NewSettings(c), got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	got, err = got.Unset(c, []string{"DEBUG"})
	if diff := cmp.Diff(outlet.NewSettings(c), got); err != nil || diff != "" {
		t.Errorf("unsetting what is not set: %v %s", err, diff)
	}
	for arg, want := range map[string]string{
		"DEBUG=1": "invalid format, must be <name>[.<field>]",
		"":        "invalid format, must be <name>[.<field>][=<value>]",
		"FIXED":   `"FIXED" is not settable`,
		"UNKNOWN": `setting "UNKNOWN" not found in the plugin configuration`,
	} {
		after, err := set.Unset(c, []string{"DEBUG", arg})
		if err == nil || err.Error() != want || !errdefs.IsInvalidArgument(err) {
			t.Errorf("unset %q: %v, want %q", arg, err, want)
		}
		if diff := cmp.Diff(set, after); diff != "" {
			t.Errorf("unset %q did half of it:\n%s", arg, diff)
		}
	}
}

func TestSettableListsWhatSetReaches(t *testing.T) {
	c := settable()
	got := outlet.Settable(c)
	want := []outlet.SettableField{
		{Name: "DEBUG", Field: "value", Kind: "env", Default: "0", Set: true},
		{Name: "NONE", Field: "value", Kind: "env"},
		{Name: "dotted.name", Field: "value", Kind: "env", Default: "d", Set: true},
		{Name: "MANY", Field: "value", Kind: "env", Default: "m", Set: true},
		{Name: "state", Field: "source", Kind: "mount", Default: "/var/lib/state", Set: true},
		{Name: "fuse", Field: "path", Kind: "device", Default: "/dev/fuse", Set: true},
		{Name: "args", Field: "value", Kind: "args", Default: "-v --x", Set: true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, f := range got {
		if _, err := outlet.NewSettings(c).Set(c, []string{f.Name + "." + f.Field + "=x"}); err != nil {
			t.Errorf("%s.%s is listed but: %v", f.Name, f.Field, err)
		}
	}
}

func FuzzSet(f *testing.F) {
	for _, s := range []string{"DEBUG=1", "a.b.c=d", "=", "", ".", "..", "state.source=/x", "args=a b", "MANY", "dotted.name.value=", "\xff=\x00"} {
		f.Add(s, "args=x")
	}
	f.Fuzz(func(t *testing.T, one, two string) {
		c := settable()
		before := outlet.NewSettings(c)
		after, err := before.Set(c, []string{one, two})
		if diff := cmp.Diff(settable(), c); diff != "" {
			t.Fatalf("the config changed:\n%s", diff)
		}
		if diff := cmp.Diff(outlet.NewSettings(c), before); diff != "" {
			t.Fatalf("the settings it was called on changed:\n%s", diff)
		}
		if err != nil {
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("%v has no class", err)
			}
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("an error left changes:\n%s", diff)
			}
			return
		}
		again, err := after.Set(c, []string{one, two})
		if diff := cmp.Diff(after, again); err != nil || diff != "" {
			t.Errorf("the second time is another thing: %v %s", err, diff)
		}
	})
}
