package runc

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/outletd/outlet/internal/reap"
	"github.com/outletd/outlet/internal/runtime/contained"
)

// note is what we keep of a container on disk, beside runc's own state, which is
// in directories. It is written before runc is called.
type note struct {
	contained.Note
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
}

func (r *Runtime) stateDir(id string) string { return filepath.Join(r.cfg.Root, id) }

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
	c := &container{runtime: r, id: id, killed: new(atomic.Bool), mountNS: new(heldMountNS)}
	noteErr := r.base.Notes.Read(id, &c.note)
	if noteErr != nil && !errors.Is(noteErr, fs.ErrNotExist) {
		return nil, noteErr
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
