package outlet_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/outletd/outlet"
)

// full has every key, in the spelling of the Engine API.
const full = `{"Args":{"Description":"ad","Name":"args","Settable":["value"],"Value":["-v"]},
"Description":"d","DockerVersion":"28.0","Documentation":"https://example.test",
"Entrypoint":["/bin/x","y"],
"Env":[{"Description":"ed","Name":"E","Settable":["value"],"Value":"1"},{"Name":"N","Value":null}],
"Interface":{"ProtocolScheme":"p","Socket":"x.sock","Types":["docker.volumedriver/1.0","foo.bar.x/2"]},
"IpcHost":true,
"Linux":{"AllowAllDevices":true,"Capabilities":["CAP_SYS_ADMIN"],"Devices":[{"Description":"dd","Name":"D","Path":"/dev/fuse","Settable":["path"]},{"Name":"E","Path":null}]},
"Mounts":[{"Description":"md","Destination":"/m","Name":"M","Options":["rbind"],"Settable":["source"],"Source":"","Type":"bind"}],
"Network":{"Type":"host"},"PidHost":true,"PropagatedMount":"/p","User":{"UID":7,"GID":4294967295},"WorkDir":"/w",
"rootfs":{"type":"layers","diff_ids":["sha256:a"]}}`

func fullConfig() outlet.Config {
	return outlet.Config{
		Args:        outlet.Args{Description: "ad", Name: "args", Settable: []string{"value"}, Value: []string{"-v"}},
		Description: "d", Documentation: "https://example.test", Entrypoint: []string{"/bin/x", "y"},
		Env: []outlet.Env{{Description: "ed", Name: "E", Settable: []string{"value"}, Value: ptr("1")}, {Name: "N"}},
		Interface: outlet.Interface{
			ProtocolScheme: "p", Socket: "x.sock",
			Types: []outlet.Capability{{Prefix: "docker", Capability: "volumedriver", Version: "1.0"}, {Prefix: "foo.bar", Capability: "x", Version: "2"}},
		},
		IpcHost: true,
		Linux: outlet.Linux{
			AllowAllDevices: true, Capabilities: []string{"CAP_SYS_ADMIN"},
			Devices: []outlet.Device{{Description: "dd", Name: "D", Path: ptr("/dev/fuse"), Settable: []string{"path"}}, {Name: "E"}},
		},
		Mounts: []outlet.Mount{{
			Description: "md", Destination: "/m", Name: "M", Options: []string{"rbind"},
			Settable: []string{"source"}, Source: ptr(""), Type: "bind",
		}},
		Network: outlet.Network{Type: "host"}, PidHost: true, PropagatedMount: "/p",
		User: outlet.User{UID: 7, GID: 4294967295}, WorkDir: "/w",
		Rootfs: &outlet.Rootfs{Type: "layers", DiffIDs: []string{"sha256:a"}},
	}
}

func TestParseConfigReadsEveryKey(t *testing.T) {
	for name, in := range map[string]string{"as the API spells them": full, "in lower case": lowerKeys(t, full)} {
		cfg, warnings, err := outlet.ParseConfig([]byte(in))
		if err != nil || len(warnings) > 0 {
			t.Fatalf("%s: %v, warnings %q", name, err, warnings)
		}
		if diff := cmp.Diff(fullConfig(), cfg); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
		encoded, err := outlet.EncodeConfig(cfg)
		if err != nil || !strings.HasSuffix(string(encoded), "}\n") {
			t.Fatalf("%s: encoded as %q, %v", name, encoded, err)
		}
		again, warnings, err := outlet.ParseConfig(encoded)
		if err != nil || len(warnings) > 0 {
			t.Fatalf("%s: encoded: %v, %q", name, err, warnings)
		}
		if diff := cmp.Diff(cfg, again); diff != "" {
			t.Errorf("%s: encoded:\n%s", name, diff)
		}
	}
}

