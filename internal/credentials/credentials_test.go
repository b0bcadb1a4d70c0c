package credentials

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/outletd/outlet"
)

func open(t *testing.T, path string) *File {
	t.Helper()
	f, err := Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestServersHaveOneKey(t *testing.T) {
	for registry, want := range map[string]string{
		"": Hub, "docker.io": Hub, "index.docker.io": Hub, Hub: Hub, "https://registry-1.docker.io/v2/": Hub,
		"registry.lan:5000": "registry.lan:5000", "https://registry.lan/v1/": "registry.lan", "http://registry.lan": "registry.lan",
	} {
		if got := Server(registry); got != want {
			t.Errorf("%q is %q, want %q", registry, got, want)
		}
	}
}

func TestWhatDockerWroteIsRead(t *testing.T) {
	f := open(t, write(t, `{"auths":{
		"https://index.docker.io/v1/":{"auth":"aHViOmEgcGFzczp3b3Jk"},
		"https://old.lan/v1/":{"auth":"b2xkOnB3"},
		"token.lan":{"auth":"PHRva2VuPjo=","identitytoken":"t"},
		"empty.lan":{}
	}}`))
	for registry, want := range map[string]outlet.RegistryAuth{
		"docker.io": {Username: "hub", Password: "a pass:word", ServerAddress: Hub},
		"old.lan":   {Username: "old", Password: "pw", ServerAddress: "old.lan"},
		"token.lan": {Username: "<token>", IdentityToken: "t", ServerAddress: "token.lan"},
		"empty.lan": {}, "unknown.lan": {}, "lan": {}, "evil.old.lan": {},
	} {
		got, err := f.Get(t.Context(), registry)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", registry, err, diff)
		}
	}
}

func TestPutKeepsEverythingElse(t *testing.T) {
	path := write(t, `{"psFormat":"x","auths":{"a.lan":{"auth":"YTpi","email":"e"},"https://b.lan/v1/":{"auth":"YTpi"}},"plugins":{"x":{"y":1}}}`)
	link := filepath.Join(t.TempDir(), "config.json")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	f := open(t, link)
	if encrypted, err := f.Put(t.Context(), outlet.RegistryAuth{Username: "u", Password: "p:q", ServerAddress: "b.lan"}); err != nil || encrypted {
		t.Fatal(encrypted, err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got, want any
	if err := errors.Join(json.Unmarshal(raw, &got), json.Unmarshal([]byte(
		`{"psFormat":"x","auths":{"a.lan":{"auth":"YTpi","email":"e"},"b.lan":{"auth":"dTpwOnE="}},"plugins":{"x":{"y":1}}}`), &want)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if st, err := os.Lstat(link); err != nil || st.Mode()&os.ModeSymlink == 0 {
		t.Error("the link was replaced")
	}
	f = open(t, link)
	if had, err := f.Erase(t.Context(), "b.lan"); err != nil || !had {
		t.Error(had, err)
	}
	if had, err := f.Erase(t.Context(), "b.lan"); err != nil || had {
		t.Error("erased twice:", had, err)
	}
}

func TestAFileThatIsMissingIsMade(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "config.json")
	if _, err := open(t, path).Put(t.Context(), outlet.RegistryAuth{Username: "u", Password: "p"}); err != nil {
		t.Fatal(err)
	}
	a, err := open(t, path).Get(t.Context(), "docker.io")
	if err != nil || a.Username != "u" || a.Password != "p" {
		t.Error(a, err)
	}
}

func TestBrokenFilesAreRefused(t *testing.T) {
	for _, content := range []string{"{", `{"auths":[]}`, `{"credHelpers":{"a":1}}`, `[]`} {
		if _, err := Open(write(t, content), nil); err == nil {
			t.Errorf("%s was read", content)
		}
	}
	for _, content := range []string{`{"auths":{"a.lan":{"auth":"%%%"}}}`, `{"auths":{"a.lan":{"auth":"bm9jb2xvbg=="}}}`, `{"auths":{"a.lan":7}}`, `{"credsStore":"../x"}`, `{"credsStore":"nowhere"}`} {
		if a, err := open(t, write(t, content)).Get(t.Context(), "a.lan"); err == nil {
			t.Errorf("%s gives %+v", content, a)
		}
	}
}

// helper keeps secrets in files, as simple as one can be.
const helper = `#!/bin/sh
key() { cat | tr -c 'a-zA-Z0-9.\n' _; }
case $1 in
get) f="$DIR/$(key)"; if [ -f "$f" ]; then cat "$f"; else echo "credentials not found in native keychain"; exit 1; fi;;
store) in=$(cat); f=$(printf %s "$in" | sed 's/.*"ServerURL":"\([^"]*\)".*/\1/' | key); printf %s "$in" >"$DIR/$f";;
erase) rm "$DIR/$(key)";;
*) echo "no such action"; exit 1;;
esac
`

func TestHelpersKeepWhatTheyAreTo(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	t.Setenv("DIR", t.TempDir())
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-files"), []byte(helper), 0o755); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	broken := "#!/bin/sh\necho it is locked; exit 3\n"
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-broken"), []byte(broken), 0o755); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	path := write(t, `{"credsStore":"files","credHelpers":{"broken.lan":"broken"}}`)
	for _, a := range []outlet.RegistryAuth{
		{Username: "u", Password: "secret", ServerAddress: "a.lan"},
		{IdentityToken: "secret", ServerAddress: Hub},
	} {
		f := open(t, path)
		if encrypted, err := f.Put(t.Context(), a); err != nil || !encrypted {
			t.Fatal(encrypted, err)
		}
		raw, err := os.ReadFile(path)
		if err != nil || strings.Contains(string(raw), "secret") || !strings.Contains(string(raw), a.ServerAddress) {
			t.Errorf("the file has %s, %v", raw, err)
		}
		got, err := open(t, path).Get(t.Context(), a.ServerAddress)
		if diff := cmp.Diff(a, got); err != nil || diff != "" {
			t.Errorf("%v\n%s", err, diff)
		}
		if had, err := open(t, path).Erase(t.Context(), a.ServerAddress); err != nil || !had {
			t.Error(had, err)
		}
		if got, err := open(t, path).Get(t.Context(), a.ServerAddress); err != nil || got != (outlet.RegistryAuth{}) {
			t.Error(got, err)
		}
	}
	_, err := open(t, path).Get(t.Context(), "broken.lan")
	if err == nil || err.Error() != "the credential helper docker-credential-broken failed to get: it is locked" {
		t.Errorf("got %v", err)
	}
}
