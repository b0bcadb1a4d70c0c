package credentials

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
)

// Hub is how Docker Hub is called in config.json, for historical reasons.
const Hub = "https://index.docker.io/v1/"

// maxFile bounds config.json, in bytes.
const maxFile = 4 << 20

// tokenUser is the user name under which helpers keep an identity token.
const tokenUser = "<token>"

// File is a config.json. It is read once and written as a whole.
type File struct {
	path   string
	env    []string
	keys   map[string]json.RawMessage // all of it
	auths  map[string]json.RawMessage
	store  string            // credsStore
	helper map[string]string // credHelpers
}

// entry is what an entry of "auths" says; other keys of it are kept.
type entry struct {
	Auth          string `json:"auth,omitempty"`
	Username      string `json:"username,omitempty"`
	Password      string `json:"password,omitempty"`
	IdentityToken string `json:"identitytoken,omitempty"`
	RegistryToken string `json:"registrytoken,omitempty"`
}

// Path is where docker's config.json is, in an environment.
func Path(getenv func(string) string) (string, error) {
	if dir := getenv("DOCKER_CONFIG"); dir != "" {
		return filepath.Join(dir, "config.json"), nil
	}
	home := getenv("HOME")
	if home == "" {
		return "", errors.New("neither DOCKER_CONFIG nor HOME says where config.json is")
	}
	return filepath.Join(home, ".docker", "config.json"), nil
}

// Open reads a config.json; one that does not exist is empty. env is the
// environment of the credential helpers, nil is that of this process.
func Open(path string, env []string) (*File, error) {
	f := &File{path: path, env: env, keys: map[string]json.RawMessage{}, auths: map[string]json.RawMessage{}}
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return nil, err
	}
	if st.Size() > maxFile {
		return nil, outlet.Errorf(errdefs.ErrInvalidArgument, "%s is larger than %d bytes", path, maxFile)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if len(strings.TrimSpace(string(raw))) == 0 {
		return f, nil
	}
	if err := json.Unmarshal(raw, &f.keys); err != nil {
		return nil, outlet.Errorf(errdefs.ErrInvalidArgument, "%s: %w", path, err)
	}
	if f.keys == nil { // the file says null
		f.keys = map[string]json.RawMessage{}
	}
	for key, into := range map[string]any{"auths": &f.auths, "credsStore": &f.store, "credHelpers": &f.helper} {
		if raw, ok := f.keys[key]; ok {
			if err := json.Unmarshal(raw, into); err != nil {
				return nil, outlet.Errorf(errdefs.ErrInvalidArgument, "%s: %s: %w", path, key, err)
			}
		}
	}
	if f.auths == nil {
		f.auths = map[string]json.RawMessage{}
	}
	return f, nil
}

// Server is the key that stands for a registry: the domain of a reference, or
// what a user calls it.
func Server(registry string) string {
	switch host(registry) {
	case "", "docker.io", "index.docker.io", "registry-1.docker.io":
		return Hub
	}
	return host(registry)
}

// host is the host of a registry's address.
func host(address string) string {
	address = strings.TrimPrefix(strings.TrimPrefix(address, "https://"), "http://")
	name, _, _ := strings.Cut(address, "/")
	return name
}

// Get returns the credentials for a registry; none is no error.
func (f *File) Get(ctx context.Context, registry string) (outlet.RegistryAuth, error) {
	server := Server(registry)
	if helper := f.helperOf(server); helper != "" {
		a, err := f.ask(ctx, helper, server)
		if err != nil || a != (outlet.RegistryAuth{}) {
			return a, err
		}
	}
	key, ok := f.key(server)
	if !ok {
		return outlet.RegistryAuth{}, nil
	}
	var e entry
	if err := json.Unmarshal(f.auths[key], &e); err != nil {
		return outlet.RegistryAuth{}, outlet.Errorf(errdefs.ErrInvalidArgument, "%s: the entry of %s: %w", f.path, key, err)
	}
	a := outlet.RegistryAuth{
		Username: e.Username, Password: e.Password,
		IdentityToken: e.IdentityToken, RegistryToken: e.RegistryToken,
	}
	if e.Auth != "" {
		raw, err := base64.StdEncoding.DecodeString(e.Auth)
		username, password, found := strings.Cut(string(raw), ":")
		if err != nil || !found {
			return outlet.RegistryAuth{}, outlet.Errorf(errdefs.ErrInvalidArgument, "%s: the entry of %s has an \"auth\" that is not base64 of name:password", f.path, key)
		}
		a.Username, a.Password = username, strings.TrimRight(password, "\x00")
	}
	if a != (outlet.RegistryAuth{}) {
		a.ServerAddress = server
	}
	return a, nil
}

// Put keeps credentials for the registry they name. encrypted says that a helper
// keeps them; else they are in the file, for everybody who can read it.
func (f *File) Put(ctx context.Context, a outlet.RegistryAuth) (encrypted bool, err error) {
	server := Server(a.ServerAddress)
	e := entry{IdentityToken: a.IdentityToken}
	helper := f.helperOf(server)
	if helper != "" {
		if err := f.keep(ctx, helper, server, a); err != nil {
			return false, err
		}
		e = entry{} // an empty entry says that there is something
	} else {
		password := a.Password
		if a.IdentityToken != "" {
			password = "" // the token takes its place
		}
		e.Auth = base64.StdEncoding.EncodeToString([]byte(a.Username + ":" + password))
	}
	if key, ok := f.key(server); ok {
		delete(f.auths, key)
	}
	if f.auths[server], err = json.Marshal(e); err != nil {
		return false, err
	}
	return helper != "", f.write()
}

// Erase forgets the credentials for a registry, and says whether there were any.
func (f *File) Erase(ctx context.Context, registry string) (had bool, err error) {
	server := Server(registry)
	if helper := f.helperOf(server); helper != "" {
		if had, err = f.forget(ctx, helper, server); err != nil {
			return false, err
		}
	}
	key, ok := f.key(server)
	if !ok {
		return had, nil
	}
	delete(f.auths, key)
	return true, f.write()
}

// helperOf is the helper that keeps the credentials of a server.
func (f *File) helperOf(server string) string {
	for _, key := range []string{server, host(server)} {
		if h := f.helper[key]; h != "" {
			return h
		}
	}
	return f.store
}

// key is the key of a server in "auths", which older clients wrote as URLs.
func (f *File) key(server string) (string, bool) {
	if _, ok := f.auths[server]; ok {
		return server, true
	}
	for key := range f.auths {
		if Server(key) == server {
			return key, true
		}
	}
	return "", false
}

// write puts the file in the place of the old one, which is there until the new
// one is whole.
func (f *File) write() (err error) {
	if f.keys["auths"], err = json.Marshal(f.auths); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(f.keys, "", "\t")
	if err != nil {
		return err
	}
	path := f.path
	if to, err := filepath.EvalSymlinks(path); err == nil {
		path = to // what a link leads to is what its user keeps
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "config.json-") // 0600
	if err != nil {
		return err
	}
	_, err = tmp.Write(append(raw, '\n'))
	if err == nil {
		err = tmp.Sync()
	}
	err = errors.Join(err, tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(tmp.Name()))
	}
	return nil
}