// lowerKeys rewrites a JSON document with all its keys in lower case.
func lowerKeys(t *testing.T, doc string) string {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(doc), &v); err != nil {
		t.Fatal(err)
	}
	var lower func(any) any
	lower = func(v any) any {
		switch v := v.(type) {
		case map[string]any:
			m := make(map[string]any)
			for k, e := range v {
				m[strings.ToLower(k)] = lower(e)
			}
			return m
		case []any:
			for i := range v {
				v[i] = lower(v[i])
			}
		}
		return v
	}
	b, err := json.Marshal(lower(v))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestParseConfigKeepsNullAndEmptyListsApart(t *testing.T) {
	cfg, _, err := outlet.ParseConfig([]byte(`{"Entrypoint":[],"Mounts":null,"Linux":null,"Args":{"Name":null}}`))
	if err != nil || cfg.Entrypoint == nil || cfg.Mounts != nil || cfg.Rootfs != nil {
		t.Errorf("%+v, %v", cfg, err)
	}
	b, err := outlet.EncodeConfig(cfg)
	if err != nil || !strings.Contains(string(b), `"Entrypoint":[]`) || !strings.Contains(string(b), `"Mounts":null`) || !strings.Contains(string(b), `"User":{}`) {
		t.Errorf("%s, %v", b, err)
	}
}

