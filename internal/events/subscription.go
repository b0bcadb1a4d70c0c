package events

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/outletd/outlet"
)

// ErrTooSlow ends a subscription whose reader lost more than [MaxLost]
// messages.
var ErrTooSlow = errors.New("too many events were lost because they were not read")

// Subscription is one subscriber's view of a [Publisher]. One goroutine calls
// Next; the other methods are safe for concurrent use.
type Subscription struct {
	pub    *Publisher
	filter Filter
	until  time.Time
	stop   func() bool   // detaches from the subscriber's context; may be nil
	wake   chan struct{} // holds a token when there may be something to read
	done   chan struct{} // closed when nothing is added any more

	mu sync.Mutex
	// queue holds what is to be read. The first QueueSize are the buffer; those
	// behind wait for room, each for SendTimeout. So a full queue costs the
	// publisher nothing, where a blocking send would cost it the timeout for
	// every message.
	queue []queued
	lost  int
	ended bool
	err   error // why it ended; nil is an ordinary end
}

type queued struct {
	m     outlet.Message
	until time.Time // when waiting for room ends; read only behind QueueSize
}

// offer is called by the publisher, for one message at a time.
func (s *Subscription) offer(m outlet.Message, now time.Time) {
	if !s.filter.Match(m) {
		return
	}
	if !s.until.IsZero() && now.After(s.until) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	before := s.lost
	s.expireLocked(now)
	if len(s.queue) < QueueSize+MaxLost {
		s.queue = append(s.queue, queued{m: m, until: now.Add(SendTimeout)})
	} else {
		s.lost++
	}
	if before == 0 && s.lost > 0 {
		s.pub.log.Warn("a subscriber does not read its events fast enough: some are lost to it")
	}
	if s.lost > MaxLost {
		s.queue = nil
		s.finishLocked(ErrTooSlow)
		delete(s.pub.subs, s) // offer runs under the publisher's lock
	}
	s.notify()
}

// expireLocked drops what has waited for room too long.
func (s *Subscription) expireLocked(now time.Time) {
	n := QueueSize
	for n < len(s.queue) && now.After(s.queue[n].until) {
		n++
	}
	if n > QueueSize {
		s.lost += n - QueueSize
		s.queue = append(s.queue[:QueueSize], s.queue[n:]...)
	}
}

func (s *Subscription) notify() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Next returns the next message, waiting for it if need be. It returns io.EOF
// when the subscription ended (its time was up, or the publisher or the
// subscription was closed), [ErrTooSlow] when it was closed because the reader
// lost too much, and the error of ctx, or of the context it was subscribed
// with, when that ended.
func (s *Subscription) Next(ctx context.Context) (outlet.Message, error) {
	var timeout <-chan time.Time
	for {
		m, ok, err := s.take()
		if ok || err != nil {
			return m, err
		}
		if timeout == nil && !s.until.IsZero() {
			t := time.NewTimer(time.Until(s.until))
			defer t.Stop()
			timeout = t.C
		}
		select {
		case <-ctx.Done():
			return outlet.Message{}, ctx.Err()
		case <-timeout:
			s.end(nil)
		case <-s.wake:
		case <-s.done:
		}
	}
}

func (s *Subscription) take() (m outlet.Message, ok bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) > 0 && s.err == nil {
		s.expireLocked(time.Now())
		m = s.queue[0].m
		s.queue[0] = queued{}
		s.queue = s.queue[1:]
		return m, true, nil
	}
	if !s.ended {
		return outlet.Message{}, false, nil
	}
	if s.err != nil {
		return outlet.Message{}, false, s.err
	}
	return outlet.Message{}, false, io.EOF
}

// Pending says whether Next has a message to return at once.
func (s *Subscription) Pending() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queue) > 0 && s.err == nil
}

// Lost is the number of messages that the subscriber did not get.
func (s *Subscription) Lost() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost
}

// Done is closed when no message is added any more; what is queued can still be
// read unless the reader was too slow.
func (s *Subscription) Done() <-chan struct{} { return s.done }

// Err is why the subscription ended: nil while it has not and for an ordinary
// end, else what Next returns.
func (s *Subscription) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Close ends the subscription. What is queued can still be read.
func (s *Subscription) Close() { s.end(nil) }

// end takes the subscription off its publisher and finishes it. The publisher's
// lock is always taken before the subscription's.
func (s *Subscription) end(err error) {
	s.pub.remove(s)
	s.finish(err)
}

func (s *Subscription) finish(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finishLocked(err)
}

func (s *Subscription) finishLocked(err error) {
	if s.ended {
		return
	}
	s.ended, s.err = true, err
	close(s.done)
	if s.stop != nil {
		s.stop()
	}
}
