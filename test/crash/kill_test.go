package crash

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outletd/outlet/internal/durable/failpoint"
)

// tarOf is an archive of the files.
func tarOf(t testing.TB, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range []string{"config.json", "rootfs/x"} {
		if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(files[name])), Mode: 0o755}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(files[name])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// quiet is for how many looks in a row nothing must have happened for an
// operation to be over, 5 ms apart. They are counted and not timed: where the
// processor is busy with others, the daemon may do nothing for any time, but it
// has to run to be looked at.
const quiet = 12

// settle waits until the daemon does nothing any more, and returns its points.
func (w *world) settle() (failpoint.State, error) {
	last, same := -1, 0
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		select {
		case <-w.dead:
			return failpoint.State{}, errDead
		default:
		}
		st, err := failpoint.Send(w.path("c"), failpoint.Order{Do: "look"})
		if err != nil {
			continue // it is ending, or has not begun
		}
		if same++; len(st.Points) != last || st.Busy > 0 {
			last, same = len(st.Points), 0
		} else if same >= quiet {
			return st, nil
		}
	}
	return failpoint.State{}, errors.New("the daemon does not come to rest")
}

// do runs the operation in a world at the stage before it, with the order, and
// returns what the operation said and what was passed. errDead: the daemon has
// ended meanwhile.
func (o operation) do(w *world, order failpoint.Order) (opErr error, st failpoint.State, err error) { // two errors
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if o.boot {
		if err := w.begin(true, order); err != nil {
			return nil, st, err
		}
		opErr = w.ready()
	} else {
		if err := w.begin(true, failpoint.Order{}); err != nil {
			return nil, st, err
		}
		if err := w.ready(); err != nil {
			return nil, st, err
		}
		if err := w.expect(o.before); err != nil {
			return nil, st, fmt.Errorf("before %s: %w", o.name, err)
		}
		if _, err := w.settle(); err != nil {
			return nil, st, err
		}
		w.order(order)
		opErr = o.run(ctx, w)
	}
	st, err = w.settle()
	return opErr, st, err
}

// count runs the operation once and returns the points it passes.
func (o operation) count(t *testing.T, s *stages) []failpoint.Point {
	t.Helper()
	points, err := o.rehearse(t, s)
	if err != nil {
		t.Fatal(err)
	}
	return points
}

// rehearse is count that returns what goes wrong.
func (o operation) rehearse(t *testing.T, s *stages) ([]failpoint.Point, error) {
	t.Helper()
	w := o.world(t, s, s.dir(o.from))
	defer w.end()
	opErr, st, err := o.do(w, failpoint.Order{Do: "reset"})
	if err := errors.Join(opErr, err); err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", o.name, err, w.lastLog())
	}
	if err := w.expect(o.after); err != nil {
		return nil, fmt.Errorf("after %s: %w\n%s", o.name, err, w.lastLog())
	}
	if err := w.raze(); err != nil {
		return nil, fmt.Errorf("after %s: %w\n%s", o.name, err, w.lastLog())
	}
	return st.Points, nil
}

// visit is one run of a walk: something happens at one point.
type visit struct {
	order failpoint.Order
	point failpoint.Point
}

func (v visit) String() string {
	s := fmt.Sprintf("%s %d (%s in %s, %s)", v.order.Act, v.order.N, v.point.Op, v.point.Site, v.point.Subject)
	if v.order.Errno != 0 {
		s += " " + unix.ErrnoName(unix.Errno(v.order.Errno))
	}
	return s
}

// walk makes the visits, some of them at the same time.
func walk(t *testing.T, visits []visit, f func(visit) error) {
	t.Helper()
	room := make(chan struct{}, 3)
	var wg sync.WaitGroup
	for _, v := range visits {
		room <- struct{}{}
		wg.Go(func() { // each its own: what is fatal ends it
			defer func() { <-room }()
			if err := f(v); err != nil {
				t.Errorf("%s:\n%v", v, err)
			}
		})
	}
	wg.Wait()
}

// kills are the visits of the walk that ends the daemon.
func kills(points []failpoint.Point) []visit {
	var l []visit
	for i, p := range points {
		l = append(l, visit{failpoint.Order{Do: "arm", N: i + 1, Act: "before"}, p})
		if thorough() {
			l = append(l, visit{failpoint.Order{Do: "arm", N: i + 1, Act: "during", Delay: p.Took / 2}, p})
		}
		if thorough() {
			l = append(l, visit{failpoint.Order{Do: "arm", N: i + 1, Act: "after"}, p})
		}
	}
	l = sample(l)
	// And once when all is done and was answered.
	return append(l, visit{failpoint.Order{Do: "arm", N: len(points) + 1000, Act: "before"}, failpoint.Point{Op: "after", Site: "the answer"}})
}

// sample leaves some visits out of a long walk, unless all are wanted: those
// that are alike in what is called, and from where.
func sample(l []visit) []visit {
	if thorough() {
		return l
	}
	seen := map[string]int{}
	var some []visit
	for i, v := range l {
		key := v.point.Op + v.point.Site + v.order.Act
		if seen[key]++; seen[key] == 1 || i == len(l)-1 {
			some = append(some, v)
		}
	}
	return some
}

// only limits the operations to one, for work on it.
func only(name string) bool {
	want := os.Getenv("OUTLET_CRASH_OP")
	return want == "" || want == name
}

func TestNothingIsLostOrLeftWhenTheDaemonIsKilled(t *testing.T) {
	s := newStages(t)
	s.each(t, s.operations(), func(t *testing.T, o operation) {
		points := o.count(t, s)
		visits := kills(points)
		began := time.Now()
		walk(t, visits, func(v visit) error { return o.kill(t, s, v) })
		t.Logf("%s: %d points, killed %d times in %v", o.name, len(points), len(visits), time.Since(began).Round(time.Millisecond))
	})
}

// kill makes one visit: the daemon ends, another one starts, and what is there
// must be what was or what was to be.
func (o operation) kill(t *testing.T, s *stages, v visit) error {
	w := o.world(t, s, s.dir(o.from))
	defer w.end()
	opErr, _, err := o.do(w, v.order)
	if err != nil && !errors.Is(err, errDead) {
		return fmt.Errorf("%w\n%s", err, w.lastLog())
	}
	w.kill()
	want := []view{o.after}
	if opErr != nil { // not acknowledged
		want = append(want, o.before)
	}
	if err := w.comeBack(want...); err != nil {
		return err
	}
	if err := w.raze(); err != nil {
		return fmt.Errorf("%w\n%s", err, w.lastLog())
	}
	return nil
}
