// Package daemon puts Outlet's parts together: it reads the configuration,
// makes the runtime, the manager, the volumes and the API server, and ends them
// in the right order. It is the only package that knows all of them, and has no
// logic of its own beyond that.
package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/api"
	"github.com/outletd/outlet/internal/durable"
	"github.com/outletd/outlet/internal/events"
	"github.com/outletd/outlet/internal/host"
	"github.com/outletd/outlet/internal/reap"
	"github.com/outletd/outlet/internal/version"
	"github.com/outletd/outlet/internal/volumes"
	"github.com/outletd/outlet/manager"
	"github.com/outletd/outlet/plugins"
)

// Options are what a daemon is started with.
type Options struct {
	// Flags are the JSON values of the flags that were given, by the key of
	// [Config].
	Flags map[string]json.RawMessage
	// ConfigFile is daemon.json; "" is the default one, which may be missing.
	ConfigFile string
	// Validate checks the configuration and starts nothing.
	Validate bool
	// Stderr gets the log.
	Stderr io.Writer
	// Getenv is os.Getenv.
	Getenv func(string) string
	// Ready, if not nil, is called once the daemon serves.
	Ready func()
}

// Run runs a daemon until ctx ends, and then ends it in order. SIGHUP makes it
// read its configuration again.
func Run(ctx context.Context, o Options) error {
	if o.Getenv == nil {
		o.Getenv = os.Getenv
	}
	if o.Stderr == nil {
		o.Stderr = os.Stderr
	}
	cfg, err := o.load()
	if err != nil {
		return err
	}
	if o.Validate {
		_, err := fmt.Fprintln(o.Stderr, "configuration OK")
		return err
	}
	d := &daemon{opts: o, cfg: cfg, level: new(slog.LevelVar), hup: make(chan os.Signal, 1)}
	// From here to the end: without this it would end the process.
	signal.Notify(d.hup, syscall.SIGHUP)
	defer signal.Stop(d.hup)
	d.log = newLogger(o.Stderr, cfg, d.level)
	adoptContainerdLog(d.log)
	if err := d.open(ctx); err != nil {
		return errors.Join(err, d.close())
	}
	err = d.serve(ctx)
	return errors.Join(err, d.close())
}

func (o Options) load() (Config, error) {
	path, optional := o.ConfigFile, false
	if path == "" {
		path, optional = DefaultFile(os.Getuid(), o.Getenv), true
	}
	return Load(Defaults(os.Getuid(), o.Getenv), path, optional, o.Flags)
}

// daemon is a running daemon. What was opened is closed in the reverse order.
type daemon struct {
	opts  Options
	log   *slog.Logger
	level *slog.LevelVar
	hup   chan os.Signal // has room for one, which stands for all

	mu  sync.Mutex
	cfg Config // changed by reload

	host      host.Host
	reaper    *reap.Reaper
	events    *events.Publisher
	manager   *manager.Manager
	legacy    *plugins.Registry
	volumes   *volumes.Service
	server    *api.Server
	listeners []net.Listener
	closers   []func() error
	life      context.Context //nolint:containedctx // of what runs in the background, beside its cancel
	quit      context.CancelFunc
	wg        sync.WaitGroup
	failed    chan error // of what runs in the background
}

func (d *daemon) config() Config {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.cfg
}

// onClose has f run when the daemon is closed, before what was opened earlier.
func (d *daemon) onClose(f func() error) { d.closers = append(d.closers, f) }

func (d *daemon) close() error {
	var errs []error
	for i := len(d.closers) - 1; i >= 0; i-- {
		errs = append(errs, d.closers[i]())
	}
	return errors.Join(errs...)
}

