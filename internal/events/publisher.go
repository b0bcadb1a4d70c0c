// Package events tells those who asked what happens in the daemon: a
// [Publisher] keeps the last messages, hands new ones to its subscribers, and
// never waits for a subscriber that does not read
// (docs/spec/engine-api.md §7.4).
//
// It is not a log: what nobody subscribed to is gone after [BufferSize]
// messages, and nothing is written to disk. It knows no HTTP; package api turns
// a subscription into a stream.
package events

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/outletd/outlet"
)

const (
	// BufferSize is how many past messages a publisher keeps.
	BufferSize = 256
	// QueueSize is how many messages wait for a subscriber to read them.
	QueueSize = 1024
	// SendTimeout is how long a message waits for room in a full queue before
	// it is lost to that subscriber.
	SendTimeout = 100 * time.Millisecond
	// MaxLost is how many messages a subscriber may lose before its
	// subscription is closed.
	MaxLost = 1024
)

// Publisher hands messages to subscribers. Its methods are safe for concurrent
// use.
type Publisher struct {
	log *slog.Logger

	mu     sync.Mutex
	past   []outlet.Message // ring of at most BufferSize, the oldest at first
	first  int
	subs   map[*Subscription]struct{}
	closed bool
}

// New returns a publisher without messages or subscribers. A nil logger
// discards.
func New(logger *slog.Logger) *Publisher {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &Publisher{
		log:  logger,
		past: make([]outlet.Message, 0, BufferSize),
		subs: make(map[*Subscription]struct{}),
	}
}

// Publish sets the message's time to now, its scope to "local" if it has none,
// keeps it, and queues it for every subscriber whose filter it passes. It does
// not wait for any of them. The message's attributes are copied.
func (p *Publisher) Publish(m outlet.Message) {
	if m.Scope == "" {
		m.Scope = "local"
	}
	m.Actor.Attributes = maps.Clone(m.Actor.Attributes)

	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	// Taken under the lock, so that the order of the times is the order in
	// which subscribers see the messages.
	now := time.Now()
	m.Time, m.TimeNano = now.Unix(), now.UnixNano()
	if len(p.past) < BufferSize {
		p.past = append(p.past, m)
	} else {
		p.past[p.first] = m
		p.first = (p.first + 1) % BufferSize
	}
	for s := range p.subs {
		s.offer(m, now)
	}
}

// Subscribers is the number of open subscriptions.
func (p *Publisher) Subscribers() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.subs)
}

// Close ends all subscriptions once they are read to their end, and ignores
// what is published afterwards.
func (p *Publisher) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for s := range p.subs {
		s.finish(nil)
		delete(p.subs, s)
	}
}

// Options select what a subscriber gets.
type Options struct {
	// Filter selects messages; nil selects all.
	Filter Filter
	// Since, if not zero, replays the messages kept that are not older.
	Since time.Time
	// Until, if not zero, replays the messages kept that are not newer (and
	// not older than Since), and ends the subscription at that time: at once
	// if it has passed.
	Until time.Time
}

// Subscribe starts a subscription, which ends with ctx, with [Options.Until],
// with the publisher, or when the caller closes it. Looking at the messages
// kept and waiting for new ones begin at the same instant: nothing is missed
// and nothing comes twice.
func (p *Publisher) Subscribe(ctx context.Context, o Options) *Subscription {
	s := &Subscription{
		pub:    p,
		filter: o.Filter.clone(),
		until:  o.Until,
		wake:   make(chan struct{}, 1),
		done:   make(chan struct{}),
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !o.Since.IsZero() || !o.Until.IsZero() {
		p.replayLocked(s, o)
	}
	if p.closed || (!o.Until.IsZero() && !o.Until.After(time.Now())) {
		s.finish(nil)
		return s
	}
	p.subs[s] = struct{}{}
	s.stop = context.AfterFunc(ctx, func() { s.end(ctx.Err()) })
	return s
}

func (p *Publisher) replayLocked(s *Subscription, o Options) {
	for i := range p.past {
		m := p.past[(p.first+i)%len(p.past)]
		if !o.Since.IsZero() && m.TimeNano < o.Since.UnixNano() {
			continue
		}
		if !o.Until.IsZero() && m.TimeNano > o.Until.UnixNano() {
			continue
		}
		if s.filter.Match(m) {
			s.queue = append(s.queue, queued{m: m})
		}
	}
}

func (p *Publisher) remove(s *Subscription) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.subs, s)
}
