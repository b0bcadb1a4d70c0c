package manager

import (
	"testing"
	"time"
)

func TestBackoff(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

	t.Run("the first three restarts do not wait, then the wait doubles up to a minute", func(t *testing.T) {
		var b backoff
		now := start
		want := []time.Duration{0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60}
		for i, w := range want {
			got := b.next(now, 0, 0)
			if got != w*time.Second {
				t.Fatalf("restart %d waits %v, want %v", i+1, got, w*time.Second)
			}
			now = now.Add(got + time.Second)
		}
	})

	t.Run("a plugin that keeps crashing is started at most twice a minute in the long run", func(t *testing.T) {
		var b backoff
		now, restarts := start, 0
		for now.Sub(start) < time.Hour {
			now = now.Add(b.next(now, 0, -1) + 200*time.Millisecond)
			if now.Sub(start) > 10*time.Minute {
				restarts++
			}
		}
		if restarts > 2*50 || restarts < 40 {
			t.Errorf("%d restarts in 50 minutes, want one every 50 to 70 s", restarts)
		}
	})

	t.Run("ten minutes of uptime forgive everything", func(t *testing.T) {
		var b backoff
		for range 8 {
			b.next(start, 0, 0)
		}
		if got := b.next(start.Add(time.Minute), restartWindow, 0); got != 0 {
			t.Errorf("after ten good minutes the restart waits %v", got)
		}
	})

	t.Run("a crash now and then never waits", func(t *testing.T) {
		var b backoff
		now := start
		for range 50 {
			if got := b.next(now, 4*time.Minute, 0); got != 0 {
				t.Fatalf("a crash every four minutes waits %v", got)
			}
			now = now.Add(4 * time.Minute)
		}
	})

	t.Run("jitter moves the wait by a fifth at most", func(t *testing.T) {
		for _, j := range []float64{-1, 1} {
			b := backoff{recent: []time.Time{start, start, start}, delayed: 9}
			got := b.next(start, 0, j)
			if got < 48*time.Second || got > 72*time.Second {
				t.Errorf("jitter %v: %v", j, got)
			}
		}
	})
}
