package chroot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/durable"
	"github.com/outletd/outlet/internal/reap"
)

const noteSuffix = ".json"

// note is what is kept of a container on disk: written before anything is done,
// so that whatever a crash leaves behind is found, and again when the process is
// known.
type note struct {
	Bundle string `json:"bundle"`
	// Rootfs has no symbolic links: it is what /proc shows as the root of the
	// container's processes.
	Rootfs string `json:"rootfs"`
	Links  []link `json:"links,omitempty"`
	// Init is the main process, nil as long as it is not known.
	Init *reap.Identity `json:"init,omitempty"`
	// Exit is how it ended, if this was seen.
	Exit *outlet.Exit `json:"exit,omitempty"`
}

func (r *Runtime) notePath(id string) string {
	return filepath.Join(r.cfg.StateDir, id+noteSuffix)
}

// tmpPath is where a note is written; a crash may leave it.
func (r *Runtime) tmpPath(id string) string {
	return filepath.Join(r.cfg.StateDir, "."+id+noteSuffix)
}

// forget removes the note of id.
func (r *Runtime) forget(id string) error {
	r.notes.Lock()
	defer r.notes.Unlock()
	return errors.Join(ignoreNotExist(durable.Remove(r.tmpPath(id))), ignoreNotExist(durable.Remove(r.notePath(id))))
}

// writeNote replaces the note of id. It is not synced: the processes it tells of
// do not outlive the machine, and the links are found by looking.
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

// load returns what is known of a container. fs.ErrNotExist: nothing.
func (r *Runtime) load(id string) (*container, error) {
	b, err := os.ReadFile(r.notePath(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("note of %s: %w", id, err)
	}
	c := &container{runtime: r, id: id}
	if err := json.Unmarshal(b, &c.note); err != nil {
		r.log.Warn("note of a container is damaged", "id", id, "error", err)
	}
	return c, nil
}
