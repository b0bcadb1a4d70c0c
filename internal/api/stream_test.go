package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/testutil"
)

// open starts a stream and returns once its headers are there.
func (g *rig) open(ctx context.Context, target string, header http.Header) *http.Response {
	g.t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://d"+target, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	req.Header = header
	res, err := g.client.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { _ = res.Body.Close() })
	return res
}

func (g *rig) publish(action string) {
	g.events.Publish(outlet.Message{Type: "plugin", Action: action, Actor: outlet.Actor{ID: id(1), Attributes: map[string]string{"name": "foo/bar:latest"}}})
}

func TestEventsSpeakWhatTheClientAsksFor(t *testing.T) {
	g := newRig(t)
	for name, c := range map[string]struct {
		accept []string
		want   string
	}{
		"nothing":                        {nil, typeJSON},
		"anything":                       {[]string{"*/*"}, typeJSON},
		"any application":                {[]string{"application/*"}, typeJSON},
		"plain JSON":                     {[]string{"application/json"}, typeJSON},
		"jsonl":                          {[]string{"application/jsonl"}, typeJSONL},
		"ndjson":                         {[]string{"text/html, application/x-ndjson;q=0.1"}, typeNDJSON},
		"json-seq":                       {[]string{"application/json-seq"}, typeJSONSeq},
		"three lines as current clients": {[]string{"application/jsonl", "application/x-ndjson;q=0.9", "application/json-seq;q=0.5"}, typeJSONL},
		"the one liked most":             {[]string{"application/jsonl;q=0.1", "application/json-seq"}, typeJSONSeq},
		"ties by order":                  {[]string{"application/json-seq, application/x-ndjson"}, typeNDJSON},
		"one that is excluded":           {[]string{"application/jsonl;q=0"}, typeJSON},
		"a quality that is none":         {[]string{"application/jsonl;q=x"}, typeJSON},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			// The headers come although there is no event.
			res := g.open(ctx, "/events", http.Header{"Accept": c.accept})
			if got := res.Header.Get("Content-Type"); got != c.want || res.StatusCode != 200 {
				t.Fatalf("%d %q", res.StatusCode, got)
			}
			g.publish("<a&b>")
			line, err := bufio.NewReader(res.Body).ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			line, isSeq := strings.CutPrefix(line, "\x1e")
			if isSeq != (c.want == typeJSONSeq) {
				t.Errorf("record separator: %v", isSeq)
			}
			var m outlet.Message
			if err := json.Unmarshal([]byte(line), &m); err != nil || m.Action != "<a&b>" || !strings.Contains(line, `"Action":"<a&b>"`) {
				t.Errorf("%q, %v", line, err)
			}
			if got := m.TimeNano / 1e9; got != m.Time {
				t.Errorf("times differ: %s", line)
			}
		})
	}
}

func TestEventsAreFilteredAndEndAtTheirTime(t *testing.T) {
	g := newRig(t)
	for _, action := range []string{"enable", "disable"} {
		g.publish(action)
	}
	filters := url.QueryEscape(`{"event":{"disable":true},"plugin":{"foo":true},"whatever":{"x":true}}`)
	until := float64(time.Now().Add(300*time.Millisecond).UnixNano()) / 1e9
	a := g.do("GET", fmt.Sprintf("/events?since=1&until=%.9f&filters=%s", until, filters), "", "")
	if a.status != 200 || strings.Count(a.body, "\n") != 1 || !strings.Contains(a.body, `"disable"`) {
		t.Errorf("%v", a)
	}
	if now := float64(time.Now().UnixNano()) / 1e9; now < until {
		t.Error("it ended early")
	}
	if a := g.do("GET", "/events?until=1", "", ""); a.status != 200 || a.body != "" {
		t.Errorf("a time without events: %v", a)
	}
}

// stick starts a stream of events and brings it to where its handler waits for
// a client that does not read.
func (g *rig) stick() *http.Response {
	g.t.Helper()
	res := g.open(g.t.Context(), "/events", nil)
	g.publish(strings.Repeat("x", 4<<20)) // fits no socket
	if _, err := io.ReadFull(res.Body, make([]byte, 1)); err != nil {
		g.t.Fatal(err)
	}
	return res
}

func TestEventsOfAStoppedReader(t *testing.T) {
	g := newRig(t)
	res := g.stick()
	for range 2000 {
		g.publish("x")
	}
	if n := g.events.Subscribers(); n != 1 {
		t.Fatalf("after 2000 events there are %d subscribers", n)
	}
	for range 2000 {
		g.publish("x")
	}
	if n := g.events.Subscribers(); n != 0 {
		t.Fatalf("after 4000 events there are %d subscribers", n)
	}
	testutil.Eventually(t, time.Minute, func() error {
		g.conns.mu.Lock()
		defer g.conns.mu.Unlock()
		if n := len(g.conns.open); n != 0 {
			return fmt.Errorf("%d connections are open", n)
		}
		return nil
	})
	b, err := io.ReadAll(res.Body)
	if !errors.Is(err, io.ErrUnexpectedEOF) || len(b) == 0 {
		t.Errorf("the reader who goes on sees %d bytes and %v", len(b), err)
	}
}

