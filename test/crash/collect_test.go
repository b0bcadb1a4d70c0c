package crash

import (
	"context"
	"errors"
	"fmt"
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
	st, err := w.settle()
	if err != nil {
		t.Fatal(err)
	}
	w.stop()
	if left, err := w.unpacked(); err != nil || len(left) > 0 {
		t.Fatalf("the collection leaves %q, %v", left, err)
	}
	var visits []visit
	for i, p := range st.Points {
		// The first of them is that the create gives up, the others follow.
		if len(visits) > 0 || p.Op == "snapshot" && strings.HasPrefix(p.Subject, "remove unpack-") {
			for _, act := range []string{"before", "after"} {
				visits = append(visits, visit{failpoint.Order{Do: "arm", N: i + 1, Act: act}, p})
			}
		}
	}
	visits = sample(visits)
	orphans := make(chan int, len(visits))
	walk(t, visits, func(v visit) error {
		w := newWorld(t, s.dir(created))
		defer w.end()
		if err := begin(w); err != nil {
			return err
		}
		w.order(v.order)
		_ = again(w) // answered, or not any more
		if _, err := w.settle(); !errors.Is(err, errDead) {
			return fmt.Errorf("the daemon was not ended: %w", err)
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
	some := 0
	for n := range orphans {
		if n > 0 {
			some++
		}
	}
	if some == 0 {
		t.Error("no visit left anything for the next daemon")
	}
	t.Logf("killed %d times, %d times something was left", len(visits), some)
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
