package manager

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/moby/sys/mount"
	"github.com/moby/sys/mountinfo"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/durable"
	"github.com/outletd/outlet/internal/host"
	"github.com/outletd/outlet/internal/ocispec"
	"github.com/outletd/outlet/internal/probe"
	"github.com/outletd/outlet/internal/rootfs"
	"github.com/outletd/outlet/internal/runtime"
	"github.com/outletd/outlet/internal/store"
)

// launch brings a plugin to where its socket accepts. If it fails, nothing of
// what it started is left (or the error is a [notEndedError]); for a first start
// nothing of what it set up either.
// It runs beside the loop and touches nothing that belongs to that.
func (u *unit) launch(ctx context.Context, rec store.Record, kind launchKind) (Task, error) {
	task, err := u.bring(ctx, rec, kind)
	if err == nil && rec.Previous != nil {
		defer u.m.gc.expect()()
		err := u.settle(context.WithoutCancel(ctx), rec.Generation)
		if err != nil && kind == launchUpgraded { // who upgraded it is told, and has the old one
			return nil, errors.Join(err, u.endFailed(ctx, task))
		}
		if err != nil {
			u.log.Warn("the plugin is ready, and the version before it is still kept", "err", err)
			u.unsettled.Store(int64(rec.Generation)) // the collection tries again
		}
		u.m.collectGarbage()
	}
	return task, err
}

