package manager

import (
	"sync"

	"github.com/outletd/outlet"
)

// EventKind says what happened to a plugin.
type EventKind string

// The kinds of events, in the order of a plugin's life.
const (
	EventCreate  EventKind = "create"
	EventEnable  EventKind = "enable"  // its user enabled it, and it is ready
	EventDisable EventKind = "disable" // its user disabled it, and it is gone
	EventRemove  EventKind = "remove"
	EventSet     EventKind = "set"
	// EventRollback is told when an upgrade was undone because the new version
	// did not become ready; the old one is about to be started. Docker has no
	// such event.
	EventRollback EventKind = "rollback"
	// EventDie is told when the process of a plugin that was ready ended by
	// itself, and EventRestart when it is ready again after that: what they say
	// of it is in the plugin's Status. Docker has no such events of plugins.
	EventDie     EventKind = "die"
	EventRestart EventKind = "restart"
	EventState   EventKind = "state" // what is observed of it changed; not part of Docker's events
	// EventLost is the last event of a subscriber that did not keep up: what
	// follows it is missing, so the subscriber should list afresh. It has no
	// plugin.
	EventLost EventKind = "lost"
)

// Event is something that happened to a plugin. Plugin is a copy from just
// after it happened.
type Event struct {
	Kind   EventKind
	Plugin outlet.Plugin
	// Lost counts the events the subscriber missed before this one.
	Lost int
}

// EventFilter selects events. An event passes a subscription if it passes one
// of its filters, or if there are none.
type EventFilter struct {
	// Kind, if not "", is the kind of event.
	Kind EventKind
	// PluginID, if not "", is the plugin the event is about.
	PluginID string
	// Capabilities, if not empty, are full types ("docker.volumedriver/1.0") of
	// which the plugin has at least one.
	Capabilities []string
}

func (f EventFilter) match(e Event) bool {
	if f.Kind != "" && f.Kind != e.Kind || f.PluginID != "" && f.PluginID != e.Plugin.ID {
		return false
	}
	if len(f.Capabilities) == 0 {
		return true
	}
	for _, want := range f.Capabilities {
		for _, have := range e.Plugin.Config.Interface.Types {
			if have.String() == want {
				return true
			}
		}
	}
	return false
}

// publisher hands events to subscribers. Publishing never blocks: what does not
// fit a subscriber's buffer is counted, and told to it before the next event
// that does.
type publisher struct {
	mu   sync.Mutex
	subs map[*subscription]struct{}
}

type subscription struct {
	ch      chan Event
	filters []EventFilter
	lost    int
}

// subscribe returns a channel of the events that pass one of filters, and a
// function that ends the subscription and closes the channel.
func (p *publisher) subscribe(buffer int, filters []EventFilter) (<-chan Event, func()) {
	s := &subscription{ch: make(chan Event, max(buffer, 1)), filters: append([]EventFilter(nil), filters...)}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.subs == nil {
		p.subs = make(map[*subscription]struct{})
	}
	p.subs[s] = struct{}{}
	return s.ch, sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if _, ok := p.subs[s]; ok {
			delete(p.subs, s)
			close(s.ch)
		}
	})
}

func (p *publisher) publish(e Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for s := range p.subs {
		if s.matches(e) {
			s.send(e)
		}
	}
}

// close ends all subscriptions.
func (p *publisher) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for s := range p.subs {
		delete(p.subs, s)
		close(s.ch)
	}
}

func (s *subscription) matches(e Event) bool {
	if len(s.filters) == 0 {
		return true
	}
	for _, f := range s.filters {
		if f.match(e) {
			return true
		}
	}
	return false
}

// send delivers e, preceded by a marker if events were lost before it. A
// channel has one sender at a time (the publisher's lock), so a free place
// seen here is a free place.
func (s *subscription) send(e Event) {
	if s.lost > 0 {
		if cap(s.ch)-len(s.ch) < min(2, cap(s.ch)) {
			s.lost++
			return
		}
		s.ch <- Event{Kind: EventLost, Lost: s.lost}
		s.lost = 0
	}
	e.Plugin = e.Plugin.Clone()
	select {
	case s.ch <- e:
	default:
		s.lost++
	}
}
