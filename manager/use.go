package manager

import (
	"context"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/pluginlog"
)

// Logs calls emit with what a plugin printed, line by line, across its starts.
// It ends when emit returns an error, when ctx does, and, unless o.Follow is
// set, after the last line.
func (m *Manager) Logs(ctx context.Context, name string, o outlet.LogOptions, emit func(outlet.LogEntry) error) error {
	u, err := m.find(name)
	if err != nil {
		return err
	}
	out, err := u.output()
	if err != nil {
		return err
	}
	return out.Read(ctx, o, emit)
}

// Exec runs a further process in a running plugin and returns its exit status
// once it has ended. If ctx ends first, the process is killed.
func (m *Manager) Exec(ctx context.Context, name string, p outlet.Process) (int, error) {
	u, err := m.find(name)
	if err != nil {
		return 0, err
	}
	if len(p.Args) == 0 {
		return 0, outlet.Errorf(errdefs.ErrInvalidArgument, "no command to run in the plugin was given")
	}
	var task Task
	if err := u.do(func() {
		if u.life.state == outlet.StateRunning {
			task = u.life.task
		}
	}); err != nil {
		return 0, err
	}
	if task == nil {
		pl, _ := u.look()
		return 0, outlet.Errorf(errdefs.ErrConflict, "plugin %s is not running (it is %s)", pl.Name, pl.Status.State)
	}
	return task.Exec(ctx, p)
}

// output returns the log of what the plugin prints, opened at its first use.
func (u *unit) output() (*pluginlog.Log, error) {
	u.outMu.Lock()
	defer u.outMu.Unlock()
	if u.out != nil {
		return u.out, nil
	}
	select {
	case <-u.ended:
		return nil, errClosed
	default:
	}
	if _, err := u.m.store.CreatePluginDir(u.m.ctx, u.id); err != nil {
		return nil, err
	}
	o := u.m.cfg.Output
	rate := pluginlog.DefaultRate()
	if o.LinesPerSecond != 0 {
		rate.Lines = o.LinesPerSecond
	}
	out, err := pluginlog.Open(pluginlog.Options{
		Dir:      u.paths.logs(),
		Picker:   u.m.picker,
		MaxSize:  o.MaxSize,
		MaxFiles: o.MaxFiles,
		Rate:     rate,
		Logger:   u.log,
	})
	if err != nil {
		return nil, err
	}
	u.out = out
	return out, nil
}

// openOutput returns the log if it was opened, and keeps it from being opened
// again by forgetting it.
func (u *unit) openOutput() *pluginlog.Log {
	u.outMu.Lock()
	defer u.outMu.Unlock()
	out := u.out
	u.out = nil
	return out
}

// note puts a remark of ours between the plugin's own lines.
func (u *unit) note(text string) {
	out, err := u.output()
	if err == nil {
		err = out.Note(text)
	}
	if err != nil {
		u.log.Warn("write to the plugin's log", "err", err)
	}
}
