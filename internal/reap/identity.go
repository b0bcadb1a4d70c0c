package reap

import (
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
)

// Identity names a process for longer than its pid does. It is kept on disk as
// JSON.
type Identity struct {
	PID int `json:"pid"`
	// Start is when the process was started, in ticks since boot.
	Start uint64 `json:"start"`
	// Boot tells boots of the machine and pid namespaces apart.
	Boot string `json:"boot,omitempty"`
}

// Identify returns the identity of a process that lives or is a zombie.
// errdefs.ErrNotFound: there is none.
func Identify(pid int) (Identity, error) {
	st, err := ReadStat(pid)
	if err != nil {
		return Identity{}, err
	}
	return NewIdentity(pid, st.Start)
}

// NewIdentity makes the identity of a process of this boot that was started at
// start.
func NewIdentity(pid int, start uint64) (Identity, error) {
	b, err := boot()
	if err != nil {
		return Identity{}, err
	}
	return Identity{PID: pid, Start: start, Boot: b}, nil
}

// Check returns nil if the process exists, as a zombie too, and
// errdefs.ErrNotFound if it does not or its pid belongs to another one now.
func (id Identity) Check() error {
	now, err := Identify(id.PID)
	if err != nil {
		return err
	}
	if now != id {
		return outlet.Errorf(errdefs.ErrNotFound, "process %d is another one now", id.PID)
	}
	return nil
}

// boot cannot change in the life of a process.
var boot = sync.OnceValues(readBoot)

func readBoot() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("boot id: %w", err)
	}
	ns, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return "", fmt.Errorf("pid namespace: %w", err)
	}
	return strings.TrimSpace(string(b)) + " " + ns, nil
}
