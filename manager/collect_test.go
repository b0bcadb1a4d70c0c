package manager

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/rootfs"
	"github.com/outletd/outlet/internal/testutil"
)

// litter makes content that nothing holds and that no collection was asked for.
func (f *fixture) litter() {
	f.t.Helper()
	asIs := func(raw []byte) ([]byte, error) { return raw, nil }
	art, err := f.store.CreateFromContext(f.t.Context(), archive(f.t), rootfs.Limits{}, asIs)
	if err == nil {
		err = art.Release(f.t.Context())
	}
	if err != nil {
		f.t.Fatal(err)
	}
}

func TestCheckWaitsForACollectionThatIsDue(t *testing.T) {
	f := newFixture(t)
	if err := f.collected(t.Context()); err != nil { // that of the start
		t.Fatal(err)
	}
	f.litter()
	if found := f.problems(false); len(found) == 0 {
		t.Fatal("a check does not see what nothing holds and nobody collects")
	}
	// As collectGarbage does, but the collector is not yet told.
	f.gc.mu.Lock()
	f.gc.asked++
	f.gc.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if report, err := f.Check(ctx, false); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while a collection is due, a check finds %v, %v", report, err)
	}
	f.gc.due <- struct{}{}
	if found := f.problems(false); len(found) > 0 {
		t.Errorf("after the collection: %v", found)
	}
}

func TestCheckTellsWhatACollectionCouldNotRemove(t *testing.T) {
	f := newFixture(t)
	if err := f.collected(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.litter()
	// It was tried, and is to be tried again at some time.
	f.gc.mu.Lock()
	f.gc.asked++
	n := f.gc.asked
	f.gc.mu.Unlock()
	f.gc.end(n)
	if found := f.problems(false); len(found) == 0 {
		t.Error("a check waits for what failed, or does not see it")
	}
	f.collectGarbage() // or the check at the end would find it
	if found := f.problems(false); len(found) > 0 {
		t.Errorf("after the collection: %v", found)
	}
}

func TestCheckWaitsForARemovalThatHasForgottenItsPlugin(t *testing.T) {
	f := newFixture(t)
	p := f.create("sample")
	release := make(chan struct{})
	f.units[p.ID].wg.Go(func() { <-release }) // something of it that takes long to end
	removed := make(chan error, 1)
	go func() { removed <- f.Remove(t.Context(), "sample", false) }()
	testutil.Eventually(t, time.Minute, func() error {
		if _, err := f.store.Get(t.Context(), p.ID); !errdefs.IsNotFound(err) {
			return fmt.Errorf("its record: %w", err)
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if report, err := f.Check(ctx, false); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("before its collection is asked for, a check finds %v, %v", report, err)
	}
	close(release)
	if err := <-removed; err != nil {
		t.Error(err)
	}
	if found := f.problems(false); len(found) > 0 {
		t.Errorf("after the collection: %v", found)
	}
}

func TestChecksFindNothingWhilePluginsAreRemoved(t *testing.T) {
	f := newFixture(t)
	const users, each = 2, 20
	for i := range users * each { // some share their content with the next
		p := f.create(fmt.Sprintf("p%d", i), func(c *outlet.Config) { c.Description = strconv.Itoa(i * 3 / 4) })
		// Something it had begun takes a while to end: the record is gone by then.
		u := f.units[p.ID]
		u.wg.Go(func() { <-u.ctx.Done(); <-time.After(30 * time.Millisecond) })
	}
	removed := make(chan struct{})
	var removing, checking sync.WaitGroup
	for user := range users {
		removing.Go(func() {
			for i := range each {
				if err := f.Remove(t.Context(), fmt.Sprintf("p%d", user*each+i), false); err != nil {
					t.Error(err)
				}
			}
		})
	}
	var checks atomic.Int64
	for range 3 {
		checking.Go(func() {
			for {
				report, err := f.Check(t.Context(), false)
				if err != nil || len(report.Problems) > 0 {
					t.Errorf("found %v, %v", report, err)
					return
				}
				checks.Add(1)
				select {
				case <-removed:
					return
				default:
				}
			}
		})
	}
	removing.Wait()
	close(removed)
	checking.Wait()
	t.Logf("%d checks beside %d removals", checks.Load(), users*each)
	f.clean()
}
