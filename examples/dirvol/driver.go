package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/outletd/outlet/capability/volume"
)

// Classes of errors; the handler turns them into statuses.
var (
	errNotFound = errors.New("not found")
	errInvalid  = errors.New("invalid")
	errInUse    = errors.New("in use")
)

// classed is an error of a class whose text is its own.
type classed struct {
	error
	class error
}

func (e classed) Unwrap() []error { return []error{e.error, e.class} }

func invalidf(format string, args ...any) error {
	return classed{fmt.Errorf(format, args...), errInvalid}
}

func notFound(name string) error {
	return classed{fmt.Errorf("volume %q not found", name), errNotFound}
}

// Directories below the data directory.
const (
	volumesDir = "volumes" // a directory for each volume
	trashDir   = "trash"   // volumes being removed
)

// driver owns the volumes below a directory.
type driver struct {
	path        string // of root
	root        *os.Root
	defaultSize int64
	log         *log.Logger

	mu    sync.Mutex
	state *state
}

// openDriver takes over the volumes of a directory, finishes what an earlier
// run left half done, and mounts again what was mounted.
func openDriver(path string, defaultSize int64, logger *log.Logger) (*driver, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	d := &driver{path: path, root: root, defaultSize: defaultSize, log: logger}
	if err := d.recover(); err != nil {
		root.Close()
		return nil, err
	}
	return d, nil
}

func (d *driver) recover() error {
	for _, dir := range []string{volumesDir, trashDir} {
		if err := d.root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	var err error
	if d.state, err = loadState(d.root); err != nil {
		return err
	}
	if err := d.emptyTrash(); err != nil {
		return err
	}
	if err := d.forgetUnrecorded(); err != nil {
		return err
	}
	for name, v := range d.state.Volumes {
		if _, err := d.root.Lstat(filepath.Join(volumesDir, name)); errors.Is(err, fs.ErrNotExist) {
			delete(d.state.Volumes, name) // its removal had begun
			continue
		}
		if len(v.Mounts) > 0 {
			if err := d.provide(name, v); err != nil {
				d.log.Printf("volume %s cannot be mounted again: %v", name, err)
			}
		}
	}
	return d.state.save(d.root)
}

func (d *driver) emptyTrash() error {
	if err := d.root.RemoveAll(trashDir); err != nil {
		return err
	}
	return d.root.MkdirAll(trashDir, 0o755)
}

// forgetUnrecorded removes directories whose creation was not finished. One
// that has files is nothing dirvol made, and is left alone.
func (d *driver) forgetUnrecorded() error {
	entries, err := fs.ReadDir(d.root.FS(), volumesDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, ok := d.state.Volumes[e.Name()]; ok {
			continue
		}
		if err := d.root.Remove(filepath.Join(volumesDir, e.Name())); err != nil {
			d.log.Printf("%s/%s belongs to no volume: left alone (%v)", volumesDir, e.Name(), err)
		}
	}
	return nil
}

func (d *driver) close() { d.root.Close() }

func (d *driver) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.state.Volumes)
}

// create makes a volume. The same name with the same options again is no error.
func (d *driver) create(name string, given map[string]string) error {
	if err := checkName(name); err != nil {
		return err
	}
	o, err := parseOptions(given, d.defaultSize)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if v, ok := d.state.Volumes[name]; ok {
		if v.Options != o {
			return classed{fmt.Errorf("volume %q exists with other options", name), errInUse}
		}
		return nil
	}
	dir := filepath.Join(volumesDir, name)
	if err := d.root.Mkdir(dir, 0o700); err != nil {
		return err
	}
	d.state.Volumes[name] = &record{Options: o, CreatedAt: time.Now().UTC().Truncate(time.Second)}
	err = d.own(dir, o)
	if err == nil { // or after a loss of power the state tells of a directory that is not there
		err = syncDir(d.root, volumesDir)
	}
	if err == nil {
		err = d.state.save(d.root)
	}
	if err != nil {
		delete(d.state.Volumes, name)
		return errors.Join(err, d.root.Remove(dir))
	}
	d.log.Printf("created volume %s (%s)", name, o.Type)
	return nil
}

// own gives a directory its owner and permissions; the order matters, since
// changing the owner clears the set-id bits.
func (d *driver) own(dir string, o options) error {
	if o.UID != 0 || o.GID != 0 {
		if err := d.root.Lchown(dir, o.UID, o.GID); err != nil {
			return fmt.Errorf("owner %d:%d: %w", o.UID, o.GID, err)
		}
	}
	return d.root.Chmod(dir, fileMode(o.Mode))
}

// fileMode turns the bits of chmod(2) into Go's.
func fileMode(bits uint32) fs.FileMode {
	mode := fs.FileMode(bits & 0o777)
	for bit, m := range map[uint32]fs.FileMode{syscall.S_ISUID: fs.ModeSetuid, syscall.S_ISGID: fs.ModeSetgid, syscall.S_ISVTX: fs.ModeSticky} {
		if bits&bit != 0 {
			mode |= m
		}
	}
	return mode
}

