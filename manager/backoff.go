package manager

import (
	"math/rand/v2"
	"time"
)

// How often and how fast a plugin that ends by itself is started again
// (docs/spec/managed-plugins.md §10.2): at once while that is rare, then ever
// more slowly, never given up.
const (
	restartWindow  = 10 * time.Minute // what "rare" is counted over, and the uptime that clears the count
	restartsAtOnce = 3                // restarts within restartWindow that do not wait
	backoffFirst   = time.Second
	backoffMost    = time.Minute
	backoffJitter  = 0.2 // of the delay, either way
)

// backoff decides how long to wait before a plugin is started again. The zero
// value is a plugin that never failed.
type backoff struct {
	recent  []time.Time // restarts within the window, oldest first, at most restartsAtOnce
	delayed int         // restarts in a row that had to wait
}

// next returns how long to wait before the restart that becomes due at now,
// after the plugin had been ready for uptime (0 if it never was), and counts
// that restart. jitter is a number in [-1, 1).
func (b *backoff) next(now time.Time, uptime time.Duration, jitter float64) time.Duration {
	if uptime >= restartWindow {
		*b = backoff{}
	}
	for len(b.recent) > 0 && now.Sub(b.recent[0]) >= restartWindow {
		b.recent = b.recent[1:]
	}
	if len(b.recent) < restartsAtOnce {
		b.delayed = 0
		b.recent = append(b.recent, now)
		return 0
	}
	delay := backoffMost
	if b.delayed < 6 { // 1 s << 6 is past backoffMost
		delay = min(backoffFirst<<b.delayed, backoffMost)
	}
	b.delayed++
	delay += time.Duration(jitter * backoffJitter * float64(delay))
	b.recent = append(b.recent[1:], now.Add(delay))
	return delay
}

// jitter is the random part of a delay.
func jitter() float64 { return 2*rand.Float64() - 1 }
