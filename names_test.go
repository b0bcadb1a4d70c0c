package outlet_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
)

var (
	hex64  = strings.Repeat("0123456789abcdef", 4)
	digest = "sha256:" + hex64
)

func TestParseName(t *testing.T) {
	tests := map[string]struct{ want, err string }{
		"foo/bar":                   {want: "foo/bar:latest"},
		"foo/bar:1":                 {want: "foo/bar:1"},
		"bar":                       {want: "bar:latest"},
		"docker.io/library/bar":     {want: "bar:latest"},
		"docker.io/foo/bar:2":       {want: "foo/bar:2"},
		"localhost:5000/x:1":        {want: "localhost:5000/x:1"},
		"localhost:5000/a/b/c":      {want: "localhost:5000/a/b/c:latest"},
		"":                          {err: "failed to parse reference : invalid reference format"},
		"a b":                       {err: "failed to parse reference a b: invalid reference format"},
		"foo/bar:":                  {err: "failed to parse reference foo/bar:: invalid reference format"},
		"foo/Bar":                   {err: "failed to parse reference foo/Bar: invalid reference format: repository name (foo/Bar) must be lowercase"},
		hex64:                       {err: "failed to parse reference " + hex64 + ": invalid repository name (" + hex64 + "), cannot specify 64-byte hexadecimal strings"},
		"foo/bar@" + digest:         {err: "canonical references are not permitted"},
		"foo/bar:1@" + digest:       {err: "canonical references are not permitted"},
		strings.Repeat("a/", 200):   {err: "failed to parse reference " + strings.Repeat("a/", 200) + ": invalid reference format"},
		"../../etc/passwd":          {err: "failed to parse reference ../../etc/passwd: invalid reference format"},
		"foo/bar\x00":               {err: "failed to parse reference foo/bar\x00: invalid reference format"},
		"https://registry.test/foo": {err: "failed to parse reference https://registry.test/foo: invalid reference format"},
	}
	for in, tt := range tests {
		got, err := outlet.ParseName(in)
		if tt.err != "" {
			if err == nil || err.Error() != tt.err || !errdefs.IsInvalidArgument(err) {
				t.Errorf("ParseName(%q) = %q, %v; want error %q", in, got, err, tt.err)
			}
			continue
		}
		if err != nil || got != tt.want {
			t.Errorf("ParseName(%q) = %q, %v; want %q", in, got, err, tt.want)
		}
	}
}

func TestParseRemote(t *testing.T) {
	tests := []struct {
		remote, name string
		want         outlet.Remote
		err          string
	}{
		{remote: "foo/bar", want: outlet.Remote{Reference: "docker.io/foo/bar:latest", Name: "foo/bar:latest"}},
		{remote: "foo/bar:1", want: outlet.Remote{Reference: "docker.io/foo/bar:1", Name: "foo/bar:1"}},
		{remote: "foo/bar@" + digest, want: outlet.Remote{Reference: "docker.io/foo/bar@" + digest, Name: "foo/bar:latest"}},
		{remote: "foo/bar:1@" + digest, want: outlet.Remote{Reference: "docker.io/foo/bar@" + digest, Name: "foo/bar:1"}},
		{remote: "bar", want: outlet.Remote{Reference: "docker.io/library/bar:latest", Name: "bar:latest"}},
		{remote: "localhost:5000/a/b:2", want: outlet.Remote{Reference: "localhost:5000/a/b:2", Name: "localhost:5000/a/b:2"}},
		{remote: "foo/bar", name: "mine", want: outlet.Remote{Reference: "docker.io/foo/bar:latest", Name: "mine:latest"}},
		{remote: "foo/bar:1", name: "docker.io/x/y:3", want: outlet.Remote{Reference: "docker.io/foo/bar:1", Name: "x/y:3"}},
		{remote: "", err: "invalid reference format"},
		{remote: "foo/Bar", err: "invalid reference format: repository name (foo/Bar) must be lowercase"},
		{remote: hex64, err: "invalid repository name (" + hex64 + "), cannot specify 64-byte hexadecimal strings"},
		{remote: "foo", name: "a b", err: `failed to parse "a b": invalid reference format`},
		{remote: "foo", name: "x@" + digest, err: "cannot use digest in plugin tag"},
	}
	for _, tt := range tests {
		got, err := outlet.ParseRemote(tt.remote, tt.name)
		if tt.err != "" {
			if err == nil || err.Error() != tt.err || !errdefs.IsInvalidArgument(err) {
				t.Errorf("ParseRemote(%q, %q) = %+v, %v; want error %q", tt.remote, tt.name, got, err, tt.err)
			}
			continue
		}
		if err != nil || got != tt.want {
			t.Errorf("ParseRemote(%q, %q) = %+v, %v; want %+v", tt.remote, tt.name, got, err, tt.want)
		}
	}
}

