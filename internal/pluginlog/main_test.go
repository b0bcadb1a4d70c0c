package pluginlog

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/testutil"
)

// envRole makes the test binary play another part.
const envRole = "OUTLET_PLUGINLOG_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(envRole) {
	case "writer":
		writer()
	case "picker":
		pickUntilKilled()
	default:
		os.Exit(testutil.Main(m))
	}
}

// role returns the test binary in another part, with arguments.
func role(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), envRole+"="+name)
	return cmd
}

// writer prints numbered lines of differing lengths: how many is its first
// argument; after each so many as its second argument says it pauses a
// millisecond.
func writer() {
	n, _ := strconv.Atoi(os.Args[1])
	every, _ := strconv.Atoi(os.Args[2])
	for i := range n {
		out := os.Stdout
		if i%5 == 4 {
			out = os.Stderr
		}
		if _, err := out.WriteString(numbered(i) + "\n"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if every > 0 && i%every == 0 {
			time.Sleep(time.Millisecond)
		}
	}
}

func numbered(i int) string { return fmt.Sprintf("%d %s", i, strings.Repeat("x", i*7%300)) }

// pickUntilKilled is a daemon: it goes on with the log in its argument and says
// so. A line on its standard input begins a drain.
func pickUntilKilled() {
	p, err := NewPicker(nil)
	if err != nil {
		panic(err)
	}
	l, err := Open(Options{Dir: os.Args[1], Picker: p, MaxSize: 256 << 10, MaxFiles: 200})
	if err != nil {
		panic(err)
	}
	if err := l.Resume(); err != nil {
		panic(err)
	}
	fmt.Println("ready")
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
}

func newPicker(t testing.TB) *Picker {
	t.Helper()
	p, err := NewPicker(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// open opens a log in dir, with a picker of its own unless o names one, and
// closes it when the test ends.
func open(t testing.TB, dir string, o Options) *Log {
	t.Helper()
	if o.Picker == nil {
		o.Picker = newPicker(t)
	}
	o.Dir = dir
	l, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// begin begins a start whose files are closed when the test ends.
func begin(t testing.TB, l *Log) (stdout, stderr *os.File) {
	t.Helper()
	stdout, stderr, err := l.Begin()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stdout.Close(); _ = stderr.Close() })
	return stdout, stderr
}

func write(t testing.TB, f *os.File, text string) {
	t.Helper()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// all returns what the log holds.
func all(t testing.TB, l *Log) []outlet.LogEntry { return read(t, l, outlet.LogOptions{Tail: -1}) }

func read(t testing.TB, l *Log, o outlet.LogOptions) []outlet.LogEntry {
	t.Helper()
	var entries []outlet.LogEntry
	if err := l.Read(t.Context(), o, func(e outlet.LogEntry) error { entries = append(entries, e); return nil }); err != nil {
		t.Fatal(err)
	}
	return entries
}

// words are entries without their times: the first letter of the stream, the
// line, and a + if it goes on.
func words(entries []outlet.LogEntry) []string {
	var out []string
	for _, e := range entries {
		s := map[string]string{"stdout": "o ", "stderr": "e ", "outlet": "n "}[e.Stream] + e.Line
		if e.Partial {
			s += "+"
		}
		out = append(out, s)
	}
	return out
}

// logDir returns the path of a log that does not exist yet.
func logDir(t testing.TB) string { return t.TempDir() + "/log" }
