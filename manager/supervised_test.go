package manager

import (
	"testing"
	"time"

	"github.com/outletd/outlet"
)

// What became of a plugin by itself is told, with how it ended and how often.
func TestADeathAndAComebackAreEvents(t *testing.T) {
	told := make(chan Event, 8)
	f := newFixture(t, func(c *Config) { c.Supervised = func(e Event) { told <- e } })
	f.create("sample")
	events, cancel := f.Subscribe(8, EventFilter{Kind: EventDie}, EventFilter{Kind: EventRestart})
	defer cancel()
	next := func(from <-chan Event) Event {
		t.Helper()
		select {
		case e := <-from:
			return e
		case <-time.After(time.Minute):
			t.Fatal("nothing is told")
			return Event{}
		}
	}
	f.enable("sample")
	for restarts := 1; restarts <= 2; restarts++ {
		p := f.state("sample", outlet.StateRunning)
		f.rt.task(p.ID).end(outlet.Exit{Code: 137, Signal: 9})
		for _, from := range []<-chan Event{events, told} {
			e := next(from)
			if st := e.Plugin.Status; e.Kind != EventDie || e.Plugin.ID != p.ID || st.LastExit == nil || st.LastExit.Code != 137 || st.Restarts != restarts-1 || st.State != outlet.StateBackoff {
				t.Errorf("at its end: %s of %+v", e.Kind, st)
			}
			e = next(from)
			if st := e.Plugin.Status; e.Kind != EventRestart || st.Restarts != restarts || st.State != outlet.StateRunning {
				t.Errorf("when it is back: %s of %+v", e.Kind, st)
			}
		}
	}
	if err := f.Disable(t.Context(), "sample", false); err != nil {
		t.Fatal(err)
	}
	select {
	case e := <-told:
		t.Errorf("what its user did is told as %s", e.Kind)
	default:
	}
}
