package plugins

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/outletd/outlet/plugins/tlsconfig"
)

// maxDefinition is the longest spec or JSON file that is read, in bytes.
const maxDefinition = 1 << 20

// Kind is the kind of file that makes a plugin known.
type Kind string

// The three kinds, named as their extensions.
const (
	KindSocket Kind = "sock"
	KindSpec   Kind = "spec"
	KindJSON   Kind = "json"
)

// Definition is what the files of this host say about a v1 plugin.
type Definition struct {
	// Name is the plugin's name: the name of the file without its extension.
	Name string
	// Path is the file.
	Path string
	// Kind is the kind of the file.
	Kind Kind
	// Address is where the plugin is reached.
	Address Address
	// Addr is the address as the file has it.
	Addr string
	// TLS is the TLSConfig of a JSON file, or nil.
	TLS *tlsconfig.Options

	file fileID
}

// fileID tells whether a file is still the one it was.
type fileID struct {
	path     string
	dev, ino uint64
	mtime    time.Time
	size     int64
}

// selected is the file that decides about a name, before it is read.
type selected struct {
	name string
	kind Kind
	file fileID
}

// dirs are the directories that a registry looks at.
type dirs struct {
	sockets string
	specs   []string
}

// ValidName says whether a v1 plugin can have the name: one component of a path
// that does not start with a dot.
func ValidName(name string) bool {
	return name != "" && name[0] != '.' && !strings.ContainsAny(name, "/\\\x00")
}

// notFoundError says which name has no definition file.
type notFoundError struct{ name string }

func (e *notFoundError) Error() string {
	return "could not find plugin " + printable(e.name) + " in v1 plugin registry: " + ErrNotFound.Error()
}

func (e *notFoundError) Unwrap() error { return ErrNotFound }

// NotFound marks the error's class.
func (e *notFoundError) NotFound() {}

// find selects the file that defines name. It only asks for what is there and
// reads nothing, in the order of docs/spec/v1-plugins.md §2.3.
func (d dirs) find(name string) (selected, error) {
	if !ValidName(name) {
		return selected{}, &notFoundError{name}
	}
	for _, p := range candidates(d.sockets, name, KindSocket) {
		if fi, err := os.Stat(p); err == nil && fi.Mode()&fs.ModeSocket != 0 {
			return selected{name, KindSocket, identify(p, fi)}, nil
		}
	}
	for _, dir := range d.specs {
		for _, kind := range []Kind{KindSpec, KindJSON} {
			for _, p := range candidates(dir, name, kind) {
				if fi, err := os.Stat(p); err == nil {
					return selected{name, kind, identify(p, fi)}, nil
				}
			}
		}
	}
	return selected{}, &notFoundError{name}
}

// candidates are the flat and the nested form.
func candidates(dir, name string, kind Kind) [2]string {
	file := name + "." + string(kind)
	return [2]string{filepath.Join(dir, file), filepath.Join(dir, name, file)}
}

// lookup finds and reads the definition of name.
func (d dirs) lookup(name string) (Definition, error) {
	s, err := d.find(name)
	if err != nil {
		return Definition{}, err
	}
	return s.read()
}

// read makes a definition of the selected file.
func (s selected) read() (Definition, error) {
	def := Definition{Name: s.name, Path: s.file.path, Kind: s.kind, file: s.file}
	if s.kind == KindSocket {
		abs, err := filepath.Abs(s.file.path)
		if err != nil {
			return Definition{}, err
		}
		def.Addr = "unix://" + filepath.ToSlash(abs)
		def.Address, err = ParseAddress(def.Addr)
		return def, err
	}
	content, err := readDefinition(s.file.path)
	if err != nil {
		return Definition{}, err
	}
	if s.kind == KindJSON {
		def.Addr, def.TLS, err = parseJSON(content)
	} else {
		def.Addr = strings.TrimSpace(string(content))
	}
	if err == nil {
		def.Address, err = ParseAddress(def.Addr)
	}
	if err != nil {
		return Definition{}, &definitionError{s.file.path, err}
	}
	return def, nil
}

// definitionError is a file that makes no sense; its path is what helps to mend
// it.
type definitionError struct {
	path string
	err  error
}

func (e *definitionError) Error() string { return e.path + ": " + e.err.Error() }
func (e *definitionError) Unwrap() error { return e.err }

// readDefinition reads a file that strangers may have written: no device or
// pipe that never ends, and not more than maxDefinition.
func readDefinition(path string) ([]byte, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, &definitionError{path, errors.New("not a regular file")}
	}
	// What is there by now may be something else: opening a pipe must not block.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if fi, err = f.Stat(); err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, &definitionError{path, errors.New("not a regular file")}
	}
	content, err := io.ReadAll(io.LimitReader(f, maxDefinition+1))
	if err != nil {
		return nil, err
	}
	if len(content) > maxDefinition {
		return nil, &definitionError{path, fmt.Errorf("longer than %d bytes", maxDefinition)}
	}
	return content, nil
}

// parseJSON reads the address and the TLS options of a JSON definition. Other
// fields are ignored, the name among them: the file's name decides.
func parseJSON(content []byte) (addr string, options *tlsconfig.Options, err error) {
	var d struct {
		Addr      string
		TLSConfig *tlsconfig.Options
	}
	if err := json.NewDecoder(bytes.NewReader(content)).Decode(&d); err != nil {
		return "", nil, fmt.Errorf("decode plugin definition: %w", err)
	}
	return d.Addr, d.TLSConfig, nil
}

// scan calls read for the file of each name that lookup finds: sockets first,
// then each spec directory, each directory in lexical order, each name once.
// What cannot be read is passed over and reported in the error, which joins one
// error for each directory and each definition.
func (d dirs) scan(read func(selected) error) error {
	var errs []error
	seen := make(map[string]bool)
	each := func(name string) {
		if seen[name] || !ValidName(name) {
			return
		}
		seen[name] = true
		s, err := d.find(name)
		if err == nil {
			err = read(s)
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			errs = append(errs, fmt.Errorf("plugin %s: %w", name, err))
		}
	}
	for i, dir := range append([]string{d.sockets}, d.specs...) {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("error reading dir entries: %w", err))
		}
		for _, e := range entries {
			for _, name := range names(e, i == 0) {
				each(name)
			}
		}
	}
	return errors.Join(errs...)
}

// names are the names that a directory entry may stand for. Whether it does is
// for find to decide.
func names(e fs.DirEntry, sockets bool) []string {
	name, ext := e.Name(), filepath.Ext(e.Name())
	stem := strings.TrimSuffix(name, ext)
	switch {
	case sockets && ext == ".sock", !sockets && (ext == ".spec" || ext == ".json"):
		// The entry may also be a directory that has the name of a file.
		if e.Type().IsRegular() || e.Type()&fs.ModeSocket != 0 {
			return []string{stem}
		}
		return []string{stem, name}
	case e.IsDir(), e.Type()&fs.ModeSymlink != 0:
		return []string{name}
	}
	return nil
}
