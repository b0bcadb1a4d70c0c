package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
)

// record is what is kept of a volume.
type record struct {
	Options   options
	CreatedAt time.Time
	// Mounts are the ids that use the volume.
	Mounts []string `json:",omitempty"`
}

// state is the content of the state file.
type state struct {
	Version int
	// Boot tells one start of the machine from another: who used volumes
	// before the machine was started again uses them no more.
	Boot    string
	Volumes map[string]*record
}

const (
	stateFile = "state.json"
	stateTemp = "state.json.new"
)

func loadState(root *os.Root) (*state, error) {
	s := &state{Version: 1, Volumes: make(map[string]*record)}
	b, err := root.ReadFile(stateFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	default:
		if err := json.Unmarshal(b, s); err != nil {
			return nil, fmt.Errorf("%s: %w", stateFile, err)
		}
	}
	if s.Version != 1 {
		return nil, fmt.Errorf("%s has version %d, this dirvol knows 1", stateFile, s.Version)
	}
	for name, v := range s.Volumes {
		if err := checkName(name); err != nil || v == nil {
			return nil, fmt.Errorf("%s: bad volume %q", stateFile, name)
		}
	}
	if boot := bootID(); s.Boot != boot {
		s.Boot = boot
		for _, v := range s.Volumes {
			v.Mounts = nil
		}
	}
	return s, nil
}

// save replaces the state file: after a crash there is the old or the new one.
func (s *state) save(root *os.Root) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	f, err := root.OpenFile(stateTemp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := root.Rename(stateTemp, stateFile); err != nil {
		return err
	}
	return syncDir(root, ".")
}

// syncDir makes the entries of a directory durable.
func syncDir(root *os.Root, name string) error {
	dir, err := root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// bootID is the kernel's id of this start of the machine, "" if it tells none.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
