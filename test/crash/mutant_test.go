package crash

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/outletd/outlet/internal/durable/failpoint"
	"github.com/outletd/outlet/internal/testutil"
)

// mutant is the daemon without one thing that it needs.
type mutant struct {
	// out is what is left out: see failpoint.EnvMutant.
	out string
	// what it is for.
	what string
	// op is the operation that cannot do without, and walk what finds it out.
	op   string
	walk string // "kill", "fail", "stop", "power", "disk"
}

// mutants are six renames and leases, and five syncs, two of them twice. What is not here is not
// proven to be needed: the syncs of a new root, for example, are not while the
// first create syncs the whole file system.
var mutants = []mutant{
	{"lease:store.(*Artifact).context", "keeps what is being created from a collection", "create", "stop"},
	{"lease:store.(*Store).putLease", "keeps what a record names", "create", "kill"},
	{"lease:store.(*Artifact).Release", "gives back what a create that fails kept", "create", "fail"},
	{"lease:store.(*Store).dropOperations", "gives back what a create that was cut off kept", "create", "kill"},
	{"lease:store.(*Store).Delete", "gives back what a record kept", "remove", "kill"},
	{"sync:database", "transactions", "set", "power"},
	{"sync:database", "transactions", "set", "disk"},
	{"sync:rootfs.Sync", "layers and root filesystems", "create", "power"},
	{"sync:rootfs.Sync", "layers and root filesystems", "create", "disk"},
	{"rename:daemon.daemonID", "the daemon's id", "tell the daemon's id", "kill"},
	{"sync:daemon.daemonID", "the daemon's id and its name", "tell the daemon's id", "power"},
	{"sync:store.(*Store).CreatePluginDir", "the directory of a plugin", "first use", "power"},
	{"sync:manager.(*unit).prepareDirs", "the propagated mount in it", "first use", "power"},
}

// TestEveryMutantIsFound takes them out one by one: each must make a walk fail,
// or either the walk sees nothing or the thing is not needed. Without `make
// mutants` it takes two.
func TestEveryMutantIsFound(t *testing.T) {
	list := mutants
	if os.Getenv("OUTLET_MUTANTS") == "" {
		list = slices.DeleteFunc(slices.Clone(list), func(m mutant) bool {
			return m.out != "lease:store.(*Store).putLease" && (m.out != "sync:database" || m.walk != "power")
		})
	}
	testutil.Need(t, testutil.Fuse, testutil.Loop)
	plain := newStages(t)
	native := newStages(t, "--snapshotter", "native")
	d := &disks{images: make(map[stage]string)}
	var table strings.Builder
	tw := tabwriter.NewWriter(&table, 0, 1, 2, ' ', 0)
	fmt.Fprintln(tw, "LEFT OUT\tWHAT IT IS FOR\tWALK\tFOUND")
	for _, m := range list {
		s := plain
		if m.walk == "power" {
			s = native
		}
		found, err := m.find(t, s, d)
		if err != nil {
			t.Fatal(err)
		}
		if found == "" {
			t.Errorf("%s can be left out, and the walk over %s sees nothing", m.out, m.op)
			found = "no"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s, %s\t%s\n", m.out, m.what, m.op, m.walk, found)
	}
	if err := tw.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", table.String())
}

// find walks over the operation until something is wrong, and returns where;
// "" if nothing is.
func (m mutant) find(t *testing.T, s *stages, d *disks) (string, error) {
	t.Helper()
	var o operation
	for _, candidate := range s.powerOperations() {
		if candidate.name == m.op {
			o = candidate
		}
	}
	if o.name == "" {
		return "", fmt.Errorf("there is no operation %q", m.op)
	}
	points, err := o.rehearse(t, s)
	if err != nil {
		return "", fmt.Errorf("without a mutant: %w", err)
	}
	// The daemons of the walk are mutants, those that make stages are not.
	s.env = []string{failpoint.EnvMutant + "=" + m.out}
	defer func() { s.env = nil }()
	if m.walk != "power" && m.walk != "disk" {
		if _, err := o.rehearse(t, s); err != nil {
			return "at once", nil // that is what is looked for
		}
	}
	visits := kills(points)
	if m.walk == "fail" {
		visits = failures(points)
	}
	if m.walk == "power" || m.walk == "disk" {
		// From the end: what was answered must be there. A disk may have got it
		// in time without being told to, now and then.
		slices.Reverse(visits)
		visits = slices.Insert(visits, 0, visits[0], visits[0])
	}
	for _, v := range visits {
		switch m.walk {
		case "fail":
			err = o.fail(t, s, v)
		case "kill":
			err = o.kill(t, s, v)
		case "stop":
			v.order.Act = "stop"
			if v.order.N <= len(points) {
				err = o.hang(t, s, v)
			}
		case "power":
			if err = o.powerCut(t, s, v, false); err == nil {
				err = o.powerCut(t, s, v, true)
			}
		case "disk":
			err = o.diskCut(t, s, d, v)
		}
		if err != nil {
			first, _, _ := strings.Cut(err.Error(), "\n")
			return fmt.Sprintf("%s %s %s: %.60s", v.order.Act, v.point.Op, v.point.Site, first), nil
		}
	}
	return "", nil
}
