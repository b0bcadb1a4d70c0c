package manager

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/host"
	"github.com/outletd/outlet/internal/probe"
	"github.com/outletd/outlet/internal/store"
)

// maxExplained is how many of a plugin's last lines are part of an error.
const maxExplained = 10

// explain turns what was seen of a failed start into an error that says what
// happened, what is likely to be the cause, and what the plugin printed.
// docs/spec/managed-plugins.md §10.2 wants the cause where Docker shows the
// error of a dial. It says whom to blame, too.
func (u *unit) explain(rec store.Record, task Task, err error) error {
	what := err.Error()
	var failed startError
	if failed.blame = blameNobody; ofHost(err) {
		failed.blame = blameHost
	}
	if errors.Is(err, probe.ErrExited) && task != nil {
		exit := task.Exit()
		failed.exit, failed.blame = &exit, blameExit(exit)
		what = "it " + describeExit(exit) + " before its socket accepted"
	}
	var late *probe.NotReadyError
	if errors.As(err, &late) {
		failed.blame = blameSocket(late)
		what += fmt.Sprintf(" within %s", u.startTimeout(rec))
	}
	text := fmt.Sprintf("plugin %s did not start: %s", rec.Name, what)
	if late == nil { // what does not listen was there to be started
		if problem := u.diagnose(rec); problem != "" {
			text += ": " + problem
			if failed.blame == blameNobody {
				failed.blame = blameVersion
			}
		}
	}
	if errdefs.IsNotImplemented(err) { // it asks for what there is not
		failed.blame = blameVersion
	}
	if task != nil {
		text += u.lastLines()
	}
	// Not wrapped: "no such file" of a plugin's entry point is not the "not
	// found" of whoever enables it.
	failed.error = errors.New(text)
	return &failed
}

// diagnose looks for a cause in the plugin's files.
func (u *unit) diagnose(rec store.Record) string {
	args := append(append([]string(nil), rec.Config.Entrypoint...), rec.Settings.Args...)
	if len(args) == 0 {
		return ""
	}
	path, cwd := defaultPath, rec.Config.WorkDir
	if cwd == "" {
		cwd = "/"
	}
	for _, kv := range rec.Settings.Env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			path = v
		}
	}
	root, err := u.rootfs(u.m.ctx, rec)
	if err != nil {
		return ""
	}
	if p := host.DiagnoseEntrypoint(root, cwd, args[0], path); p != nil {
		return p.Error()
	}
	return ""
}

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// lastLines are the last lines the plugin printed since it was started, each on
// a line of its own.
func (u *unit) lastLines() string {
	out, err := u.output()
	if err != nil {
		return ""
	}
	var b strings.Builder
	for _, e := range out.Last(maxExplained) {
		if e.Stream == "outlet" {
			continue
		}
		if b.Len() == 0 {
			b.WriteString("; the last it printed:")
		}
		fmt.Fprintf(&b, "\n  %s: %s", e.Stream, printable(e.Line))
	}
	if b.Len() == 0 {
		return "; it printed nothing"
	}
	return b.String()
}

// printable drops what would move the cursor of whoever reads it.
func printable(s string) string {
	s = strings.ToValidUTF8(s, "�")
	return strings.Map(func(r rune) rune {
		if r == '\t' || r >= ' ' && (r < 0x7f || r > 0x9f) {
			return r
		}
		return -1
	}, s)
}

// describeExit says how a process ended: "exited with status 1", "was killed by
// SIGKILL".
func describeExit(e outlet.Exit) string {
	switch {
	case e.OOMKilled:
		return "was killed because it used too much memory"
	case e.Signal != 0:
		name := unix.SignalName(syscall.Signal(e.Signal))
		if name == "" {
			name = fmt.Sprintf("signal %d", e.Signal)
		}
		return "was killed by " + name
	case e.Code < 0:
		return "ended; how is not known, because nobody watched"
	default:
		return fmt.Sprintf("exited with status %d", e.Code)
	}
}
