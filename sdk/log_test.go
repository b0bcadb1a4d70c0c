//go:build unix

package sdk_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/outletd/outlet/capability/logdriver"
	"github.com/outletd/outlet/internal/testutil"
	"github.com/outletd/outlet/plugins"
	"github.com/outletd/outlet/sdk"
)

// pipe makes a FIFO and opens it as hosts do.
func pipe(t *testing.T) (string, *os.File) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return path, f
}

// clientOf calls the plugin as our own hosts do.
func clientOf(t *testing.T, r *running) *logdriver.Client {
	t.Helper()
	c, err := plugins.NewClientWithOptions(r.addr, plugins.ClientOptions{RetryBudget: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return logdriver.New(c.Caller(), logdriver.Options{})
}

func (l *memoryLog) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	for _, e := range l.entries {
		b.Write(e.Line)
		b.WriteByte(' ')
	}
	return b.String()
}

func TestLogsAreReadToTheEndWhenThePluginEnds(t *testing.T) {
	log := new(memoryLog)
	r := start(t, sdk.Plugin{Log: log}, inDir(testutil.TempDir(t)))
	path, f := pipe(t)
	c := clientOf(t, r)
	info := logdriver.Info{ContainerID: "c"}
	for range 2 { // a host that lost the answer says it again
		if err := c.StartLogging(t.Context(), path, info); err != nil {
			t.Fatal(err)
		}
	}
	enc := logdriver.NewEncoder(f)
	var want strings.Builder
	for i := range 500 {
		if err := enc.Encode(&logdriver.Entry{Source: "stdout", Line: fmt.Append(nil, i)}); err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(&want, i, " ")
	}
	if err := r.end(); err != nil {
		t.Error(err)
	}
	if got := log.text(); got != want.String() || log.closed != 1 {
		t.Errorf("%d bytes of %d were kept, closed %d times", len(got), want.Len(), log.closed)
	}
}

func TestAHostThatDiesEndsItsLogs(t *testing.T) {
	log := new(memoryLog)
	r := start(t, sdk.Plugin{Log: log}, inDir(testutil.TempDir(t)))
	path, f := pipe(t)
	c := clientOf(t, r)
	if err := c.StartLogging(t.Context(), path, logdriver.Info{ContainerID: "c"}); err != nil {
		t.Fatal(err)
	}
	entry := logdriver.AppendEntry(nil, &logdriver.Entry{Source: "stdout", Line: []byte("whole")})
	if _, err := f.Write(append(entry, entry[:7]...)); err != nil { // and a half
		t.Fatal(err)
	}
	f.Close()
	testutil.Eventually(t, time.Minute, func() error {
		log.mu.Lock()
		defer log.mu.Unlock()
		if log.closed != 1 {
			return errors.New("the sink is not closed")
		}
		return nil
	})
	if got := log.text(); got != "whole " {
		t.Errorf("kept %q", got)
	}
	// The next daemon may end what it does not know.
	if err := c.StopLogging(t.Context(), path); err != nil {
		t.Error(err)
	}
}

func TestWhatIsNoFIFOIsRefused(t *testing.T) {
	r := start(t, sdk.Plugin{Log: new(memoryLog)}, inDir(testutil.TempDir(t)))
	c := clientOf(t, r)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, file + ".none"} {
		if err := c.StartLogging(t.Context(), path, logdriver.Info{ContainerID: "c"}); err == nil {
			t.Errorf("%s is read", path)
		}
	}
	// After a failure the same file can be started.
	path, _ := pipe(t)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(path, file); err != nil {
		t.Fatal(err)
	}
	if err := c.StartLogging(t.Context(), file, logdriver.Info{ContainerID: "c"}); err != nil {
		t.Error(err)
	}
}

// spoilt is a log driver whose sink panics, and whose files cannot be read to
// the end.
type spoilt struct{ *memoryLog }

func (s spoilt) StartLogging(context.Context, logdriver.Info) (sdk.LogSink, error) { return s, nil }

func (s spoilt) Log(e *logdriver.Entry) error {
	if string(e.Line) == "bad" {
		panic("bad line")
	}
	return s.memoryLog.Log(e)
}

func (s spoilt) ReadLogs(_ context.Context, _ logdriver.Info, c logdriver.ReadConfig, emit func(*logdriver.Entry) error) error {
	if c.Tail != 0 {
		if err := emit(&logdriver.Entry{Source: "stdout", TimeNano: 1, Line: []byte("first")}); err != nil {
			return err
		}
	}
	return errors.New("the disk is gone")
}

func TestASinkThatPanicsLosesOneEntry(t *testing.T) {
	s := spoilt{new(memoryLog)}
	r := start(t, sdk.Plugin{Log: s}, inDir(testutil.TempDir(t)))
	path, f := pipe(t)
	c := clientOf(t, r)
	if err := c.StartLogging(t.Context(), path, logdriver.Info{ContainerID: "c"}); err != nil {
		t.Fatal(err)
	}
	enc := logdriver.NewEncoder(f)
	for _, line := range []string{"one", "bad", "two"} {
		if err := enc.Encode(&logdriver.Entry{Source: "stdout", Line: []byte(line)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.StopLogging(t.Context(), path); err != nil {
		t.Error(err)
	}
	if got := s.text(); got != "one two " {
		t.Errorf("kept %q", got)
	}
}

func TestAStreamThatFailsIsCutOff(t *testing.T) {
	r := start(t, sdk.Plugin{Log: spoilt{new(memoryLog)}}, inDir(testutil.TempDir(t)))
	c := clientOf(t, r)
	if _, err := c.ReadLogs(t.Context(), logdriver.Info{ContainerID: "c"}, logdriver.ReadConfig{Tail: 0}); err == nil || !strings.Contains(err.Error(), "the disk is gone") {
		t.Errorf("before the first entry: %v", err)
	}
	stream, err := c.ReadLogs(t.Context(), logdriver.Info{ContainerID: "c"}, logdriver.ReadConfig{Tail: -1})
	if err != nil {
		// The server may have cut it off before the head was read.
		return
	}
	defer stream.Close()
	var e logdriver.Entry
	for err == nil {
		err = stream.Next(&e)
	}
	if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the stream ends as if it were complete: %v", err)
	}
}

func TestFollowersEndWithThePlugin(t *testing.T) {
	r := start(t, sdk.Plugin{Log: readableLog{new(memoryLog)}}, inDir(testutil.TempDir(t)))
	conn, err := net.Dial("unix", strings.TrimPrefix(r.addr, "unix://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body, err := json.Marshal(logdriver.ReadLogsRequest{Info: logdriver.Info{ContainerID: "c"}, Config: logdriver.ReadConfig{Tail: -1, Follow: true}})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodPost, "http://p/LogDriver.ReadLogs", strings.NewReader(string(body)))
	if err != nil {
		t.Fatal(err)
	}
	if err := req.Write(conn); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err != nil { // it follows, although nothing was printed
		t.Fatal(err)
	}
	begin := time.Now()
	if err := r.end(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took >= sdk.DefaultShutdownTimeout {
		t.Errorf("the end took %s: it waited for a stream", took)
	}
}
