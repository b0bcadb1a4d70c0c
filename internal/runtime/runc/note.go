package runc

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/durable"
	"github.com/outletd/outlet/internal/reap"
)

// noteSuffix ends the names of our notes in runc's root. runc takes only the
// directories there for containers.
const noteSuffix = ".json"

// note is what we keep of a container on disk, beside runc's own state. It is
// written before runc is called, so that whatever runc leaves behind when
// everything dies can be found by the container's id alone, and again when the
// process is known.
type note struct {
	Bundle string `json:"bundle"`
	// CgroupsPath is linux.cgroupsPath of the spec.
	CgroupsPath string `json:"cgroupsPath,omitempty"`
	// Cgroups are the directories of the container's cgroups, by hierarchy;
	// "" is the unified one.
	Cgroups map[string]string `json:"cgroups,omitempty"`
	// OwnPIDs says that the container has a pid namespace: the end of its main
	// process is the end of all.
	OwnPIDs bool `json:"ownPIDs,omitempty"`
	// Hooks says that the spec has hooks that runc must run at the end.
	Hooks bool `json:"hooks,omitempty"`
	// MountNS is the container's mount namespace as /proc shows it; "" if it is
	// not known. It tells the container's processes where no cgroup can.
	MountNS string `json:"mountNS,omitempty"`
	// Init is the main process, nil as long as it is not known.
	Init *reap.Identity `json:"init,omitempty"`
	// Exit is how it ended, if this was seen.
	Exit *outlet.Exit `json:"exit,omitempty"`
}

func (r *Runtime) notePath(id string) string { return filepath.Join(r.cfg.Root, id+noteSuffix) }
func (r *Runtime) stateDir(id string) string { return filepath.Join(r.cfg.Root, id) }

// tmpPath is where a note is written; a crash may leave it.
func (r *Runtime) tmpPath(id string) string { return filepath.Join(r.cfg.Root, "."+id+noteSuffix) }

// forget removes the note of id.
func (r *Runtime) forget(id string) error {
	r.notes.Lock()
	defer r.notes.Unlock()
	var errs []error
	for _, path := range []string{r.tmpPath(id), r.notePath(id)} {
		if err := durable.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// writeNote replaces the note of id. It is not synced: what it tells of does not
// outlive the machine either.
func (r *Runtime) writeNote(id string, n *note) error {
	r.notes.Lock()
	defer r.notes.Unlock()
	return r.writeNoteLocked(id, n)
}

// noteExit adds the exit of the process init to the note of id, unless the
// container was removed or replaced meanwhile.
func (r *Runtime) noteExit(id string, init reap.Identity, exit outlet.Exit) error {
	r.notes.Lock()
	defer r.notes.Unlock()
	b, err := os.ReadFile(r.notePath(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var n note
	if err := json.Unmarshal(b, &n); err != nil {
		return fmt.Errorf("note of %s: %w", id, err)
	}
	if n.Init == nil || *n.Init != init {
		return nil
	}
	n.Exit = &exit
	return r.writeNoteLocked(id, &n)
}

func (r *Runtime) writeNoteLocked(id string, n *note) error {
	b, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("note of %s: %w", id, err)
	}
	tmp := r.tmpPath(id)
	if err := durable.WriteFile(tmp, b, 0o600); err != nil {
		return fmt.Errorf("note of %s: %w", id, err)
	}
	if err := durable.Rename(tmp, r.notePath(id)); err != nil {
		return fmt.Errorf("note of %s: %w", id, errors.Join(err, durable.Remove(tmp)))
	}
	return nil
}

// state is the part of runc's state.json that we read. Its names have been the
// same since runc 1.0.
type state struct {
	InitPID   int               `json:"init_process_pid"`
	InitStart uint64            `json:"init_process_start"`
	Cgroups   map[string]string `json:"cgroup_paths"`
	// created says that the process still waits to become the container's.
	created bool
}

// readState reads runc's state of a container. fs.ErrNotExist: runc knows none,
// or did not get as far as writing it.
func readState(dir string) (*state, error) {
	b, err := os.ReadFile(filepath.Join(dir, "state.json"))
	if err != nil {
		return nil, err
	}
	var s state
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("%s/state.json: %w", dir, err)
	}
	if _, err := os.Lstat(filepath.Join(dir, "exec.fifo")); err == nil {
		s.created = true
	}
	return &s, nil
}

// load returns what is known of a container. fs.ErrNotExist: nothing.
func (r *Runtime) load(id string) (*container, error) {
	c := &container{runtime: r, id: id, killed: new(atomic.Bool)}
	b, noteErr := os.ReadFile(r.notePath(id))
	if noteErr == nil {
		// A note that is no JSON was torn by a crash of the machine; then there
		// is nothing it could tell of.
		if err := json.Unmarshal(b, &c.note); err != nil {
			r.log.Warn("note of a container is damaged", "id", id, "error", err)
		}
	} else if !errors.Is(noteErr, fs.ErrNotExist) {
		return nil, fmt.Errorf("note of %s: %w", id, noteErr)
	}
	c.unfinished = c.note.Init == nil
	if _, err := os.Lstat(r.stateDir(id)); errors.Is(err, fs.ErrNotExist) {
		if noteErr != nil {
			return nil, noteErr
		}
		return c, nil
	}
	st, err := readState(r.stateDir(id))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		c.note.addCgroups(nil)
		return c, nil
	case err != nil:
		r.log.Warn("state of a container is damaged", "id", id, "error", err)
		c.note.addCgroups(nil)
		return c, nil
	}
	c.created = st.created
	if err := c.adopt(st); err != nil {
		return nil, err
	}
	c.findMountNS()
	return c, nil
}

// adopt takes from runc's state what the note does not know yet.
func (c *container) adopt(st *state) error {
	c.note.addCgroups(st.Cgroups)
	if c.note.Init != nil || st.InitPID <= 0 {
		return nil
	}
	id, err := reap.NewIdentity(st.InitPID, st.InitStart)
	if err != nil {
		return err
	}
	c.note.Init = &id
	return nil
}

// addCgroups takes the directories from runc, or works them out from the path in
// the spec if runc died before it could tell.
func (n *note) addCgroups(paths map[string]string) {
	if len(paths) > 0 {
		n.Cgroups = paths
	}
	if len(n.Cgroups) == 0 && filepath.IsAbs(n.CgroupsPath) {
		n.Cgroups = cgroupDirs(n.CgroupsPath)
	}
}
