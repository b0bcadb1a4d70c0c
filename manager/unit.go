package manager

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/pluginlog"
	"github.com/outletd/outlet/internal/runtime"
	"github.com/outletd/outlet/internal/store"
)

// unit is one plugin while a manager is open. Its loop is the only goroutine
// that changes what the plugin is observed to do; everybody else sees copies
// that the loop publishes. What takes long (starting, ending, running handlers)
// runs in goroutines that the loop starts and the unit waits for in close; they
// report back to the loop, which therefore always answers at once, also while a
// plugin hangs.
type unit struct {
	m    *Manager
	id   string
	log  *slog.Logger
	ops  *opLock // serialises the operations of users
	cmds chan func()

	ctx    context.Context    //nolint:containedctx // the life cycle of the unit, beside its cancel
	cancel context.CancelFunc // ends the loop and the goroutines it started
	ended  chan struct{}      // closed when the loop takes no more commands
	done   chan struct{}      // closed when the goroutines it started are gone too
	wg     sync.WaitGroup     // the goroutines the loop started

	life    life // owned by the loop
	paths   paths
	client  *waitingClient
	damaged bool // its record cannot be read, and so not be changed
	// unsettled is the generation that was ready while its record could not be
	// told so; 0 if there is none.
	unsettled atomic.Int64

	mu      sync.Mutex
	plugin  outlet.Plugin // what the loop published last, without holders
	changed chan struct{} // closed and replaced whenever plugin changes
	holders holders
	letGo   []chan struct{} // closed when a holder lets go
	// callLimit bounds each call to the plugin; 0 is no limit.
	callLimit time.Duration
	rootfsKey string // of the store
	// closing says that the plugin is being disabled or removed: nobody may
	// take hold of it any more.
	closing bool
	// upgraded is closed, and nil again, when the upgrade of an enabled plugin is
	// over; nil while there is none.
	upgraded chan struct{}
	// replaced says that the start under way is the last of the upgrade.
	replaced bool

	outMu sync.Mutex
	out   *pluginlog.Log // nil until it is first used
}

// life is what the loop of a unit knows. Only the loop touches it.
type life struct {
	rec       store.Record
	state     outlet.State
	since     time.Time
	task      runtime.Task
	startedAt time.Time
	readyAt   time.Time // zero while not ready
	restarts  int
	backoff   backoff
	nextStart time.Time
	timer     *time.Timer // runs while in backoff
	lastExit  *outlet.Exit
	failure   string
	// doubts counts failed starts of the version of a pending upgrade that nobody
	// can be blamed for.
	doubts int

	// unreachable says that the process is being ended because its socket is
	// gone.
	unreachable bool

	// abort ends the launch that is under way; nil if there is none.
	abort context.CancelFunc
	// started and stopped are told when the launch, the ending that is under
	// way is over.
	started, stopped []chan<- error
}

func newUnit(m *Manager, rec store.Record) *unit {
	u := &unit{
		m:       m,
		id:      rec.ID,
		log:     m.log.With("plugin", rec.Name, "id", shortID(rec.ID)),
		ops:     newOpLock(),
		cmds:    make(chan func()),
		ended:   make(chan struct{}),
		done:    make(chan struct{}),
		paths:   m.pathsOf(rec.ID),
		changed: make(chan struct{}),
		holders: make(holders),
	}
	u.client = newWaitingClient(u)
	u.life = life{rec: rec, state: outlet.StateDisabled, since: m.now(), timer: time.NewTimer(time.Hour)}
	u.life.timer.Stop()
	u.publish()
	return u
}

