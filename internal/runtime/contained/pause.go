package contained

import (
	"context"
	"time"
)

// Waiting begins with the first delay, doubled up to the last.
const (
	firstDelay = 200 * time.Microsecond
	lastDelay  = 50 * time.Millisecond
)

// Pause is the time between two looks at what the kernel tells nobody about,
// such as whether a process is gone. The zero value is the first, short one.
type Pause struct{ next time.Duration }

// Wait waits until the pause is over or done is closed, and makes the next one
// longer. It fails if ctx ends. A nil done is never closed.
func (p *Pause) Wait(ctx context.Context, done <-chan struct{}) error {
	p.next = min(max(p.next, firstDelay), lastDelay)
	t := time.NewTimer(p.next)
	defer t.Stop()
	p.next *= 2
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-done:
	case <-t.C:
	}
	return nil
}