func TestShutdownEndsStreams(t *testing.T) {
	g := newRig(t)
	events := g.open(t.Context(), "/events", nil)
	g.plugins.logs.set(func(ctx context.Context, emit func(outlet.LogEntry) error) error {
		if err := emit(outlet.LogEntry{Stream: "stdout", Line: "hello"}); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	})
	logs := g.open(t.Context(), "/outlet/v1/plugins/logs?plugin=foo/bar&follow=1", nil)
	done := make(chan error, 1)
	go func() { done <- g.Shutdown(t.Context()) }()
	for name, res := range map[string]*http.Response{"events": events, "logs": logs} {
		if _, err := io.ReadAll(res.Body); err != nil {
			t.Errorf("%s ended with %v", name, err)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestShutdownEndsAStreamThatNobodyReads(t *testing.T) {
	g := newRig(t)
	g.stick()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := g.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}

func TestShutdownCutsWhatDoesNotEnd(t *testing.T) {
	g := newRig(t)
	running := make(chan struct{})
	release := make(chan struct{})
	g.plugins.hook.set(func(context.Context, string) error {
		close(running)
		<-release
		return nil
	})
	c := g.dial()
	if _, err := io.WriteString(c, "POST /plugins/foo/bar/enable HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-running
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := g.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is still open")
	}
	close(release)
}

func TestLogs(t *testing.T) {
	g := newRig(t)
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	emitTwo := func(_ context.Context, emit func(outlet.LogEntry) error) error {
		return errors.Join(
			emit(outlet.LogEntry{Stream: "stdout", Time: at, Line: "<one>"}),
			emit(outlet.LogEntry{Stream: "stderr", Time: at, Line: "two", Partial: true}))
	}
	const two = `{"stream":"stdout","time":"2026-01-02T03:04:05.000000006Z","line":"<one>"}` + "\n" +
		`{"stream":"stderr","time":"2026-01-02T03:04:05.000000006Z","line":"two","partial":true}` + "\n"
	for name, c := range map[string]struct {
		query  string
		logs   func(context.Context, func(outlet.LogEntry) error) error
		status int
		typ    string
		body   string
	}{
		"lines":   {"", emitTwo, 200, typeJSONL, two},
		"nothing": {"", func(context.Context, func(outlet.LogEntry) error) error { return nil }, 200, typeJSONL, ""},
		"an error before the first line": {"", func(context.Context, func(outlet.LogEntry) error) error {
			return outlet.Errorf(errdefs.ErrUnavailable, "no log")
		}, 503, typeJSON, `{"message":"no log"}` + "\n"},
		"an error after the first line": {"", func(ctx context.Context, emit func(outlet.LogEntry) error) error {
			return errors.Join(emitTwo(ctx, emit), errors.New("torn"))
		}, 200, typeJSONL, two + `{"error":"torn"}` + "\n"},
		"an error while following": {"&follow=1", func(context.Context, func(outlet.LogEntry) error) error {
			return errors.New("torn")
		}, 200, typeJSONL, `{"error":"torn"}` + "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			g.plugins.logs.set(c.logs)
			g.do("GET", "/outlet/v1/plugins/logs?plugin=foo/bar"+c.query, "", "").check(t, c.status, c.typ, c.body)
		})
	}
}

func TestFollowedLogs(t *testing.T) {
	g := newRig(t)
	lines := make(chan string)
	ended := make(chan struct{})
	g.plugins.logs.set(func(ctx context.Context, emit func(outlet.LogEntry) error) error {
		defer close(ended)
		for {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case l := <-lines:
				if err := emit(outlet.LogEntry{Line: l}); err != nil {
					return err
				}
			}
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	res := g.open(ctx, "/outlet/v1/plugins/logs?plugin=foo/bar&follow=1", nil) // answered before any line
	r := bufio.NewReader(res.Body)
	for _, want := range []string{"one", "two"} {
		lines <- want
		line, err := r.ReadString('\n')
		if err != nil || !strings.Contains(line, `"line":"`+want+`"`) {
			t.Fatalf("%q, %v", line, err)
		}
	}
	cancel()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Error("it goes on after the client hung up")
	}
}

func TestLogOptions(t *testing.T) {
	q, err := url.ParseQuery("tail=5&since=1700000000.5&until=2026-01-02T03:04:05.6Z&follow=true")
	if err != nil {
		t.Fatal(err)
	}
	o, err := logOptions(q)
	if err != nil || o.Tail != 5 || !o.Follow || o.Since.UnixNano() != 1700000000500000000 || o.Until.UTC().Format(time.RFC3339Nano) != "2026-01-02T03:04:05.6Z" {
		t.Errorf("%+v, %v", o, err)
	}
	for _, all := range []string{"", "all"} {
		if o, err := logOptions(url.Values{"tail": {all}}); err != nil || o.Tail != -1 || !o.Since.IsZero() {
			t.Errorf("%q: %+v, %v", all, o, err)
		}
	}
}
