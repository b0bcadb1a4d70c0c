package contained

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/durable"
	"github.com/outletd/outlet/internal/reap"
	"github.com/outletd/outlet/internal/runtime"
)

// Note is what is kept of a container on disk whatever runs it: a runtime embeds
// it in what it keeps besides. It is written before anything is done, so that
// whatever a crash leaves behind is found by the container's id alone, and again
// when the process is known.
type Note struct {
	Bundle string `json:"bundle"`
	// Init is the main process, nil as long as it is not known.
	Init *reap.Identity `json:"init,omitempty"`
	// Exit is how it ended, if this was seen.
	Exit *outlet.Exit `json:"exit,omitempty"`
}

// Common returns n. What embeds a Note is a [Noted] by it.
func (n *Note) Common() *Note { return n }

// Noted is a note of some runtime, written as JSON.
type Noted interface{ Common() *Note }

// suffix ends the names of notes.
const suffix = ".json"

// Notes are the notes on one runtime's containers: a file for each, in a
// directory of the runtime. The methods may be called concurrently.
type Notes struct {
	dir   string
	empty func() Noted
	log   *slog.Logger

	mu sync.Mutex // held while a note is written or removed
}

// NewNotes returns the notes in dir, which need not exist yet. empty returns a
// new note of the runtime's own kind. log is told of damaged notes.
func NewNotes(dir string, empty func() Noted, log *slog.Logger) *Notes {
	return &Notes{dir: dir, empty: empty, log: log}
}

// Path is the file of the note on id.
func (n *Notes) Path(id string) string { return filepath.Join(n.dir, id+suffix) }

// tmpPath is where a note is written; a crash may leave it.
func (n *Notes) tmpPath(id string) string { return filepath.Join(n.dir, "."+id+suffix) }

// IDs returns the ids on which there are notes, sorted. With dirs, a directory
// of a container's name counts too: that of a runtime that keeps one.
func (n *Notes) IDs(dirs bool) ([]string, error) {
	entries, err := os.ReadDir(n.dir)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, e := range entries {
		id, ok := strings.CutSuffix(e.Name(), suffix)
		if dirs && e.IsDir() {
			id, ok = e.Name(), true
		}
		if ok && runtime.CheckID(id) == nil {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// Read reads the note on id into to. A note that is no JSON was torn by a crash
// of the machine; then there is nothing it could tell of, and what could not be
// read is left out. fs.ErrNotExist: there is none.
func (n *Notes) Read(id string, to Noted) error {
	b, err := os.ReadFile(n.Path(id))
	if errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err != nil {
		return fmt.Errorf("note of %s: %w", id, err)
	}
	if err := json.Unmarshal(b, to); err != nil {
		n.log.Warn("note of a container is damaged", "id", id, "error", err)
	}
	return nil
}

// Write replaces the note on id. It is not synced: the processes it tells of do
// not outlive the machine either.
func (n *Notes) Write(id string, note Noted) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.writeLocked(id, note)
}

// Forget removes the note on id, if there is one.
func (n *Notes) Forget(id string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var errs []error
	for _, path := range []string{n.tmpPath(id), n.Path(id)} {
		if err := durable.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// addExit adds how the process init ended to the note on id, unless the
// container was removed or replaced meanwhile.
func (n *Notes) addExit(id string, init reap.Identity, exit outlet.Exit) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	b, err := os.ReadFile(n.Path(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	note := n.empty()
	if err := json.Unmarshal(b, note); err != nil {
		return fmt.Errorf("note of %s: %w", id, err)
	}
	common := note.Common()
	if common.Init == nil || *common.Init != init {
		return nil
	}
	common.Exit = &exit
	return n.writeLocked(id, note)
}

func (n *Notes) writeLocked(id string, note Noted) error {
	b, err := json.Marshal(note)
	if err != nil {
		return fmt.Errorf("note of %s: %w", id, err)
	}
	tmp := n.tmpPath(id)
	if err := durable.WriteFile(tmp, b, 0o600); err != nil {
		return fmt.Errorf("note of %s: %w", id, err)
	}
	if err := durable.Rename(tmp, n.Path(id)); err != nil {
		return fmt.Errorf("note of %s: %w", id, errors.Join(err, durable.Remove(tmp)))
	}
	return nil
}
