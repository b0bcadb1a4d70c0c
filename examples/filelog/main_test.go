package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/outletd/outlet/capability/logdriver"
	"github.com/outletd/outlet/internal/testutil"
	"github.com/outletd/outlet/sdk"
	"github.com/outletd/outlet/sdk/sdktest"
)

func TestMain(m *testing.M) { os.Exit(testutil.Main(m)) }

func open(t *testing.T) *driver {
	t.Helper()
	d, err := newDriver(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.root.Close() })
	return d
}

func TestConforms(t *testing.T) {
	sdktest.Run(t, sdktest.Options{
		Addr:       sdktest.Serve(t, "filelog", sdk.Plugin{Log: open(t)}),
		Implements: []string{"LogDriver"},
	})
}

func read(t *testing.T, d *driver, id string, c logdriver.ReadConfig) string {
	t.Helper()
	var got string
	err := d.ReadLogs(t.Context(), logdriver.Info{ContainerID: id}, c, func(e *logdriver.Entry) error {
		got += string(e.Line) + " "
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestSelectsByTimeAndNumber(t *testing.T) {
	d := open(t)
	s, err := d.StartLogging(t.Context(), logdriver.Info{ContainerID: "ab"})
	if err != nil {
		t.Fatal(err)
	}
	at := func(n int64) time.Time { return time.Unix(n, 0) }
	for i := range int64(5) {
		if err := s.Log(&logdriver.Entry{Source: "stdout", TimeNano: at(i).UnixNano(), Line: fmt.Append(nil, i)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		c    logdriver.ReadConfig
		want string
	}{
		{logdriver.ReadConfig{Tail: -1}, "0 1 2 3 4 "},
		{logdriver.ReadConfig{Tail: 2}, "3 4 "},
		{logdriver.ReadConfig{Tail: 0}, ""},
		{logdriver.ReadConfig{Tail: 99}, "0 1 2 3 4 "},
		{logdriver.ReadConfig{Tail: -1, Since: at(3)}, "3 4 "},
		{logdriver.ReadConfig{Tail: -1, Until: at(1)}, "0 1 "},
		{logdriver.ReadConfig{Tail: -1, Follow: true}, "0 1 2 3 4 "}, // nobody writes any more
	} {
		if got := read(t, d, "ab", tt.c); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.c, got, tt.want)
		}
	}
	if got := read(t, d, "cd", logdriver.ReadConfig{Tail: -1}); got != "" {
		t.Errorf("a container that printed nothing: %q", got)
	}
	for _, id := range []string{"", "../ab", "AB", "a/b"} {
		if _, err := d.StartLogging(t.Context(), logdriver.Info{ContainerID: id}); err == nil {
			t.Errorf("%q is taken for an id", id)
		}
	}
}

func TestFollowsUntilTheContainerEnds(t *testing.T) {
	d := open(t)
	s, err := d.StartLogging(t.Context(), logdriver.Info{ContainerID: "ab"})
	if err != nil {
		t.Fatal(err)
	}
	lines, done := make(chan string), make(chan error, 1)
	if err := s.Log(&logdriver.Entry{Source: "stdout", Line: []byte("old")}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() {
		done <- d.ReadLogs(ctx, logdriver.Info{ContainerID: "ab"}, logdriver.ReadConfig{Tail: -1, Follow: true}, func(e *logdriver.Entry) error {
			lines <- string(e.Line)
			return nil
		})
	}()
	if got := <-lines; got != "old" {
		t.Error(got)
	}
	if err := s.Log(&logdriver.Entry{Source: "stdout", Line: []byte("new")}); err != nil {
		t.Fatal(err)
	}
	if got := <-lines; got != "new" {
		t.Error(got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil || errors.Is(ctx.Err(), context.DeadlineExceeded) {
		t.Errorf("the end: %v, %v", err, ctx.Err())
	}
}