func TestIsID(t *testing.T) {
	for in, want := range map[string]bool{
		hex64: true, strings.ToUpper(hex64): false, hex64[1:]: false, hex64 + "0": false, "": false, "g" + hex64[1:]: false,
	} {
		if got := outlet.IsID(in); got != want {
			t.Errorf("IsID(%q) = %v", in, got)
		}
	}
}

func TestNewIDIsNeverANumberInItsShortForm(t *testing.T) {
	number := bytes.Repeat([]byte{0x12}, 32)
	letters := bytes.Repeat([]byte{0xab}, 32)
	id, err := outlet.NewID(io.MultiReader(bytes.NewReader(number), bytes.NewReader(letters)))
	if want := strings.Repeat("ab", 32); err != nil || id != want {
		t.Errorf("id %q, %v; want %q", id, err, want)
	}
	if !outlet.IsID(id) {
		t.Errorf("%q is no id", id)
	}
	if _, err := outlet.NewID(bytes.NewReader(number[:5])); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("from too little randomness: %v", err)
	}
}

func TestResolve(t *testing.T) {
	a, b, c := "abc1"+hex64[4:], "abc2"+hex64[4:], "f00d"+hex64[4:]
	known := []outlet.Identity{
		{ID: a, Name: "foo/bar:latest"},
		{ID: b, Name: "foo/bar:1"},
		{ID: c, Name: "abc:latest"},
	}
	const none, several = "not found", "several"
	tests := map[string]struct {
		in   string
		want int
		err  string
	}{
		"an id":                                {in: b, want: 1},
		"an id nobody has":                     {in: strings.Repeat("0", 64), err: none},
		"a name with its tag":                  {in: "foo/bar:1", want: 1},
		"a name without a tag is the latest":   {in: "foo/bar", want: 0},
		"a complete name":                      {in: "docker.io/foo/bar:1", want: 1},
		"a name with a digest is never found":  {in: "foo/bar@" + digest, err: none},
		"a name before the start of an id":     {in: "abc", want: 2},
		"the start of one id":                  {in: "abc2", want: 1},
		"one character is enough":              {in: "f", want: 2},
		"the start of several ids":             {in: "ab", err: several},
		"upper case is no reference":           {in: "ABC2", err: none},
		"nothing":                              {in: "", err: none},
		"not a reference":                      {in: "a b", err: none},
		"the start of an id is taken as typed": {in: "abc2:latest", err: none},
		"another tag":                          {in: "foo/bar:2", err: none},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := outlet.Resolve(tt.in, known)
			switch tt.err {
			case none:
				if want := `plugin "` + tt.in + `" not found`; err == nil || err.Error() != want || !errdefs.IsNotFound(err) {
					t.Errorf("got %d, %v; want %q", got, err, want)
				}
			case several:
				if want := `multiple plugins found for "` + tt.in + `"`; err == nil || err.Error() != want || !errdefs.IsInvalidArgument(err) {
					t.Errorf("got %d, %v; want %q", got, err, want)
				}
			default:
				if err != nil || got != tt.want {
					t.Errorf("got %d, %v; want %d", got, err, tt.want)
				}
			}
		})
	}
}

func FuzzNames(f *testing.F) {
	for _, s := range []string{"foo/bar:1", "bar", "localhost:5000/x", "a@" + digest, hex64, "A", "", "x:y:z"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, err := outlet.ParseName(s)
		if err != nil {
			return
		}
		if again, err := outlet.ParseName(name); err != nil || again != name {
			t.Errorf("%q is %q, which is %q, %v", s, name, again, err)
		}
		known := []outlet.Identity{{ID: strings.Repeat("0", 64), Name: "other:latest"}, {ID: strings.Repeat("1", 64), Name: name}}
		if i, err := outlet.Resolve(s, known); err != nil || known[i].Name != name {
			t.Errorf("%q is called %q but resolves to %d, %v", s, name, i, err)
		}
		r, err := outlet.ParseRemote(s, "")
		if err != nil || r.Name != name {
			t.Errorf("%q pulled is called %q, %v; want %q", s, r.Name, err, name)
		}
	})
}