func TestParseConfigWarns(t *testing.T) {
	tests := map[string]struct {
		in   string
		want []string
	}{
		"an unknown key":                  {`{"nonsense":1}`, []string{"nonsense: unknown key, ignored"}},
		"a misspelt key":                  {`{"mount":[]}`, []string{"mount: unknown key, ignored; did you mean Mounts?"}},
		"swapped letters":                 {`{"Nework":{},"Ineterface":{},"Mounst":[]}`, []string{"Nework: unknown key, ignored; did you mean Network?", "Ineterface: unknown key, ignored; did you mean Interface?", "Mounst: unknown key, ignored; did you mean Mounts?"}},
		"an unknown key deeper":           {`{"env":[{"name":"A"},{"name":"B","val":"x"}]}`, []string{"Env[1].val: unknown key, ignored"}},
		"a key twice":                     {`{"description":"a","Description":"b"}`, []string{"Description: is there more than once, the last one counts"}},
		"a key that is not printable":     {`{"a\u0000\n":1}`, []string{`"a\x00\n": unknown key, ignored`}},
		"Docker's version is no news":     {`{"DockerVersion":"20"}`, nil},
		"whatever Docker's version is":    {`{"dockerversion":[]}`, nil},
		"an unknown key of any type":      {`{"x":{"y":[1,null,true]}}`, []string{"x: unknown key, ignored"}},
		"rootfs has keys of its own":      {`{"rootfs":{"DiffIDs":[]}}`, []string{"rootfs.DiffIDs: unknown key, ignored; did you mean diff_ids?"}},
		"a key of another object is none": {`{"Network":{"Socket":"x"}}`, []string{"Network.Socket: unknown key, ignored"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, warnings, err := outlet.ParseConfig([]byte(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, warnings); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseConfigLastDuplicateWins(t *testing.T) {
	cfg, _, err := outlet.ParseConfig([]byte(`{"linux":{"capabilities":["CAP_A"]},"WORKDIR":"/a","LINUX":{"allowAllDevices":true},"workdir":"/b"}`))
	want := outlet.Config{WorkDir: "/b", Linux: outlet.Linux{AllowAllDevices: true}}
	if diff := cmp.Diff(want, cfg); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
}

func TestParseConfigRefuses(t *testing.T) {
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	tests := map[string]struct{ in, want string }{
		"nothing":                    {"", "failed to parse config: it is empty"},
		"white space":                {" \n", "failed to parse config: it is empty"},
		"half a document":            {`{"Env":[`, "failed to parse config: it ends in the middle of a value"},
		"what is not JSON":           {"{\n  \"a\": x\n}", "failed to parse config: line 2, column 8: invalid character 'x' looking for beginning of value"},
		"a trailing comma":           {`{"a":1,}`, "failed to parse config: line 1, column 8: invalid character '}' looking for beginning of object key string"},
		"a second value":             {"{}\n{}", "failed to parse config: line 2, column 1: unexpected content after the JSON value"},
		"text after the value":       {"{} x", "failed to parse config: line 1, column 4: unexpected content after the JSON value"},
		"a list":                     {"[]", "invalid plugin config: document: must be one JSON object, not a list"},
		"null":                       {"null", "invalid plugin config: document: must be one JSON object, not null"},
		"a number for a string":      {`{"description":1}`, "invalid plugin config: Description: must be a string, not a number"},
		"a string for a list":        {`{"entrypoint":"/bin/sh"}`, "invalid plugin config: Entrypoint: must be a list of strings, not a string"},
		"a number in a list":         {`{"entrypoint":["a",1]}`, "invalid plugin config: Entrypoint[1]: must be a string, not a number"},
		"null in a list":             {`{"entrypoint":[null]}`, "invalid plugin config: Entrypoint[0]: must not be null"},
		"a string for a bool":        {`{"pidhost":"true"}`, "invalid plugin config: PidHost: must be true or false, not a string"},
		"a list for an object":       {`{"network":[]}`, "invalid plugin config: Network: must be an object, not a list"},
		"an object for a list":       {`{"env":{}}`, "invalid plugin config: Env: must be a list of objects, not an object"},
		"a string in a list of them": {`{"env":["A=1"]}`, "invalid plugin config: Env[0]: must be an object, not a string"},
		"a number for a value":       {`{"env":[{"name":"A","value":1}]}`, "invalid plugin config: Env[0].Value: must be a string or null, not a number"},
		"a type that is no string":   {`{"interface":{"types":[{}]}}`, "invalid plugin config: Interface.Types[0]: must be a string such as \"docker.volumedriver/1.0\", not an object"},
		"a negative user":            {`{"user":{"uid":-1}}`, "invalid plugin config: User.UID: must be a whole number from 0 to 4294967295, not -1"},
		"a user with a fraction":     {`{"user":{"gid":1.5}}`, "invalid plugin config: User.GID: must be a whole number from 0 to 4294967295, not 1.5"},
		"a user by name":             {`{"user":{"uid":"root"}}`, "invalid plugin config: User.UID: must be a whole number from 0 to 4294967295, not a string"},
		"a user beyond 32 bits":      {`{"user":{"uid":4294967296}}`, "invalid plugin config: User.UID: must be a whole number from 0 to 4294967295, not 4294967296"},
		"several mistakes, all told": {`{"ipchost":1,"env":[{"name":2}]}`, "invalid plugin config: Env[0].Name: must be a string, not a number\ninvalid plugin config: IpcHost: must be true or false, not a number"},
		"a document that is too big": {strings.Repeat(" ", outlet.MaxConfigSize) + "{}", "invalid plugin config: document: is larger than 1 MiB"},
		"nesting that is too deep":   {`{"x":` + deep(outlet.MaxConfigDepth) + `}`, "invalid plugin config: x" + strings.Repeat("[0]", outlet.MaxConfigDepth-1) + ": lists and objects are nested more than 32 deep"},
		"a list that is too long":    {`{"entrypoint":[` + strings.Repeat(`"a",`, 1000) + `"a"]}`, "invalid plugin config: entrypoint: has more than 1000 entries"},
		"a string that is too long":  {`{"workdir":"` + strings.Repeat("a", 4097) + `"}`, "invalid plugin config: workdir: is 4097 bytes long, at most 4096 are allowed"},
		"a key that is too long":     {`{"` + strings.Repeat("a", 4097) + `":1}`, "invalid plugin config: document: is 4097 bytes long, at most 4096 are allowed"},
		"very deep nesting":          {strings.Repeat("[", 1<<19), "failed to parse config: line 1, column 10001: invalid character '[' exceeded max depth"},
		"a bound in an unknown key":  {`{"x":"` + strings.Repeat("a", 4097) + `"}`, "invalid plugin config: x: is 4097 bytes long, at most 4096 are allowed"},
		"an object with too many":    {`{` + strings.Repeat(`"a":1,`, 1000) + `"a":1}`, "invalid plugin config: document: has more than 1000 entries"},
		"a byte order mark":          {"\xef\xbb\xbf{}", "failed to parse config: line 1, column 1: invalid character 'ï' looking for beginning of value"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, _, err := outlet.ParseConfig([]byte(tt.in))
			if err == nil || err.Error() != tt.want || !errdefs.IsInvalidArgument(err) {
				t.Errorf("got  %v\nwant %v", err, tt.want)
			}
		})
	}
}

func TestParseConfigTakesWhatIsAtTheBounds(t *testing.T) {
	for name, in := range map[string]string{
		"a list":   `{"entrypoint":[` + strings.Repeat(`"a",`, 999) + `"a"]}`,
		"a string": `{"workdir":"` + strings.Repeat("a", 4096) + `"}`,
		"nesting":  `{"x":` + strings.Repeat("[", 31) + strings.Repeat("]", 31) + `}`,
		"size":     strings.Repeat(" ", outlet.MaxConfigSize-2) + "{}",
	} {
		if _, _, err := outlet.ParseConfig([]byte(in)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseConfigTellsNoMoreThanAnybodyReads(t *testing.T) {
	var b strings.Builder
	for i := range 900 {
		fmt.Fprintf(&b, `"k%d":1,`, i)
	}
	_, warnings, err := outlet.ParseConfig([]byte("{" + b.String() + `"entrypoint":[` + strings.Repeat("1,", 900) + "1]}"))
	if n := strings.Count(err.Error(), "\n"); len(warnings) > 100 || n > 100 {
		t.Errorf("%d warnings, %d errors", len(warnings), n)
	}
}

func TestParseConfigBlob(t *testing.T) {
	for _, in := range []string{"{} {}", "{}x", "{}\n\x00"} {
		_, _, err := outlet.ParseConfigBlob([]byte(in))
		if err == nil || err.Error() != "invalid config json" || !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", in, err)
		}
	}
	cfg, _, err := outlet.ParseConfigBlob([]byte(full + " \r\n\t"))
	if diff := cmp.Diff(fullConfig(), cfg); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
}

func TestEncodeConfigRefusesWhatItCannotWrite(t *testing.T) {
	var bad outlet.Config
	bad.Interface.Types = []outlet.Capability{{Prefix: "docker", Capability: "a.b"}}
	if _, err := outlet.EncodeConfig(bad); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a type with a dot: %v", err)
	}
	big := outlet.Config{Description: strings.Repeat("x", outlet.MaxConfigSize)}
	if _, err := outlet.EncodeConfig(big); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a large config: %v", err)
	}
}

func FuzzParseConfig(f *testing.F) {
	for _, s := range []string{full, "{}", "{} {}", `{"Env":[null]}`, `{"interface":{"types":["a.b","","/","x/"]}}`, `{"ROOTFS":{}}`, `{"a":"\ud800","linux":{"linux":{}}}`, `{"user":{"uid":1e2}}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, _, err := outlet.ParseConfig(data)
		if err != nil {
			if !errdefs.IsInvalidArgument(err) {
				t.Fatalf("%v has no class", err)
			}
			return
		}
		encoded, err := outlet.EncodeConfig(cfg)
		if err != nil {
			t.Fatal(err)
		}
		again, warnings, err := outlet.ParseConfigBlob(encoded)
		if err != nil || len(warnings) > 0 {
			t.Fatalf("encoded as %s: %v, %q", encoded, err, warnings)
		}
		if diff := cmp.Diff(cfg, again); diff != "" {
			t.Errorf("encoded as %s:\n%s", encoded, diff)
		}
		var plain outlet.Config // as clients decode it
		if err := json.Unmarshal(encoded, &plain); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(cfg, plain); diff != "" {
			t.Errorf("for a client it is another one:\n%s", diff)
		}
		fixed, _, err := outlet.Validate(cfg, outlet.ValidateOptions{MaxSocketName: 80})
		if err != nil {
			return
		}
		twice, _, err := outlet.Validate(fixed, outlet.ValidateOptions{MaxSocketName: 80})
		if diff := cmp.Diff(fixed, twice); err != nil || diff != "" {
			t.Errorf("validated twice: %v %s", err, diff)
		}
		_, _ = outlet.Ready(fixed, outlet.NewSettings(fixed))
	})
}
