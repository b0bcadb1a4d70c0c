//go:build !linux

package plugins

import "time"

// pollInterval is how often to look where the kernel does not tell.
const pollInterval = 500 * time.Millisecond

// watchSource wakes the sessions regularly.
type watchSource struct{ poll *poller }

func newWatchSource(wake func()) *watchSource {
	return &watchSource{newPoller(wake, pollInterval)}
}

func (*watchSource) cover(dirs, string) {}

func (s *watchSource) close() { s.poll.close() }
