package pluginlog

import "time"

// bucket holds what may still be taken in under a [Rate]. The log's lock guards
// it.
type bucket struct {
	rate         Rate
	lines, bytes float64
	at           time.Time
}

func newBucket(rate Rate) bucket {
	b := bucket{rate: rate}
	b.lines, b.bytes = b.burst(rate.Lines), b.burst(rate.Bytes)
	return b
}

func (b *bucket) burst(perSecond int64) float64 { return float64(perSecond) * b.rate.Burst.Seconds() }

// refill adds what the time since the last call is worth.
func (b *bucket) refill(now time.Time) {
	if d := now.Sub(b.at).Seconds(); d > 0 && !b.at.IsZero() {
		b.lines = min(b.lines+d*float64(b.rate.Lines), b.burst(b.rate.Lines))
		b.bytes = min(b.bytes+d*float64(b.rate.Bytes), b.burst(b.rate.Bytes))
	}
	b.at = now
}

// take takes a line of n bytes, and says whether it was there to be taken.
func (b *bucket) take(n int) bool {
	if b.rate.Lines > 0 && b.lines < 1 || b.rate.Bytes > 0 && b.bytes < float64(n) {
		return false
	}
	b.lines--
	b.bytes -= float64(n)
	return true
}

// recovered says whether there is enough again to go on for a while: a second's
// worth, so that a plugin that floods is told of once a second and not at every
// line.
func (b *bucket) recovered() bool {
	return (b.rate.Lines < 0 || b.lines >= float64(b.rate.Lines)) && (b.rate.Bytes < 0 || b.bytes >= float64(b.rate.Bytes))
}
