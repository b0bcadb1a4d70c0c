package crash

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/durable/failpoint"
)

// failures are the visits of the walk that has calls fail: each with one of the
// errors, or in a thorough walk with each.
func failures(points []failpoint.Point) []visit {
	errnos := []unix.Errno{unix.ENOSPC, unix.EIO, unix.EMFILE}
	var l []visit
	for i, p := range points {
		for j, errno := range errnos {
			if thorough() || j == i%len(errnos) {
				l = append(l, visit{failpoint.Order{Do: "arm", N: i + 1, Act: "fail", Errno: int(errno)}, p})
			}
		}
	}
	return sample(l)
}

func TestAnErrorLeavesWhatWasOrIsOvercome(t *testing.T) {
	s := newStages(t)
	list := slices.DeleteFunc(s.operations(), func(o operation) bool { return o.boot })
	s.each(t, list, func(t *testing.T, o operation) {
		points := o.count(t, s)
		visits := failures(points)
		began := time.Now()
		walk(t, visits, func(v visit) error { return o.fail(t, s, v) })
		t.Logf("%s: %d points, failed %d times in %v", o.name, len(points), len(visits), time.Since(began).Round(time.Millisecond))
	})
}

// fail makes one visit: a call fails, and either the operation does and nothing
// has changed, or it does not. From there on the same daemon must work.
func (o operation) fail(t *testing.T, s *stages, v visit) error {
	w := o.world(t, s, s.dir(o.from))
	defer w.end()
	opErr, st, err := o.do(w, v.order)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, w.lastLog())
	}
	want := o.after
	if opErr != nil {
		want = o.before
	}
	report := func(err error) error {
		return fmt.Errorf("%w\nafter: %v, reached %v\n%s", err, opErr, st.Reached, w.lastLog()) //nolint:errorlint // opErr may be nil
	}
	w.order(failpoint.Order{Do: "reset"}) // it may have passed fewer points this time
	if err := w.expect(want); err != nil {
		return report(err)
	}
	if err := w.raze(); err != nil {
		return report(err)
	}
	return nil
}

// A call that hangs holds up its own operation and nothing else: others are
// answered, a check with repair meanwhile destroys nothing of it, and once the
// call goes on the operation succeeds.
func TestWhatHangsHoldsUpNothingElse(t *testing.T) {
	s := newStages(t)
	list := slices.DeleteFunc(s.operations(), func(o operation) bool { return o.boot })
	s.each(t, list, func(t *testing.T, o operation) {
		points := o.count(t, s)
		var visits []visit
		for i, p := range points {
			visits = append(visits, visit{failpoint.Order{Do: "arm", N: i + 1, Act: "stop"}, p})
		}
		visits = sample(visits)
		began := time.Now()
		walk(t, visits, func(v visit) error { return o.hang(t, s, v) })
		t.Logf("%s: %d points, stopped %d times in %v", o.name, len(points), len(visits), time.Since(began).Round(time.Millisecond))
	})
}

func (o operation) hang(t *testing.T, s *stages, v visit) error {
	w := o.world(t, s, s.dir(o.from))
	defer w.end()
	w.start(true)
	if err := w.expect(o.before); err != nil {
		return err
	}
	if _, err := w.settle(); err != nil {
		return err
	}
	w.order(v.order)
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- o.run(ctx, w) }() // ends with ctx
	err := eventually(5*time.Second, func() error {
		st, err := failpoint.Send(w.path("c"), failpoint.Order{Do: "look"})
		if err == nil && !st.Stopped {
			err = errors.New("the point was not reached")
		}
		return err
	})
	if err == nil {
		err = w.others(ctx)
	}
	w.order(failpoint.Order{Do: "reset"}) // if it was not reached
	w.order(failpoint.Order{Do: "go"})
	if opErr := <-done; opErr != nil {
		return fmt.Errorf("it fails: %w\n%s", opErr, w.lastLog())
	}
	if err != nil && err.Error() != "the point was not reached" {
		return fmt.Errorf("%w\n%s", err, w.lastLog())
	}
	if err := w.expect(o.after); err != nil {
		return fmt.Errorf("%w\n%s", err, w.lastLog())
	}
	if err := w.raze(); err != nil {
		return fmt.Errorf("%w\n%s", err, w.lastLog())
	}
	return nil
}

// others does what must be possible while something hangs.
func (w *world) others(ctx context.Context) error {
	// Nothing goes on until it is over: what waits for what hangs waits for ever.
	long, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if _, err := w.c.List(long, outlet.ListFilter{}); err != nil {
		return fmt.Errorf("list meanwhile: %w", err)
	}
	limit := 300 * time.Millisecond
	if w.mutant() {
		limit = 3 * time.Second // what it would remove it has to come to
	}
	short, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	// It waits for a collection that hangs itself; it need not come to an end,
	// but must not remove what the operation is about to use.
	if _, err := w.c.Check(short, true); err != nil && short.Err() == nil {
		return fmt.Errorf("repair meanwhile: %w", err)
	}
	return nil
}