// run is the loop. It ends when ctx does, and leaves the plugin as it is:
// whether a plugin outlives its manager is decided in [Manager.Close].
func (u *unit) run(ctx context.Context) {
	defer close(u.done)
	defer u.wg.Wait()
	defer close(u.ended) // before waiting: those waited for may be about to report
	defer u.life.timer.Stop()
	for {
		var exited <-chan struct{}
		if u.life.state == outlet.StateRunning {
			exited = u.life.task.Done()
		}
		select {
		case <-ctx.Done():
			return
		case f := <-u.cmds:
			f()
		case <-exited:
			u.onExit(ctx)
		case <-u.life.timer.C:
			u.beginLaunch(ctx, launchRestart)
		}
	}
}

// do runs f on the loop and waits for it. f must not wait for anything.
func (u *unit) do(f func()) error {
	ran := make(chan struct{})
	select {
	case u.cmds <- func() { defer close(ran); f() }:
		<-ran
		return nil
	case <-u.ended:
		return errClosed
	}
}

// await waits for an answer of what the loop began. If the unit ends first there
// may be none: then the manager is being closed.
func (u *unit) await(answer <-chan error) error {
	select {
	case err := <-answer:
		return err
	case <-u.done:
	}
	select { // nobody answers from here on, but somebody may have
	case err := <-answer:
		return err
	default:
		return errClosed
	}
}

// errClosed is what operations get once the manager is being closed.
var errClosed = outlet.Errorf(errdefs.ErrUnavailable, "the plugin manager is shutting down")

// enter moves the unit to state s and publishes that. A transition that the
// table of package outlet does not know is a defect in this package: it is
// logged, and made all the same, because what is observed is a fact.
func (u *unit) enter(s outlet.State) {
	l := &u.life
	if s != l.state {
		if !outlet.CanEnter(l.state, s) {
			u.log.Error("unexpected transition", "from", l.state, "to", s)
		}
		u.log.Debug("state", "from", l.state, "to", s)
		l.state, l.since = s, u.m.now()
	}
	if s != outlet.StateBackoff {
		l.nextStart = time.Time{}
	}
	u.publish()
	u.m.events.publish(Event{Kind: EventState, Plugin: u.snapshot()})
}

// publish makes what the loop knows visible to readers.
func (u *unit) publish() {
	l := &u.life
	p := pluginOf(l.rec)
	st := &outlet.Status{State: l.state, Since: l.since, Restarts: l.restarts, Error: l.failure, UpgradeUndone: l.rec.Undone}
	if l.task != nil {
		st.PID = l.task.PID()
		at := l.startedAt
		st.StartedAt = &at
	}
	if !l.nextStart.IsZero() {
		at := l.nextStart
		st.NextStart = &at
	}
	if l.lastExit != nil {
		e := *l.lastExit
		st.LastExit = &e
	}
	if l.state != outlet.StateDisabled {
		st.Socket = u.paths.socket(l.rec.Config.Interface.Socket)
	}
	p.Status = st

	u.mu.Lock()
	defer u.mu.Unlock()
	u.plugin, u.callLimit, u.rootfsKey = p, l.rec.Timeout, l.rec.Rootfs
	close(u.changed)
	u.changed = make(chan struct{})
	u.m.revision.Add(1)
}

// snapshot returns a copy of what was published last, with the holders of now.
func (u *unit) snapshot() outlet.Plugin {
	u.mu.Lock()
	defer u.mu.Unlock()
	p := u.plugin.Clone()
	p.Status.Holders = u.holders.list()
	return p
}

// look returns what was published last without copying it, and a channel that
// is closed when something newer is. The plugin must not be changed.
func (u *unit) look() (outlet.Plugin, <-chan struct{}) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.plugin, u.changed
}

// A launchKind says why a plugin is started.
type launchKind int

const (
	launchFirst    launchKind = iota // its user enabled it: a failure disables it
	launchUpgraded                   // it was upgraded while enabled: a failure undoes that
	launchRestart                    // it ended by itself, or its start failed
	launchBoot                       // the manager was opened: it may still be running
)

