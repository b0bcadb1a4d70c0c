package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/dirlock"
	"github.com/outletd/outlet/internal/durable"
	"github.com/outletd/outlet/internal/rootfs"
)

// namespace is the one namespace in containerd's metadata.
const namespace = "outlet"

// databaseTimeout is how long Open waits for a tool that reads the database.
const databaseTimeout = 5 * time.Second

// The prefixes of leases: of a record, and of an operation under way, which
// means nothing once its daemon is gone.
const (
	pluginLease    = "plugin-"
	operationLease = "op-"
)

// Config says where a store is and how it works.
type Config struct {
	// Root is the directory of the store, an absolute path; made if missing.
	Root string
	// Snapshotter is Overlay, Native, or "": what the root was made with, and
	// for a new root overlay if it works here, else native.
	Snapshotter string
	// Logger is told of what was cleaned up; nil discards.
	Logger *slog.Logger
}

// Store is an open root. All methods are safe for concurrent use. What they
// return shares nothing with the store.
type Store struct {
	root   string
	snap   string
	log    *slog.Logger
	ctrLog *log.Entry // what containerd's packages log to
	lock   *os.File

	db     *durable.DB
	meta   *metadata.DB
	leases leases.Manager

	// The backends below the metadata, as they are on disk.
	blobs     *countingContent
	backend   *countingSnapshotter
	collector chan struct{} // holds a token while a collection runs
	swept     bool          // guarded by collector: the backends were compared with the metadata
	// failed says that since then a change of a blob or snapshot failed, which
	// may have left files that the metadata does not know.
	failed atomic.Bool
	litter litter // see Litter
	// preparing is what Check has to wait for.
	preparing underWay

	lostMu sync.Mutex
	lost   []string // leases that could not be ended

	downloads downloads
	unpacking keyedLock

	closing  sync.Once
	closeErr error
}

// Open locks the root, opens its database, removes what an interrupted
// operation left in its temporary places, and drops the leases of operations
// that died with their daemon (run [Store.GC] once the daemon serves, to remove
// what they held).
//
// A root another process holds is errdefs.ErrUnavailable and the text names its
// pid; a root of a newer format, or made with another snapshotter than the one
// asked for, is errdefs.ErrConflict; a snapshotter that does not work here is
// errdefs.ErrUnavailable.
func Open(ctx context.Context, cfg Config) (_ *Store, err error) {
	if !filepath.IsAbs(cfg.Root) {
		return nil, outlet.Errorf(errdefs.ErrInvalidArgument, "root %q is not an absolute path", cfg.Root)
	}
	logger := cfg.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	s := &Store{
		root:      filepath.Clean(cfg.Root),
		log:       logger,
		ctrLog:    bridge(logger),
		collector: make(chan struct{}, 1),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if err := s.makeDirs(); err != nil {
		return nil, err
	}
	if s.lock, err = dirlock.Lock(s.root, "root"); err != nil {
		return nil, err
	}
	if err := s.cleanTemporary(ctx); err != nil {
		return nil, err
	}
	if err := s.cleanIngests(ctx); err != nil {
		return nil, err
	}
	// The root is locked, so only a tool can have the file open.
	options := &bbolt.Options{Timeout: databaseTimeout, FreelistType: bbolt.FreelistMapType}
	if s.db, err = durable.Open(filepath.Join(s.root, "outlet.db"), options); err != nil {
		return nil, fmt.Errorf("open the database of root %s: %w", s.root, err)
	}
	if err := s.openSnapshotter(ctx, cfg.Snapshotter); err != nil {
		return nil, err
	}
	blobs, err := local.NewStore(filepath.Join(s.root, "content"))
	if err != nil {
		return nil, err
	}
	s.blobs = &countingContent{Store: blobs, failed: &s.failed}
	s.meta = metadata.NewDB(s.db, s.blobs, map[string]snapshots.Snapshotter{s.snap: s.backend})
	if err := s.meta.Init(s.Context(ctx)); err != nil {
		return nil, fmt.Errorf("database of root %s: %w", s.root, err)
	}
	s.leases = metadata.NewLeaseManager(s.meta)
	if err := s.dropOperations(ctx); err != nil {
		return nil, err
	}
	if err := s.cleanPluginDirs(ctx); err != nil {
		return nil, err
	}
	return s, durable.SyncDir(s.root) // the database may be new
}

// Close closes the store and unlocks the root. Operations under way fail. It
// may be called more than once.
func (s *Store) Close() error {
	s.closing.Do(func() { s.closeErr = s.close() })
	return s.closeErr
}

// close closes what Open got to.
func (s *Store) close() error {
	var errs []error
	if s.meta != nil {
		errs = append(errs, s.meta.Close()) // waits for a collection, closes db
	} else if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	if s.backend != nil {
		errs = append(errs, s.backend.Close())
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Close())
	}
	return errors.Join(errs...)
}

// Root is the directory of the store.
func (s *Store) Root() string { return s.root }

