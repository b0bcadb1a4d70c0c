package soak

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/outletd/outlet/client"
	"github.com/outletd/outlet/internal/testutil"
	"github.com/outletd/outlet/internal/testutil/daemontest"
)

func TestMain(m *testing.M) { os.Exit(testutil.Main(m)) }

// How many plugins there are: few where the test only shows that it works.
const (
	fewPlugins  = 6
	manyPlugins = 50
)

// patience is how long is waited for what takes a moment. It only passes where
// something is wrong.
const patience = time.Minute

// soak is a run: the daemon, and what must be true of it.
type soak struct {
	t       *testing.T
	d       *daemontest.Daemon
	c       *client.Client
	r       *rand.Rand
	tar     string
	plugins int
	// mortal says that the daemon is stopped and killed now and then.
	mortal bool
	models map[string]*model
	counts map[string]int
	past   map[string][]string // what was done to each plugin
	// printers print numbers all the time, and are killed now and then.
	printers []*printer
	ids      map[string]bool // of all plugins there ever were
}

// TestSoak runs for OUTLET_SOAK, or a few seconds. `make soak` sets it.
//
// For two thirds of that the daemon is killed and stopped too. Then there is one
// that goes on: with nothing in it, it must take in the end what it took in the
// beginning.
func TestSoak(t *testing.T) {
	length, plugins := 5*time.Second, fewPlugins
	if v := os.Getenv("OUTLET_SOAK"); v != "" {
		var err error
		if length, err = time.ParseDuration(v); err != nil {
			t.Fatal(err)
		}
		plugins = manyPlugins
	}
	s := newSoak(t, plugins)

	s.mortal = true
	s.startPrinters()
	s.run(length * 2 / 3)
	s.tearDown()

	s.mortal = false
	s.restart()
	// Once around, so that what a daemon opens once is open.
	s.startPrinters()
	s.around()
	s.tearDown()
	before := s.settledUsage()
	s.startPrinters()
	s.run(length / 3)
	s.tearDown()
	s.checkUsage(before)
	t.Logf("steps: %v", s.counts)
}

func newSoak(t *testing.T, plugins int) *soak {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if v := os.Getenv("OUTLET_SEED"); v != "" {
		var err error
		if seed, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("OUTLET_SEED=%d", seed)
	s := &soak{
		t: t, d: daemontest.Start(t), r: rand.New(rand.NewPCG(seed, 0)), plugins: plugins,
		models: make(map[string]*model), counts: make(map[string]int),
		past: make(map[string][]string), ids: make(map[string]bool),
	}
	s.tar = filepath.Join(t.TempDir(), "dirvol.tar")
	if out, err := exec.Command("tar", "-C", daemontest.Dirvol(t), "-cf", s.tar, ".").CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	var err error
	if s.c, err = client.New(client.Options{Host: s.d.Host()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.c.Close() })
	return s
}

// run does steps for so long, and looks after each.
func (s *soak) run(length time.Duration) {
	s.t.Helper()
	for end := time.Now().Add(length); time.Now().Before(end); {
		s.step(fmt.Sprintf("plugin%d", s.r.IntN(s.plugins)))
		s.checkAll()
	}
}

// restart stops the daemon and starts another.
func (s *soak) restart() {
	s.t.Helper()
	s.d.Stop()
	s.start()
}

// start starts the daemon that was stopped or killed, and checks it at once:
// whatever there was, a check waits for what a start mends.
func (s *soak) start() {
	s.t.Helper()
	s.c.Close() // the connections to the last one
	s.d.Start()
	s.check()
}

// check compares what the daemon keeps with what is there.
func (s *soak) check() {
	s.t.Helper()
	if r := s.d.Outlet("system", "check"); r.Code != 0 {
		s.t.Fatalf("after %v a check finds:\n%s%s", s.counts, r.Out, r.Err)
	}
}
