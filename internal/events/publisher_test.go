package events

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/outletd/outlet"
)

func message(n int) outlet.Message {
	return outlet.Message{Type: "plugin", Action: fmt.Sprint(n), Actor: outlet.Actor{ID: "id", Attributes: map[string]string{"name": "n"}}}
}

// drain reads until the subscription has nothing more at once or ends.
func drain(t *testing.T, s *Subscription) (actions []string) {
	t.Helper()
	for s.Pending() {
		m, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		actions = append(actions, m.Action)
	}
	return actions
}

func numbers(from, to int) (list []string) {
	for i := from; i <= to; i++ {
		list = append(list, fmt.Sprint(i))
	}
	return list
}

func TestSinceAndUntil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(nil)
		start := time.Now()
		at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
		for i := 1; i <= 3; i++ {
			time.Sleep(time.Second)
			p.Publish(message(i))
		}
		// It is second 3 now.
		for name, c := range map[string]struct {
			o    Options
			want []string
			live bool
		}{
			"neither replays nothing":                    {Options{}, nil, true},
			"since replays from that time on":            {Options{Since: at(2)}, []string{"2", "3"}, true},
			"until in the past replays and ends":         {Options{Until: at(2)}, []string{"1", "2"}, false},
			"both in the past replay the range and end":  {Options{Since: at(2), Until: at(2)}, []string{"2"}, false},
			"until in the future replays and stays open": {Options{Until: at(60)}, []string{"1", "2", "3"}, true},
			"since in the future replays nothing":        {Options{Since: at(50), Until: at(60)}, nil, true},
		} {
			s := p.Subscribe(t.Context(), c.o)
			if diff := cmp.Diff(c.want, drain(t, s)); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
			select {
			case <-s.Done():
				if c.live {
					t.Errorf("%s: the subscription has ended", name)
				}
				if _, err := s.Next(t.Context()); !errors.Is(err, io.EOF) {
					t.Errorf("%s: at its end Next returns %v", name, err)
				}
			default:
				if !c.live {
					t.Errorf("%s: the subscription has not ended", name)
				}
			}
			s.Close()
		}
	})
}

func TestUntilEndsALiveSubscriptionAtThatTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(nil)
		start := time.Now()
		s := p.Subscribe(t.Context(), Options{Until: start.Add(5 * time.Second)})
		time.Sleep(time.Second)
		p.Publish(message(1))
		if m, err := s.Next(t.Context()); err != nil || m.Action != "1" {
			t.Fatalf("%v, %v", m, err)
		}
		if _, err := s.Next(t.Context()); !errors.Is(err, io.EOF) {
			t.Fatalf("want the end, got %v", err)
		}
		if d := time.Since(start); d != 5*time.Second {
			t.Errorf("it ended after %v", d)
		}
		if n := p.Subscribers(); n != 0 {
			t.Errorf("%d subscribers are left", n)
		}
	})
}

func TestOnlyTheLast256AreKept(t *testing.T) {
	p := New(nil)
	for i := 1; i <= 300; i++ {
		p.Publish(message(i))
	}
	s := p.Subscribe(t.Context(), Options{Since: time.Unix(1, 0)})
	defer s.Close()
	if diff := cmp.Diff(numbers(45, 300), drain(t, s)); diff != "" {
		t.Error(diff)
	}
}

func TestAStoppedReaderCostsOnlyItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		p := New(slog.New(slog.NewTextHandler(&log, nil)))
		stopped := p.Subscribe(t.Context(), Options{})
		start := time.Now()
		for i := 1; i <= QueueSize+10; i++ {
			p.Publish(message(i))
		}
		if d := time.Since(start); d != 0 {
			t.Fatalf("publishing waited %v for a subscriber", d)
		}
		if n := stopped.Lost(); n != 0 {
			t.Fatalf("%d were lost before the timeout", n)
		}
		time.Sleep(SendTimeout + 1)
		p.Publish(message(QueueSize + 11))
		if n := stopped.Lost(); n != 10 {
			t.Fatalf("%d were lost after the timeout, want 10", n)
		}
		want := append(numbers(1, QueueSize), fmt.Sprint(QueueSize+11))
		if diff := cmp.Diff(want, drain(t, stopped)); diff != "" {
			t.Error(diff)
		}

		for i := 1; i <= QueueSize+MaxLost-10+1; i++ {
			p.Publish(message(i))
			if i%100 == 0 {
				time.Sleep(2 * SendTimeout)
			}
		}
		time.Sleep(2 * SendTimeout)
		p.Publish(message(0))
		p.Publish(message(0))
		if _, err := stopped.Next(t.Context()); !errors.Is(err, ErrTooSlow) {
			t.Errorf("after %d lost Next returns %v", stopped.Lost(), err)
		}
		if !errors.Is(stopped.Err(), ErrTooSlow) {
			t.Errorf("Err is %v", stopped.Err())
		}
		if n := p.Subscribers(); n != 0 {
			t.Errorf("%d subscribers are left", n)
		}
		if n := strings.Count(log.String(), "\n"); n != 1 {
			t.Errorf("the subscriber was logged %d times:\n%s", n, log.String())
		}
	})
}