// beginLaunch starts the plugin in a goroutine. The loop goes on.
func (u *unit) beginLaunch(ctx context.Context, kind launchKind) {
	l := &u.life
	ctx, abort := context.WithCancel(ctx)
	l.abort = abort
	l.failure = ""
	if kind == launchRestart {
		l.restarts++
	}
	u.enter(outlet.StateStarting)
	rec := l.rec.Clone()
	u.wg.Go(func() {
		defer abort()
		task, err := u.launch(ctx, rec, kind)
		_ = u.do(func() { u.onLaunched(u.ctx, kind, task, err) }) // the loop has ended: so has the manager
	})
}

// adopt makes a process that was just started, or found, known.
func (u *unit) adopt(task runtime.Task, startedAt time.Time) {
	_ = u.do(func() { // as in beginLaunch
		u.life.task, u.life.startedAt = task, startedAt
		u.publish()
	})
}

// onLaunched is told how a launch ended: the plugin is ready, or all of it that
// the launch started is gone again.
func (u *unit) onLaunched(ctx context.Context, kind launchKind, task runtime.Task, err error) {
	l := &u.life
	l.abort = nil
	l.task = task
	var failed *startError
	if errors.As(err, &failed) && failed.exit != nil {
		l.lastExit = failed.exit
	}
	var notEnded *notEndedError
	switch {
	case l.state == outlet.StateStopping: // disabled meanwhile
		if err != nil {
			u.tellStarted(err)
		} else {
			u.tellStarted(outlet.Errorf(errdefs.ErrConflict, "plugin %s was disabled while it started", l.rec.Name))
		}
		u.beginTeardown(context.WithoutCancel(ctx))
	case err == nil:
		u.onReady(ctx, kind)
	case errors.As(err, &notEnded):
		u.fail(err)
		u.tellStarted(err)
	case kind == launchFirst:
		l.failure = err.Error()
		u.enter(outlet.StateDisabled)
		u.tellStarted(err)
	case ctx.Err() != nil: // the manager is closing: the next one starts the plugin
		u.tellStarted(errClosed)
	case u.undoes(kind, err):
		u.undoUpgrade(ctx, err)
	default:
		u.log.Warn("plugin did not start", "err", err, "upgrade_pending", l.rec.Previous != nil)
		u.retryLater(err)
	}
}

func (u *unit) onReady(ctx context.Context, kind launchKind) {
	l := &u.life
	l.readyAt, l.unreachable, l.doubts = u.m.now(), false, 0
	switch kind {
	case launchFirst:
		l.rec.Enabled, l.rec.Undone = true, ""
		l.restarts, l.backoff = 0, backoff{}
	case launchUpgraded:
		l.restarts, l.backoff = 0, backoff{}
	case launchRestart, launchBoot:
	}
	u.enter(outlet.StateRunning)
	if kind == launchRestart {
		u.m.supervised(EventRestart, u.snapshot())
	}
	u.log.Info("plugin is ready", "pid", l.task.PID(), "took", l.readyAt.Sub(l.startedAt).Round(time.Millisecond))
	u.upgradeReady()
	waiters := l.started
	l.started = nil
	handled := make(chan struct{})
	u.wg.Go(func() {
		defer close(handled)
		u.m.activated(ctx, u)
	})
	u.wg.Go(func() {
		t := time.NewTimer(u.m.handlersFor)
		defer t.Stop()
		select {
		case <-handled:
		case <-t.C: // it listens and does not answer: its user must be able to disable it
			u.log.Warn("the plugin is ready, but what is done with it then takes long and goes on", "after", u.m.handlersFor)
		case <-ctx.Done():
		}
		tell(waiters, nil)
	})
}

