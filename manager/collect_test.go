package manager

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/outletd/outlet/internal/rootfs"
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