func TestABurstBeyondQueueAndWaitingRoomIsLostAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(nil)
		s := p.Subscribe(t.Context(), Options{})
		for i := range QueueSize + MaxLost + 5 {
			p.Publish(message(i))
		}
		if n := s.Lost(); n != 5 {
			t.Errorf("%d lost, want 5", n)
		}
		s.Close()
	})
}

func TestReplayAndSubscriptionAreOneStep(t *testing.T) {
	p := New(nil)
	const total = 200
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 1; i <= total; i++ {
			p.Publish(message(i))
		}
		p.Close()
	})
	for range 8 {
		wg.Go(func() {
			s := p.Subscribe(t.Context(), Options{Since: time.Unix(1, 0)})
			var got []string
			for {
				m, err := s.Next(t.Context())
				if err != nil {
					break
				}
				got = append(got, m.Action)
			}
			if diff := cmp.Diff(numbers(1, total), got); diff != "" {
				t.Errorf("missed or doubled: %s", diff)
			}
		})
	}
	wg.Wait()
}

func TestEveryEndIsTold(t *testing.T) {
	t.Run("its context", func(t *testing.T) {
		p := New(nil)
		ctx, cancel := context.WithCancel(t.Context())
		s := p.Subscribe(ctx, Options{})
		cancel()
		<-s.Done()
		if _, err := s.Next(t.Context()); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("the reader's context", func(t *testing.T) {
		p := New(nil)
		s := p.Subscribe(t.Context(), Options{})
		defer s.Close()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Next(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("the publisher, after what is queued", func(t *testing.T) {
		p := New(nil)
		s := p.Subscribe(t.Context(), Options{})
		p.Publish(message(1))
		p.Close()
		p.Publish(message(2))
		if got := drain(t, s); len(got) != 1 {
			t.Errorf("got %v", got)
		}
		if _, err := s.Next(t.Context()); !errors.Is(err, io.EOF) {
			t.Errorf("got %v", err)
		}
		if _, err := p.Subscribe(t.Context(), Options{}).Next(t.Context()); !errors.Is(err, io.EOF) {
			t.Errorf("a subscription to a closed publisher: %v", err)
		}
	})
}

func TestPublishCopiesAndStamps(t *testing.T) {
	p := New(nil)
	m := message(1)
	p.Publish(m)
	m.Actor.Attributes["name"] = "changed"
	s := p.Subscribe(t.Context(), Options{Since: time.Unix(1, 0)})
	defer s.Close()
	got, err := s.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got.Actor.Attributes["name"] != "n" || got.Scope != "local" || got.Time == 0 || got.TimeNano/1e9 != got.Time {
		t.Errorf("got %+v", got)
	}
}

func TestFilter(t *testing.T) {
	m := outlet.Message{Type: "plugin", Action: "enable", Scope: "local", Actor: outlet.Actor{
		ID: "abcdef", Attributes: map[string]string{"name": "foo/bar:latest", "color": "red"},
	}}
	for name, c := range map[string]struct {
		f    Filter
		want bool
	}{
		"nothing is asked":                   {nil, true},
		"a key without values":               {Filter{"type": nil}, true},
		"type":                               {Filter{"type": {"plugin"}}, true},
		"another type":                       {Filter{"type": {"volume"}}, false},
		"type is compared whole":             {Filter{"type": {"plug"}}, false},
		"one value of several":               {Filter{"event": {"disable", "enable"}}, true},
		"all keys must fit":                  {Filter{"event": {"enable"}, "type": {"volume"}}, false},
		"scope":                              {Filter{"scope": {"local"}}, true},
		"another scope":                      {Filter{"scope": {"swarm"}}, false},
		"start of the id":                    {Filter{"plugin": {"abc"}}, true},
		"start of the name":                  {Filter{"plugin": {"foo/"}}, true},
		"middle of the name":                 {Filter{"plugin": {"bar"}}, false},
		"other keys name the actor as well":  {Filter{"container": {"abcd"}}, true},
		"image is compared whole":            {Filter{"image": {"foo"}}, false},
		"image":                              {Filter{"image": {"foo/bar:latest"}}, true},
		"label that is there":                {Filter{"label": {"color"}}, true},
		"label with its value":               {Filter{"label": {"color=red"}}, true},
		"label with another value":           {Filter{"label": {"color=blue"}}, false},
		"label that is not there":            {Filter{"label": {"size"}}, false},
		"a key nobody knows does not matter": {Filter{"weather": {"fine"}}, true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.f.Match(m); got != c.want {
				t.Errorf("got %v", got)
			}
		})
	}
}