// open makes everything. The manager is opened before anything listens: its
// lock tells a second daemon on the same root who the first is.
func (d *daemon) open(ctx context.Context) error {
	d.life, d.quit = context.WithCancel(context.WithoutCancel(ctx))
	d.onClose(func() error { d.quit(); return nil })
	d.failed = make(chan error, 8)
	if err := checkPrivileges(d.cfg, d.host.Facts()); err != nil {
		return err
	}
	tlsConf, err := d.cfg.tlsConfig()
	if err != nil {
		return err
	}
	if err := d.openReaper(ctx); err != nil {
		return err
	}
	d.events = events.New(d.log)
	d.onClose(func() error { d.events.Close(); return nil })
	// Before the runtime makes its own, which only root may pass, below it.
	if err := durable.MkdirAll(d.cfg.ExecRoot, 0o711); err != nil {
		return fmt.Errorf("make the exec root: %w", err)
	}
	rt, err := d.openRuntime()
	if err != nil {
		return err
	}
	if err := d.openManager(ctx, rt); err != nil {
		return err
	}
	if err := d.openLegacy(); err != nil {
		return err
	}
	if err := d.openVolumes(ctx); err != nil {
		return err
	}
	if err := d.openServer(); err != nil {
		return err
	}
	for _, h := range d.cfg.Hosts {
		addr, err := parseHost(h, d.cfg.TLSVerify)
		if err != nil {
			return err
		}
		l, err := listen(ctx, addr, d.cfg.Group, tlsConf)
		if err != nil {
			return err
		}
		d.listeners = append(d.listeners, l)
		d.onClose(func() error {
			if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("close the listener: %w", err)
			}
			return nil
		})
	}
	return d.writePidFile()
}

func (d *daemon) openReaper(ctx context.Context) error {
	var err error
	if d.reaper, err = reap.New(reap.Config{Subreaper: true, Logger: d.log}); err != nil {
		return err
	}
	// It ends after everything that starts processes has ended.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() { // ended and waited for by the closer
		defer close(done)
		if err := d.reaper.Run(ctx); err != nil && ctx.Err() == nil {
			d.fail(fmt.Errorf("reap processes: %w", err))
		}
	}()
	d.onClose(func() error {
		cancel()
		<-done
		return d.reaper.Close()
	})
	return nil
}

func (d *daemon) openManager(ctx context.Context, rt manager.Runtime) error {
	c := d.cfg
	m, err := manager.New(c.withPolicy(manager.Config{
		Root:            c.DataRoot,
		ExecRoot:        c.ExecRoot,
		Runtime:         rt,
		Snapshotter:     c.Snapshotter,
		LiveRestore:     c.LiveRestore,
		StartTimeout:    time.Duration(c.StartTimeout),
		StopTimeout:     time.Duration(c.StopTimeout),
		CgroupParent:    c.CgroupParent,
		Resources:       manager.Resources{MemoryBytes: int64(c.Plugins.Memory), CPUs: c.Plugins.CPUs, PIDs: c.Plugins.PIDs},
		HonourUser:      c.Plugins.HonourUser,
		NoNewPrivileges: c.Plugins.NoNewPrivileges,
		ReadonlyRootfs:  c.Plugins.ReadonlyRootfs,
		Output:          manager.OutputLimits{MaxSize: int64(c.Plugins.LogMaxSize), MaxFiles: c.Plugins.LogMaxFiles, LinesPerSecond: c.Plugins.LogRate},
		Limits:          manager.Limits{CompressedBytes: int64(c.Plugins.MaxArchive), UncompressedBytes: int64(c.Plugins.MaxRootfs), Entries: c.Plugins.MaxEntries},
		Registry:        c.registries(),
		MaxDownloads:    c.MaxConcurrentDownloads,
		MaxUploads:      c.MaxConcurrentUploads,
		EventLogger:     d.pluginEvent,
		Supervised:      d.pluginSupervised,
		Logger:          d.log,
	}))
	if err != nil {
		return err
	}
	d.manager = m
	if err := m.Open(ctx); err != nil {
		return err
	}
	d.onClose(func() error { //nolint:contextcheck // runs when ctx has ended
		ctx, cancel := context.WithTimeout(context.Background(), d.config().shutdownTimeout())
		defer cancel()
		return m.Close(ctx)
	})
	return nil
}

func (c Config) shutdownTimeout() time.Duration {
	if c.ShutdownTimeout < 0 {
		return 24 * time.Hour // no limit that anybody would wait for
	}
	return time.Duration(c.ShutdownTimeout) * time.Second
}

func (d *daemon) pluginEvent(action, id, name string) {
	d.events.Publish(outlet.Message{
		Type: "plugin", Action: action,
		Actor: outlet.Actor{ID: id, Attributes: map[string]string{"name": name}},
	})
}

