package crash

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/storage"

	"github.com/outletd/outlet/internal/durable/failpoint"
)

// A create of what is there already gives up what it has unpacked, and the
// daemon collects that behind the back of whoever asked. Wherever it is killed
// in that, the first check of the next one finds nothing: it waits for what the
// start mends. (The walks look until they like what they see.)
func TestTheFirstCheckAfterAStartFindsNothingOfADeadCollection(t *testing.T) {
	s := newStages(t)
	again := func(w *world) error { return create(context.Background(), w, "again:latest", s.tar) }
	begin := func(w *world) error {
		if err := w.begin(true, failpoint.Order{}); err != nil {
			return err
		}
		if err := w.ready(); err != nil {
			return err
		}
		_, err := w.settle()
		return err
	}

	w := newWorld(t, s.dir(created))
	if err := begin(w); err != nil {
		t.Fatal(err)
	}
	w.order(failpoint.Order{Do: "reset"})
	if err := again(w); err != nil {
		t.Fatal(err)
	}
	givesUp := func(p failpoint.Point) bool {
		return p.Op == "snapshot" && strings.HasPrefix(p.Subject, "remove unpack-")
	}
	var st failpoint.State
	if err := eventually(patience, func() (err error) {
		if st, err = w.settle(); err == nil && !slices.ContainsFunc(st.Points, givesUp) {
			err = errors.New("nothing is collected")
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	w.stop()
	if left, err := w.unpacked(); err != nil || len(left) > 0 {
		t.Fatalf("the collection leaves %q, %v", left, err)
	}
	var visits []visit
	for i, p := range st.Points {
		// The first of them is that the create gives up, the others follow.
		if len(visits) > 0 || givesUp(p) {
			for _, act := range []string{"before", "after"} {
				visits = append(visits, visit{failpoint.Order{Do: "arm", N: i + 1, Act: act}, p})
			}
		}
	}
	visits = sample(visits)
	orphans := make(chan int, len(visits)) // of the visits that came to their point
	walk(t, visits, func(v visit) error {
		w := newWorld(t, s.dir(created))
		defer w.end()
		if err := begin(w); err != nil {
			return err
		}
		w.order(v.order)
		_ = again(w) // answered, or not any more
		switch st, err := w.settle(); {
		case err == nil && !st.Reached:
			return nil // it passed fewer points this time
		case err == nil:
			<-w.dead
		case !errors.Is(err, errDead):
			return err
		}
		w.kill()
		left, err := w.unpacked()
		if err != nil {
			return err
		}
		orphans <- len(left)
		if err := w.begin(false, failpoint.Order{}); err != nil {
			return err
		}
		if err := w.ready(); err != nil {
			return err
		}
		if err := w.clean(); err != nil {
			return fmt.Errorf("the first check finds: %w\n%s", err, w.lastLog())
		}
		w.stop()
		if left, err := w.unpacked(); err != nil || len(left) > 0 {
			return fmt.Errorf("the start leaves %q, %v", left, err) //nolint:errorlint // err may be nil
		}
		return nil
	})
	close(orphans)
	some, killed := 0, len(orphans)
	for n := range orphans {
		if n > 0 {
			some++
		}
	}
	if some == 0 {
		t.Error("no visit left anything for the next daemon")
	}
	if killed < len(visits)/2 {
		t.Errorf("the daemon came to %d of %d points", killed, len(visits))
	}
	t.Logf("killed %d times, %d times something was left", killed, some)
}

// unpacked are the snapshots being unpacked that the snapshotter knows. No
// daemon may run.
func (w *world) unpacked() (keys []string, err error) {
	ms, err := storage.NewMetaStore(w.path("lib/snapshots/overlayfs/metadata.db"))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, ms.Close()) }()
	return keys, ms.WithTransaction(context.Background(), false, func(ctx context.Context) error {
		return storage.WalkInfo(ctx, func(_ context.Context, info snapshots.Info) error {
			if strings.Contains(info.Name, "unpack-") {
				keys = append(keys, info.Name)
			}
			return nil
		})
	})
}
