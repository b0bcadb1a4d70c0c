package manager

import (
	"context"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/outletd/outlet"
)

// answering is a plugin that answers every call.
var answering = behaviour{handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
	_, _ = w.Write([]byte("{}"))
})}

func TestAPluginWhoseSocketIsGoneIsStartedAgain(t *testing.T) {
	for name, replace := range map[string]func(t *testing.T, path string){
		"removed": func(*testing.T, string) {},
		"a file instead": func(t *testing.T, path string) {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Error(err)
			}
		},
		"a link instead": func(t *testing.T, path string) {
			if err := os.Symlink("/nonexistent", path); err != nil {
				t.Error(err)
			}
		},
		"a socket nobody listens on": func(t *testing.T, path string) {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
			if err != nil {
				t.Error(err)
				return
			}
			l.SetUnlinkOnClose(false)
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		},
	} {
		for _, stubborn := range []bool{false, true} {
			if stubborn {
				name += ", and it ignores SIGTERM"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				f := newFixture(t)
				b := answering
				b.stubborn = stubborn
				f.rt.set(b)
				f.create("p")
				f.enable("p")
				socket := f.state("p", outlet.StateRunning).Status.Socket
				if err := os.Remove(socket); err != nil {
					t.Fatal(err)
				}
				replace(t, socket)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				status, _, err := f.Call(ctx, "p", "VolumeDriver.List", nil)
				if err != nil || status != http.StatusOK {
					t.Errorf("the call that found it out ends with %d, %v", status, err)
				}
				if p := f.state("p", outlet.StateRunning); p.Status.Restarts != 1 {
					t.Errorf("it was started again %d times", p.Status.Restarts)
				}
				var said []string
				err = f.Logs(t.Context(), "p", outlet.LogOptions{Tail: -1}, func(e outlet.LogEntry) error {
					said = append(said, e.Line)
					return nil
				})
				if text := strings.Join(said, "\n"); err != nil || !strings.Contains(text, "socket is gone") {
					t.Errorf("the log says %q, %v", text, err)
				}
			})
		}
	}
}

func TestAPluginThatListensAfreshIsNotStartedAgain(t *testing.T) {
	for range 10 {
		if listensAfresh(t) {
			return
		}
	}
	t.Error("the machine is too slow for this")
}

// listensAfresh returns false if it was so slow itself that the plugin may well
// have been taken for gone.
func listensAfresh(t *testing.T) bool {
	f := newFixture(t)
	f.rt.set(answering)
	p := f.create("p")
	f.enable("p")
	socket := f.state("p", outlet.StateRunning).Status.Socket
	called := make(chan error, 1)
	began := time.Now()
	if err := os.Remove(socket); err != nil {
		t.Fatal(err)
	}
	go func() {
		_, _, err := f.Call(t.Context(), "p", "VolumeDriver.List", nil)
		called <- err
	}()
	l, err := net.Listen("unix", socket)
	if time.Since(began) > unreachableFor/2 {
		if err == nil {
			_ = l.Close()
		}
		<-called
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	task := f.rt.task(p.ID)
	task.wg.Go(func() { _ = task.server.Serve(l) })
	if err := <-called; err != nil {
		t.Log(err) // it may have failed before
	}
	if _, _, err := f.Call(t.Context(), "p", "VolumeDriver.List", nil); err != nil {
		t.Error(err)
	}
	if p := f.state("p", outlet.StateRunning); p.Status.Restarts != 0 {
		t.Errorf("it was started again %d times", p.Status.Restarts)
	}
	return true
}
