// Package volumes is what the daemon knows of volumes: which plugin has which,
// what they were created with, and under which ids they are mounted. It drives
// volume plugins by the rules of docs/spec/capabilities.md §2 and
// docs/spec/engine-api.md §7.7, and keeps records and mounts on disk.
//
// It runs no plugins, serves no HTTP, and holds no data of volumes: that is the
// plugins' business. Plugins are reached through the interfaces [Plugins] and
// [Legacy], which package manager and the v1 library satisfy by way of the
// daemon.
package volumes

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/capability/volume"
)

// DefaultListTimeout is how long one plugin may take to list its volumes, or to
// say whether it has one of a name that nobody is known to have.
const DefaultListTimeout = 15 * time.Second

// maxName is how many bytes the name of a volume and the id of a mount may have.
const maxName = 255

// The actions of events.
const (
	ActionCreate  = "create"
	ActionMount   = "mount"
	ActionUnmount = "unmount"
	ActionDestroy = "destroy"
)

// Config is what a [Service] works with. Plugins and Store are required.
type Config struct {
	Plugins Plugins
	// Legacy are the v1 plugins; nil is none.
	Legacy Legacy
	Store  Store
	// Event is told of what happened, after it did, with the lock of the volume
	// held; it must not call back. Nil tells nobody.
	Event func(action string, v outlet.Volume, attributes map[string]string)
	// Logger is told of what went wrong in the background; nil discards.
	Logger *slog.Logger
	// Timeouts bound the calls to plugins; zero fields take the defaults of
	// package volume.
	Timeouts volume.Timeouts
	// ListTimeout bounds each plugin's part in a search of all plugins; 0 takes
	// DefaultListTimeout.
	ListTimeout time.Duration
	// Now tells the time; nil is time.Now.
	Now func() time.Time
	// Rand is where names and ids are made of; nil is crypto/rand.
	Rand io.Reader
}

// Service is the volumes of a daemon. Its methods are safe for concurrent use.
// Operations on one volume follow each other, those on different volumes do
// not wait for each other.
type Service struct {
	cfg Config
	log *slog.Logger
	ops locks

	mu      sync.Mutex
	records map[string]Record // by name; what is in them is not changed, only replaced
	scopes  map[string]cachedScope
}

// Open reads the records from the store. A record that cannot be read is logged
// and left alone.
func Open(ctx context.Context, cfg Config) (*Service, error) {
	if cfg.Plugins == nil || cfg.Store == nil {
		return nil, errors.New("volumes: Plugins and Store are required")
	}
	cfg.ListTimeout = cmp.Or(cfg.ListTimeout, DefaultListTimeout)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	s := &Service{
		cfg:     cfg,
		log:     cfg.Logger,
		records: make(map[string]Record),
		scopes:  make(map[string]cachedScope),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	all, err := cfg.Store.All(ctx)
	var bad *UnreadableError
	if errors.As(err, &bad) {
		s.log.ErrorContext(ctx, "volume records that cannot be read are left alone", "volumes", bad.Names, "err", bad)
	} else if err != nil {
		return nil, fmt.Errorf("read the records of volumes: %w", err)
	}
	for _, r := range all {
		s.records[r.Name] = r.Clone()
	}
	return s, nil
}

// record returns a copy of what is kept of the volume.
func (s *Service) record(name string) (Record, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.records[name]
	return r.Clone(), ok
}

// all returns copies of all records, by name.
func (s *Service) all() []Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := make([]Record, 0, len(s.records))
	for _, name := range slices.Sorted(maps.Keys(s.records)) {
		l = append(l, s.records[name].Clone())
	}
	return l
}

// save puts r in the store, and then in memory. A record that says nothing that
// the plugin would not say is removed. The volume's lock is held.
func (s *Service) save(ctx context.Context, r Record) error {
	// What a plugin has done already must be written down even if whoever
	// asked for it has left.
	ctx = context.WithoutCancel(ctx)
	if !r.Created && len(r.Mounts) == 0 && len(r.Labels) == 0 {
		return s.forget(ctx, r.Name)
	}
	if err := s.cfg.Store.Save(ctx, r); err != nil {
		return fmt.Errorf("write the record of volume %s: %w", r.Name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.records[r.Name] = r.Clone()
	return nil
}

// forget removes the record, if there is one.
func (s *Service) forget(ctx context.Context, name string) error {
	if err := s.cfg.Store.Delete(context.WithoutCancel(ctx), name); err != nil {
		return fmt.Errorf("remove the record of volume %s: %w", name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.records, name)
	return nil
}

func (s *Service) event(action string, v outlet.Volume, more ...string) {
	if s.cfg.Event == nil {
		return
	}
	attributes := map[string]string{"driver": v.Driver}
	for i := 0; i+1 < len(more); i += 2 {
		attributes[more[i]] = more[i+1]
	}
	s.cfg.Event(action, v, attributes)
}

// newID returns 64 hexadecimal digits.
func (s *Service) newID() (string, error) {
	b := make([]byte, 32)
	if _, err := io.ReadFull(s.cfg.Rand, b); err != nil {
		return "", fmt.Errorf("make an id: %w", err)
	}
	return hex.EncodeToString(b), nil
}

// checkWord checks the name of a volume or the id of a mount. Plugins are free
// in what names they take, and many make directories of them.
func checkWord(what, s string) error {
	switch {
	case s == "":
		return outlet.Errorf(errdefs.ErrInvalidArgument, "invalid %s: it is empty", what)
	case len(s) > maxName:
		return outlet.Errorf(errdefs.ErrInvalidArgument, "invalid %s: it is %d bytes long, at most %d are allowed", what, len(s), maxName)
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		return outlet.Errorf(errdefs.ErrInvalidArgument, "invalid %s %q: it contains control characters or is not UTF-8", what, s)
	case slices.ContainsFunc(strings.Split(s, "/"), func(c string) bool { return c == "." || c == ".." }):
		return outlet.Errorf(errdefs.ErrInvalidArgument, "invalid %s %q: it must not contain \".\" or \"..\" as a part of a path", what, s)
	}
	return nil
}

// Holders returns who holds the plugin with the name: its mounted volumes.
func (s *Service) Holders(plugin string) []outlet.Holder {
	var l []outlet.Holder
	for _, r := range s.all() {
		if active := r.active(); r.Driver == plugin && len(active) > 0 {
			l = append(l, holder(r.Name, active[0].Since))
		}
	}
	return l
}

// holderKind is that of the holders volumes are.
const holderKind = "volume"

func holder(name string, since time.Time) outlet.Holder {
	return outlet.Holder{Kind: holderKind, Name: name, Since: since}
}
