package pluginlog

import (
	"bufio"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A picker that is killed wherever it happens to be loses no line and takes
// none twice.
func TestKilledPickersLoseAndDoubleNothing(t *testing.T) {
	dir := logDir(t)
	p := newPicker(t)
	o := Options{Picker: p, MaxSize: 256 << 10, MaxFiles: 200}
	l := open(t, dir, o)
	stdout, stderr, err := l.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	const lines = 60_000
	cmd := role("writer", strconv.Itoa(lines), "40")
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = stdout.Close(), stderr.Close()
	written := make(chan error, 1)
	go func() { written <- cmd.Wait() }()
	kills := 0
	for done := false; !done; kills++ {
		killPicker(t, dir, time.Duration(kills*37%50)*time.Millisecond)
		select {
		case err := <-written:
			if err != nil {
				t.Fatal(err)
			}
			done = true
		default:
		}
	}
	l = open(t, dir, o)
	if err := l.Resume(); err != nil {
		t.Fatal(err)
	}
	if err := l.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	next := map[string]int{"stdout": 0, "stderr": 4}
	n := 0
	for _, e := range all(t, l) {
		i := next[e.Stream]
		if e.Line != numbered(i) {
			t.Fatalf("after %d kills line %d of %s is %.20q", kills, i, e.Stream, e.Line)
		}
		n++
		if e.Stream == "stderr" {
			next[e.Stream] = i + 5
		} else if next[e.Stream] = i + 1; i%5 == 3 {
			next[e.Stream] = i + 2
		}
	}
	if n != lines {
		t.Errorf("%d of %d lines are there", n, lines)
	}
	t.Logf("%d pickers were killed", kills)
}

// killPicker runs a picker, and kills it so long after it said it was ready.
func killPicker(t *testing.T, dir string, after time.Duration) {
	t.Helper()
	cmd := role("picker", dir)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		_ = cmd.Process.Kill()
		_, _ = io.Copy(io.Discard, out)
		t.Fatalf("the picker says %q, %v: %v\n%s", line, err, cmd.Wait(), stderr.String())
	}
	<-time.After(after)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Fatalf("the picker ended by itself\n%s", stderr.String())
	}
}