// remove deletes a volume that nobody uses, with its files.
func (d *driver) remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	v, err := d.get(name)
	if err != nil {
		return err
	}
	if n := len(v.Mounts); n > 0 {
		return classed{fmt.Errorf("volume %q is mounted by %d users", name, n), errInUse}
	}
	// A leftover tmpfs would make the rename fail.
	if err := d.withdraw(name, v); err != nil {
		return err
	}
	trash := filepath.Join(trashDir, name)
	if err := d.root.RemoveAll(trash); err != nil {
		return err
	}
	if err := d.root.Rename(filepath.Join(volumesDir, name), trash); err != nil {
		return err
	}
	delete(d.state.Volumes, name)
	if err := d.state.save(d.root); err != nil {
		return err
	}
	d.log.Printf("removed volume %s", name)
	return d.root.RemoveAll(trash)
}

// mount notes that id uses the volume and returns where it is.
func (d *driver) mount(name, id string) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	v, err := d.get(name)
	if err != nil {
		return "", err
	}
	if err := d.provide(name, v); err != nil {
		return "", fmt.Errorf("mount %s: %w", name, err)
	}
	if !slices.Contains(v.Mounts, id) {
		v.Mounts = append(v.Mounts, id)
		if err := d.state.save(d.root); err != nil {
			v.Mounts = v.Mounts[:len(v.Mounts)-1]
			return "", err
		}
	}
	return d.mountpoint(name), nil
}

// unmount notes that id uses the volume no more. An id that does not use it is
// no error: the caller wants it not to.
func (d *driver) unmount(name, id string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	v, err := d.get(name)
	if err != nil {
		return err
	}
	left := slices.DeleteFunc(slices.Clone(v.Mounts), func(m string) bool { return m == id })
	if len(left) == 0 {
		if err := d.withdraw(name, v); err != nil {
			return err
		}
	}
	v.Mounts = left
	return d.state.save(d.root)
}

// unmountAll unmounts every tmpfs. The users stay noted, so that the next run
// mounts again for them.
func (d *driver) unmountAll() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for name, v := range d.state.Volumes {
		errs = append(errs, d.withdraw(name, v))
	}
	return errors.Join(errs...)
}

// provide makes the files of a volume be at its mountpoint.
func (d *driver) provide(name string, v *record) error {
	if v.Options.Type != "tmpfs" {
		return nil
	}
	mounted, err := d.mounted(name)
	if mounted || err != nil {
		return err
	}
	o := v.Options
	data := fmt.Sprintf("size=%d,mode=%o,uid=%d,gid=%d", o.Size, o.Mode, o.UID, o.GID)
	err = syscall.Mount("tmpfs", d.mountpoint(name), "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, data)
	if errors.Is(err, syscall.EPERM) {
		return fmt.Errorf("tmpfs: %w (a volume of type=tmpfs needs CAP_SYS_ADMIN; one of type=dir does not)", err)
	}
	return err
}

// withdraw takes away what provide mounted.
func (d *driver) withdraw(name string, v *record) error {
	if v.Options.Type != "tmpfs" {
		return nil
	}
	mounted, err := d.mounted(name)
	if !mounted || err != nil {
		return err
	}
	if err := syscall.Unmount(d.mountpoint(name), 0); err != nil {
		return fmt.Errorf("unmount %s: %w", name, err)
	}
	return nil
}

// mounted says whether something is mounted at a volume's mountpoint.
func (d *driver) mounted(name string) (bool, error) {
	var at, above syscall.Stat_t
	if err := syscall.Lstat(d.mountpoint(name), &at); err != nil {
		return false, err
	}
	if err := syscall.Lstat(filepath.Join(d.path, volumesDir), &above); err != nil {
		return false, err
	}
	return at.Dev != above.Dev, nil
}

func (d *driver) mountpoint(name string) string {
	return filepath.Join(d.path, volumesDir, name)
}

func (d *driver) get(name string) (*record, error) {
	if v, ok := d.state.Volumes[name]; ok {
		return v, nil
	}
	if err := checkName(name); err != nil {
		return nil, err
	}
	return nil, notFound(name)
}

// describe is a volume as hosts see it.
func (d *driver) describe(name string) (volume.Volume, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	v, err := d.get(name)
	if err != nil {
		return volume.Volume{}, err
	}
	return d.description(name, v), nil
}

func (d *driver) list() []volume.Volume {
	d.mu.Lock()
	defer d.mu.Unlock()
	found := make([]volume.Volume, 0, len(d.state.Volumes))
	for _, name := range slices.Sorted(maps.Keys(d.state.Volumes)) {
		found = append(found, d.description(name, d.state.Volumes[name]))
	}
	return found
}

func (d *driver) description(name string, v *record) volume.Volume {
	status := map[string]any{
		"type":   v.Options.Type,
		"mode":   fmt.Sprintf("%04o", v.Options.Mode),
		"owner":  fmt.Sprintf("%d:%d", v.Options.UID, v.Options.GID),
		"mounts": strconv.Itoa(len(v.Mounts)),
	}
	if v.Options.Type == "tmpfs" {
		status["size"] = strconv.FormatInt(v.Options.Size, 10)
	}
	return volume.Volume{Name: name, Mountpoint: d.mountpoint(name), CreatedAt: volume.Time{Time: v.CreatedAt}, Status: status}
}