// onExit is told that the process of a running plugin ended.
func (u *unit) onExit(ctx context.Context) {
	l := &u.life
	exit := l.task.Exit()
	l.lastExit = &exit
	uptime := u.m.now().Sub(l.readyAt)
	task := l.task
	l.task, l.readyAt = nil, time.Time{}
	delay := l.backoff.next(u.m.now(), uptime, jitter())
	l.failure = "it " + describeExit(exit)
	u.log.Warn("plugin ended", "exit", describeExit(exit), "uptime", uptime.Round(time.Millisecond), "next_start_in", delay.Round(time.Millisecond))
	l.nextStart = u.m.now().Add(delay)
	u.enter(outlet.StateBackoff)
	u.m.supervised(EventDie, u.snapshot())

	// Until what is left of it is cleared away there must be no next start.
	ctx, abort := context.WithCancel(ctx)
	l.abort = abort
	u.wg.Go(func() {
		defer abort()
		err := u.clearAfterExit(context.WithoutCancel(ctx), task)
		u.note(fmt.Sprintf("the plugin %s after %s; it is started again in %s", describeExit(exit), uptime.Round(time.Millisecond), delay.Round(time.Millisecond)))
		_ = u.do(func() { // as in beginLaunch
			l.abort = nil
			switch {
			case l.state == outlet.StateStopping:
				u.beginTeardown(context.WithoutCancel(ctx))
			case err != nil:
				u.fail(err)
			default:
				l.timer.Reset(l.nextStart.Sub(u.m.now()))
			}
		})
	})
}

// retryLater puts a plugin whose restart failed into backoff.
func (u *unit) retryLater(err error) {
	l := &u.life
	delay := l.backoff.next(u.m.now(), 0, jitter())
	l.failure = err.Error()
	l.nextStart = u.m.now().Add(delay)
	u.wg.Go(func() { // the loop must not wait for a disk
		u.note(fmt.Sprintf("the plugin did not start; it is started again in %s", delay.Round(time.Millisecond)))
	})
	u.enter(outlet.StateBackoff)
	l.timer.Reset(delay)
}

// fail ends in the state that no retry leaves.
func (u *unit) fail(err error) {
	u.life.failure = err.Error()
	u.log.Error("plugin failed for good", "err", err)
	u.enter(outlet.StateFailed)
	u.tellStopped(err)
}

// beginStop ends the plugin, whatever it is doing. stopped is told when it is
// gone, or why it is not.
func (u *unit) beginStop(ctx context.Context, stopped chan<- error) {
	l := &u.life
	l.stopped = append(l.stopped, stopped)
	if l.state == outlet.StateStopping {
		return
	}
	l.timer.Stop()
	u.enter(outlet.StateStopping)
	if l.abort != nil { // onLaunched and onExit go on from here
		l.abort()
		return
	}
	u.beginTeardown(context.WithoutCancel(ctx))
}

// beginTeardown ends the process, if there is one, and takes away everything
// that was set up for it on the host.
func (u *unit) beginTeardown(ctx context.Context) {
	l := &u.life
	task := l.task
	u.wg.Go(func() {
		exit, err := u.teardown(ctx, task)
		_ = u.do(func() { // as in beginLaunch
			if exit != nil {
				l.lastExit = exit
			}
			if err != nil {
				u.fail(fmt.Errorf("stop plugin %s: %w", l.rec.Name, err))
				return
			}
			l.task, l.readyAt, l.failure = nil, time.Time{}, ""
			u.enter(outlet.StateDisabled)
			u.tellStopped(nil)
		})
	})
}

func (u *unit) tellStarted(err error) {
	tell(u.life.started, err)
	u.life.started = nil
}

func (u *unit) tellStopped(err error) {
	tell(u.life.stopped, err)
	u.life.stopped = nil
}

// tell answers those who wait. Their channels have room for the answer.
func tell(waiters []chan<- error, err error) {
	for _, w := range waiters {
		w <- err
	}
}

// close ends the loop and waits for it and everything it started.
func (u *unit) close() {
	u.cancel()
	<-u.done
	if err := u.client.close(); err != nil {
		u.log.Warn("close the plugin's client", "err", err)
	}
	if out := u.openOutput(); out != nil {
		if err := out.Close(); err != nil {
			u.log.Warn("close the plugin's log", "err", err)
		}
	}
}