// Snapshotter is the one in use, [Overlay] or [Native].
func (s *Store) Snapshotter() string { return s.snap }

// DB is the database of the store, for buckets of others (their names must not
// begin with "outlet" or "v1"). It is closed by [Store.Close].
func (s *Store) DB() *durable.DB { return s.db }

// Context returns ctx with the namespace that containerd's interfaces
// ([Store.Content]) ask for.
func (s *Store) Context(ctx context.Context) context.Context {
	return log.WithLogger(namespaces.WithNamespace(ctx, namespace), s.ctrLog)
}

// Content is the store's blobs; use it with [Store.Context]. Blobs that no lease
// names are removed by [Store.GC].
func (s *Store) Content() content.Store { return durableContent{s.meta.ContentStore(), &s.failed} }

// snapshots is the snapshotter with metadata and leases.
func (s *Store) snapshots() snapshots.Snapshotter {
	return durableSnapshotter{s.meta.Snapshotter(s.snap), &s.failed, &s.litter, &s.preparing}
}

// RootfsMounts returns what to mount ([rootfs.Mount]) to get the root
// filesystem of the key [Record.Rootfs].
func (s *Store) RootfsMounts(ctx context.Context, key string) ([]mount.Mount, error) {
	return s.snapshots().Mounts(s.Context(ctx), key)
}

// RootfsDir returns the directory that is the root filesystem of the key, for
// where nothing can be mounted: only the native snapshotter has one, with
// another it is errdefs.ErrNotImplemented.
func (s *Store) RootfsDir(ctx context.Context, key string) (string, error) {
	if s.snap != Native {
		return "", outlet.Errorf(errdefs.ErrNotImplemented, "the %s snapshotter needs mounts", s.snap)
	}
	mounts, err := s.RootfsMounts(ctx, key)
	if err != nil {
		return "", err
	}
	dir, ok := rootfs.BindSource(mounts)
	if !ok {
		return "", outlet.Errorf(errdefs.ErrInternal, "root filesystem %s is no directory", key)
	}
	return dir, nil
}

// rootDirs are the directories of a root with their modes. The root itself and
// plugins can be passed through, so that what plugins mount there can be
// reached by those who are allowed to.
var rootDirs = []struct {
	name string
	mode os.FileMode
}{
	{".", 0o711},
	{"plugins", 0o711},
	{"content", 0o700},
	{"content/blobs", 0o700},
	{"content/blobs/sha256", 0o700},
	{"content/ingest", 0o700},
	{"snapshots", 0o700},
	{"tmp", 0o700},
	{"removing", 0o700},
}

func (s *Store) makeDirs() error {
	for _, d := range rootDirs {
		if err := durable.MkdirAll(filepath.Join(s.root, d.name), d.mode); err != nil {
			return fmt.Errorf("make root: %w", err)
		}
	}
	for _, d := range rootDirs {
		if err := durable.SyncDir(filepath.Join(s.root, d.name)); err != nil {
			return err
		}
	}
	return durable.SyncDir(filepath.Dir(s.root))
}

// cleanTemporary removes what an earlier process left half made and half
// removed.
func (s *Store) cleanTemporary(ctx context.Context) error {
	for _, name := range []string{"tmp", "removing"} {
		dir := filepath.Join(s.root, name)
		// Nothing may be removed through a mount that is still there.
		if err := rootfs.Unmount(ctx, dir); err != nil {
			return err
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, e := range entries {
			s.log.InfoContext(ctx, "remove what an interrupted operation left", "path", filepath.Join(dir, e.Name()))
			if err := durable.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// cleanIngests removes ingests whose writer had not come to begin: a collection
// does not see those, or fails at them.
func (s *Store) cleanIngests(ctx context.Context) error {
	dir := filepath.Join(s.root, "content", "ingest")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		begun, err := ingestBegun(path)
		if err != nil {
			return err
		}
		if begun {
			continue
		}
		s.log.InfoContext(ctx, "remove an ingest that had not begun", "path", path)
		if err := durable.RemoveAll(path); err != nil {
			return err
		}
	}
	return nil
}

// ingestBegun says whether all is there that is written before the first byte of
// a blob; the file for those comes last.
func ingestBegun(dir string) (bool, error) {
	for _, name := range []string{"ref", "startedat", "updatedat", "data"} {
		fi, err := os.Stat(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || err == nil && fi.Size() == 0 && name != "data" {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	return true, nil
}

// dropOperations ends the leases of operations that cannot be running.
func (s *Store) dropOperations(ctx context.Context) error {
	ctx = s.Context(ctx)
	all, err := s.leases.List(ctx)
	if err != nil {
		return err
	}
	for _, l := range all {
		if strings.HasPrefix(l.ID, operationLease) {
			err := durable.Do(durable.Leases, l.ID, func() error { return s.leases.Delete(ctx, l) })
			if err != nil {
				return err
			}
		}
	}
	return nil
}
