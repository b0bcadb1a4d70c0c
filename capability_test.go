package outlet_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
)

func TestParseCapability(t *testing.T) {
	tests := map[string]outlet.Capability{
		"docker.volumedriver/1.0":  {"docker", "volumedriver", "1.0"},
		"foo.bar.volumedriver/1.0": {"foo.bar", "volumedriver", "1.0"},
		"volumedriver/1.0":         {"", "volumedriver", "1.0"},
		"docker.volumedriver":      {"docker", "volumedriver", ""},
		"volumedriver":             {"", "volumedriver", ""},
		"docker.authz/1.0/beta":    {"docker", "authz", "1.0/beta"},
		"docker.authz/1.x.y":       {"docker", "authz", "1.x.y"},
		"docker./1.0":              {"docker", "", "1.0"},
		"":                         {},
	}
	for in, want := range tests {
		if got := outlet.ParseCapability(in); got != want {
			t.Errorf("ParseCapability(%q) = %+v, want %+v", in, got, want)
		} else if got.String() != in {
			t.Errorf("%+v is %q, want %q", got, got.String(), in)
		}
	}
}

func TestCapabilityThatCannotBeWritten(t *testing.T) {
	tests := map[string]outlet.Capability{
		`capability "a.b" cannot contain a dot`:   {"docker", "a.b", "1.0"},
		`prefix "a/b" cannot contain a slash`:     {"a/b", "x", "1.0"},
		`capability "a/b" cannot contain a slash`: {"docker", "a/b", "1.0"},
	}
	for want, c := range tests {
		err := c.Check()
		if err == nil || err.Error() != want || !errdefs.IsInvalidArgument(err) {
			t.Errorf("%+v: %v, want %q", c, err, want)
		}
		if _, err := json.Marshal(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("json of %+v: %v, want %q", c, err, want)
		}
	}
}

func TestCapabilityJSON(t *testing.T) {
	var c outlet.Capability
	if err := json.Unmarshal([]byte(`"docker.networkdriver/1.0"`), &c); err != nil {
		t.Fatal(err)
	}
	if got, err := json.Marshal(c); err != nil || string(got) != `"docker.networkdriver/1.0"` {
		t.Errorf("json %s, %v", got, err)
	}
	for _, in := range []string{`null`, `1`, `{}`, `["docker.authz/1.0"]`, `true`} {
		if err := json.Unmarshal([]byte(in), &c); err == nil {
			t.Errorf("%s is taken for a capability", in)
		}
	}
}

func TestCapabilityMatches(t *testing.T) {
	tests := []struct {
		typ, request string
		want         bool
	}{
		{"docker.volumedriver/1.0", "volumedriver", true},
		{"docker.volumedriver/1.0", "VolumeDriver", true},
		{"docker.volumedriver/2.0", "VolumeDriver", true},
		{"docker.volumedriver", "VolumeDriver", true},
		{"docker.VolumeDriver/1.0", "VolumeDriver", false},
		{"volumedriver/1.0", "VolumeDriver", false},
		{"moby.volumedriver/1.0", "VolumeDriver", false},
		{"x.docker.volumedriver/1.0", "VolumeDriver", false},
		{"docker.networkdriver/1.0", "VolumeDriver", false},
	}
	for _, tt := range tests {
		if got := outlet.ParseCapability(tt.typ).Matches(tt.request); got != tt.want {
			t.Errorf("%s matches %s: %v, want %v", tt.typ, tt.request, got, tt.want)
		}
	}
}

func TestCapabilityMajor(t *testing.T) {
	for version, want := range map[string]int{
		"1.0": 1, "1": 1, "1.1": 1, "1.0/beta": 1, "2.0": 2, "10.0": 10, "": 0, "v1.0": 0, "x": 0, "-1": 0, "+1": 0, "99999999999": 0,
	} {
		if got := (outlet.Capability{Version: version}).Major(); got != want {
			t.Errorf("major version of %q is %d, want %d", version, got, want)
		}
	}
}

func FuzzCapability(f *testing.F) {
	for _, s := range []string{"docker.volumedriver/1.0", "a.b.c/1/2", "", ".", "/", "./", "..", "a.", ".a/", "é.ü/ö"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c := outlet.ParseCapability(s)
		if err := c.Check(); err != nil {
			t.Fatalf("%q parses as %+v, which cannot be written: %v", s, c, err)
		}
		if again := outlet.ParseCapability(c.String()); again != c {
			t.Errorf("%q is %+v, written as %q it is %+v", s, c, c.String(), again)
		}
	})
}