// pluginSupervised tells what a plugin did by itself, in the words that Docker has
// for containers.
func (d *daemon) pluginSupervised(e manager.Event) {
	attributes := map[string]string{"name": e.Plugin.Name}
	if st := e.Plugin.Status; st != nil {
		attributes["restarts"] = strconv.Itoa(st.Restarts)
		if exit := st.LastExit; exit != nil && e.Kind == manager.EventDie {
			attributes["exitCode"] = strconv.Itoa(exit.Code)
			if exit.OOMKilled {
				attributes["oomKilled"] = "true"
			}
		}
	}
	d.events.Publish(outlet.Message{
		Type: "plugin", Action: string(e.Kind), Actor: outlet.Actor{ID: e.Plugin.ID, Attributes: attributes},
	})
}

func (d *daemon) openServer() error {
	var err error
	d.server, err = api.New(api.Config{
		Plugins:    backend{d.manager, d.legacy},
		Volumes:    d.volumes,
		System:     system{d},
		Events:     d.events,
		Registries: d.manager,
		Version:    version.Version(),
		Logger:     d.log,
		StatePaths: []string{d.cfg.DataRoot, d.cfg.ExecRoot},
	})
	return err
}

// serve answers requests until ctx ends or something that must not end does.
func (d *daemon) serve(ctx context.Context) error {
	d.wg.Go(func() { d.watchLegacy(d.life) })
	d.wg.Go(func() { trimMemory(d.life) })
	for _, l := range d.listeners {
		d.wg.Go(func() {
			if err := d.server.Serve(l); err != nil {
				d.fail(fmt.Errorf("serve %s: %w", l.Addr(), err))
			}
		})
	}
	d.log.Info("serving", "hosts", strings.Join(d.cfg.Hosts, " "), "root", d.cfg.DataRoot, "version", version.Version(), "pid", os.Getpid())
	d.notify("READY=1")
	if d.opts.Ready != nil {
		d.opts.Ready()
	}
	var err error
	for done := false; !done; {
		select {
		case <-ctx.Done():
			done = true
		case err = <-d.failed:
			d.log.Error("the daemon cannot go on", "err", err)
			done = true
		case <-d.hup:
			d.reload()
		}
	}
	d.notify("STOPPING=1")
	d.log.Info("shutting down", "live_restore", d.config().LiveRestore)
	sctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if serr := d.server.Shutdown(sctx); serr != nil && !errors.Is(serr, context.DeadlineExceeded) {
		err = errors.Join(err, serr)
	}
	d.quit()
	d.wg.Wait()
	return err
}

func (d *daemon) fail(err error) {
	select {
	case d.failed <- err:
	default: // the first is enough to end the daemon
	}
}

// reload reads the configuration again and takes over what can change while the
// daemon runs.
func (d *daemon) reload() {
	d.notify(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", monotonicMicroseconds()))
	defer d.notify("READY=1")
	fresh, err := d.opts.load()
	if err != nil {
		d.log.Error("the configuration was not reloaded", "err", err)
		return
	}
	d.mu.Lock()
	old := d.cfg
	d.cfg.Debug, d.cfg.LogLevel = fresh.Debug, fresh.LogLevel
	d.cfg.LiveRestore, d.cfg.ShutdownTimeout = fresh.LiveRestore, fresh.ShutdownTimeout
	d.cfg.Labels = fresh.Labels
	now := d.cfg
	d.mu.Unlock()
	setLevel(d.level, now)
	d.manager.SetLiveRestore(now.LiveRestore)
	if names := needRestart(old, fresh); len(names) > 0 {
		d.log.Warn("changed in the configuration, but only a restart takes it over", "keys", strings.Join(names, " "))
	}
	d.log.Info("configuration reloaded", "debug", now.Debug, "log_level", now.LogLevel, "live_restore", now.LiveRestore)
	d.events.Publish(outlet.Message{Type: "daemon", Action: "reload", Actor: outlet.Actor{ID: hostname(), Attributes: map[string]string{"name": hostname()}}})
}

func (d *daemon) writePidFile() error {
	path := d.cfg.PidFile
	if path == "" {
		return nil
	}
	if err := durable.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write the pid file: %w", err)
	}
	if err := durable.WriteFile(path, []byte(strconv.Itoa(os.Getpid())), 0o644); err != nil {
		return fmt.Errorf("write the pid file: %w", err)
	}
	d.onClose(func() error {
		if err := durable.Remove(path); err != nil {
			return fmt.Errorf("remove the pid file: %w", err)
		}
		return nil
	})
	return nil
}
