package cli

import (
	"fmt"
	"time"

	"github.com/outletd/outlet"
)

// statusText says in a few words what a plugin is doing. A daemon that is not
// Outlet tells nothing, and so does the text.
func statusText(p outlet.Plugin, now time.Time) string {
	s := p.Status
	if s == nil {
		return ""
	}
	text := string(s.State)
	switch s.State {
	case outlet.StateDisabled:
		return text
	case outlet.StateFailed:
		if s.Error != "" {
			text += ": " + s.Error
		}
		return text
	case outlet.StateBackoff:
		if s.NextStart != nil {
			if wait := s.NextStart.Sub(now); wait > 0 {
				text += ", next start in " + humanDuration(wait.Round(time.Second))
			} else {
				text += ", next start now"
			}
		}
	case outlet.StateRunning, outlet.StateStarting, outlet.StateStopping, outlet.StateRemoving:
		if !s.Since.IsZero() {
			text += " " + humanDuration(now.Sub(s.Since))
		}
	}
	if s.Restarts > 0 {
		text += fmt.Sprintf(" (%d %s)", s.Restarts, plural(s.Restarts, "restart"))
	}
	if s.UpgradeUndone != "" {
		text += ", upgrade undone"
	}
	return text
}