// bring is launch, whatever the plugin was before.
func (u *unit) bring(ctx context.Context, rec store.Record, kind launchKind) (Task, error) {
	if kind == launchBoot {
		task, err := u.resume(ctx, rec)
		if task != nil || err != nil {
			return task, err
		}
		select { // a whole host of plugins is not started at once
		case u.m.boot <- struct{}{}:
			defer func() { <-u.m.boot }()
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	task, err := u.start(ctx, rec)
	if err == nil && kind == launchFirst {
		// Only a plugin that works is remembered as enabled.
		_, err = u.m.store.Update(ctx, rec.ID, func(r *store.Record) error {
			r.Enabled, r.Timeout, r.StartTimeout, r.Undone = true, rec.Timeout, rec.StartTimeout, ""
			return nil
		})
		if err != nil {
			err = errors.Join(err, u.endFailed(ctx, task))
			task = nil
		}
	}
	if err != nil && kind == launchFirst {
		if _, terr := u.teardown(context.WithoutCancel(ctx), nil); terr != nil {
			err = errors.Join(err, terr)
		}
	}
	return task, err
}

// resume goes on with a plugin that outlived the last manager. It returns
// neither a task nor an error if there is none to go on with.
func (u *unit) resume(ctx context.Context, rec store.Record) (Task, error) {
	task, err := u.reattach(ctx)
	if err != nil || task == nil {
		return nil, err
	}
	if !u.m.liveRestore() { // the last manager was killed, or had it on
		return nil, u.endFailed(ctx, task)
	}
	out, err := u.output()
	if err == nil {
		err = out.Resume() //nolint:contextcheck // the output is read for as long as the plugin runs
	}
	if err != nil {
		return nil, errors.Join(err, u.endFailed(ctx, task))
	}
	u.adopt(task, u.m.now())
	return u.ready(ctx, rec, task)
}

// start starts the process and waits for its socket.
func (u *unit) start(ctx context.Context, rec store.Record) (Task, error) {
	if e, ok := u.m.rt.(runtime.Expecter); ok {
		defer e.Expect()()
	}
	b, err := u.prepare(ctx, rec)
	if err != nil {
		return nil, fmt.Errorf("plugin %s did not start: %w", rec.Name, err)
	}
	out, err := u.output()
	if err != nil {
		return nil, err
	}
	if b.Stdout, b.Stderr, err = out.Begin(); err != nil { //nolint:contextcheck // as for Resume
		return nil, err
	}
	began := u.m.now()
	task, err := durable.Call(durable.Runtime, "start", func() (Task, error) { return u.m.rt.Start(ctx, b) })
	_ = b.Stdout.Close() // the plugin has its own
	_ = b.Stderr.Close() // as above
	if err != nil {
		// What a runtime prints is in its error already.
		return nil, errors.Join(u.explain(rec, nil, err), u.drain(ctx))
	}
	u.adopt(task, began)
	return u.ready(ctx, rec, task)
}

// ready waits for the plugin's socket, and ends a process that does not come to
// serve it.
func (u *unit) ready(ctx context.Context, rec store.Record, task Task) (Task, error) {
	if err := u.waitSocket(ctx, rec, task); err != nil {
		if ctx.Err() != nil {
			return nil, errors.Join(ctx.Err(), u.endFailed(ctx, task))
		}
		// What it printed is part of the explanation, and all there once it
		// has ended.
		ended := u.endFailed(ctx, task)
		return nil, errors.Join(u.explain(rec, task, err), ended)
	}
	return task, nil
}

func (u *unit) startTimeout(rec store.Record) time.Duration {
	return cmp.Or(rec.StartTimeout, u.m.cfg.StartTimeout)
}

func (u *unit) waitSocket(ctx context.Context, rec store.Record, task Task) error {
	ctx, cancel := context.WithTimeout(ctx, u.startTimeout(rec))
	defer cancel()
	return u.m.prober.WaitSocket(ctx, probe.Target{Dir: u.paths.sockets, Name: rec.Config.Interface.Socket}, task.Done())
}

// prepare makes everything ready on the host that the process needs, and
// returns its bundle. What is ready already, from an earlier start, stays.
func (u *unit) prepare(ctx context.Context, rec store.Record) (Bundle, error) {
	warnings, err := outlet.Ready(rec.Config, rec.Settings)
	if err != nil {
		return Bundle{}, blamed(blameVersion, err)
	}
	root, err := u.rootfs(ctx, rec)
	if err != nil {
		return Bundle{}, err
	}
	in, err := u.specInput(rec, root)
	if err != nil {
		return Bundle{}, err
	}
	spec, more, err := ocispec.Build(in)
	if err != nil {
		if len(in.Missing) > 0 { // which the host had once, or is about to have
			return Bundle{}, blamed(blameHost, err)
		}
		return Bundle{}, blamed(blameVersion, err)
	}
	u.m.applyOptions(u, spec)
	if err := u.prepareDirs(ctx, rec); err != nil {
		return Bundle{}, err
	}
	if err := u.prepareRootfs(ctx, rec); err != nil {
		return Bundle{}, doubtful(err)
	}
	if err := rootfs.PrepareMountpoints(ctx, root); err != nil {
		return Bundle{}, doubtful(err)
	}
	for _, w := range append(warnings, more...) {
		u.log.Warn("plugin's config", "warning", w)
	}
	raw, err := json.Marshal(spec)
	if err != nil {
		return Bundle{}, fmt.Errorf("encode the runtime spec: %w", err)
	}
	// Not synced and not renamed: a bundle does not outlive the host, and no
	// runtime reads it before it is whole.
	if err := durable.WriteFile(filepath.Join(u.paths.bundle, "config.json"), raw, 0o600); err != nil {
		return Bundle{}, fmt.Errorf("write the bundle: %w", err)
	}
	return u.bundle(rec), nil
}

// specInput gathers all that the plugin's runtime spec depends on.
func (u *unit) specInput(rec store.Record, root string) (ocispec.Input, error) {
	c := &u.m.cfg // not a copy: live-restore may be switched meanwhile
	in := ocispec.Input{
		ID:              rec.ID,
		Config:          rec.Config,
		Settings:        rec.Settings,
		Rootfs:          root,
		SocketDir:       u.paths.sockets,
		PropagatedDir:   u.paths.propagated,
		Host:            u.m.facts,
		CgroupParent:    c.CgroupParent,
		Limits:          c.Resources,
		HonourUser:      c.HonourUser,
		NoNewPrivileges: c.NoNewPrivileges,
		ReadonlyRootfs:  c.ReadonlyRootfs,
	}
	needs := ocispec.Lookup(in)
	var errs []error
	for _, path := range needs.Devices {
		found, err := host.Devices(path)
		errs = append(errs, err)
		in.Devices = append(in.Devices, found...)
	}
	in.Missing = host.Missing(needs.Sources)
	if u.m.facts.UserNS {
		in.MountFlags = make(map[string][]string)
		for _, source := range needs.Sources {
			flags, err := host.MountFlags(source)
			if err == nil { // a source that is not there is in Missing
				in.MountFlags[source] = flags
			}
		}
	}
	return in, errors.Join(errs...)
}

// bundle is what the runtime is told of the plugin.
func (u *unit) bundle(rec store.Record) Bundle {
	b := Bundle{ID: rec.ID, Dir: u.paths.bundle, Owned: []string{u.paths.sockets}}
	if rec.Config.PropagatedMount != "" {
		b.Owned = append(b.Owned, u.paths.propagated)
	}
	return b
}

// prepareDirs makes the plugin's directories, empty where they were before.
func (u *unit) prepareDirs(ctx context.Context, rec store.Record) error {
	if err := durable.MkdirAll(filepath.Join(u.paths.bundle, "rootfs"), 0o700); err != nil {
		return fmt.Errorf("make the bundle: %w", err)
	}
	if err := durable.MkdirAll(u.paths.sockets, 0o700); err != nil {
		return fmt.Errorf("make the socket's directory: %w", err)
	}
	if err := clearDir(u.paths.sockets); err != nil { // a stale socket would seem to be the new one
		return err
	}
	if rec.Config.PropagatedMount == "" {
		return nil
	}
	if _, err := u.m.store.CreatePluginDir(ctx, rec.ID); err != nil {
		return err
	}
	if err := durable.MkdirAll(u.paths.propagated, 0o755); err != nil {
		return fmt.Errorf("make the propagated mount: %w", err)
	}
	// What the plugin syncs in it is durable only if it is itself.
	if err := durable.SyncDir(u.paths.plugin); err != nil {
		return fmt.Errorf("make the propagated mount: %w", err)
	}
	if !u.m.rtInfo.Mounts {
		return nil
	}
	if err := durable.Do(durable.Mount, u.paths.propagated, func() error { return mount.MakeRShared(u.paths.propagated) }); err != nil {
		return fmt.Errorf("make the propagated mount visible on the host: %w", err)
	}
	return nil
}

// clearDir removes what a directory holds, not the directory.
func clearDir(dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("clear %s: %w", dir, err)
	}
	defer root.Close() // only a descriptor
	d, err := root.Open(".")
	if err != nil {
		return fmt.Errorf("clear %s: %w", dir, err)
	}
	defer d.Close() // as above
	names, err := d.Readdirnames(-1)
	if err != nil {
		return fmt.Errorf("clear %s: %w", dir, err)
	}
	for _, name := range names {
		if err := durable.RemoveAllIn(root, name); err != nil {
			return fmt.Errorf("clear %s: %w", dir, err)
		}
	}
	return nil
}

// rootfs is the host path of the plugin's root filesystem: where it is mounted,
// or the directory it is where nothing can be mounted.
func (u *unit) rootfs(ctx context.Context, rec store.Record) (string, error) {
	if u.m.rtInfo.Mounts {
		return u.paths.rootfs, nil
	}
	return u.m.store.RootfsDir(ctx, rec.Rootfs)
}

func (u *unit) prepareRootfs(ctx context.Context, rec store.Record) error {
	if !u.m.rtInfo.Mounts {
		return nil // it is a plain directory
	}
	mounted, err := mountinfo.Mounted(u.paths.rootfs)
	if err != nil {
		return fmt.Errorf("look at the root filesystem: %w", err)
	}
	if mounted {
		return nil
	}
	mounts, err := u.m.store.RootfsMounts(ctx, rec.Rootfs)
	if err != nil {
		return err
	}
	return rootfs.Mount(ctx, mounts, u.paths.rootfs)
}
