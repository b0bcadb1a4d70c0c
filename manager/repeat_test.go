package manager

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outletd/outlet"
)

// A plugin that ends while it is asked is started again. What can be asked again
// is, and has the answer of the next process.
func TestAQueryThatItsPluginDiesOfIsAskedAgainOnce(t *testing.T) {
	for name, tt := range map[string]struct {
		method string
		deaths int32
		reused bool // over a connection that was used before
		asked  int32
		ok     bool
	}{
		"a query":                         {"VolumeDriver.List", 1, false, 2, true},
		"a query, on an idle connection":  {"VolumeDriver.List", 1, true, 2, true},
		"a query that kills every plugin": {"VolumeDriver.List", 100, false, 2, false},
		"a change":                        {"VolumeDriver.Mount", 1, false, 1, false},
		"a change, on an idle connection": {"VolumeDriver.Mount", 1, true, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			var asked atomic.Int32
			f.rt.set(behaviour{handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/"+tt.method && asked.Add(1) <= tt.deaths {
					p, err := f.Inspect(context.WithoutCancel(r.Context()), "p")
					if err != nil {
						t.Error(err)
						return
					}
					f.rt.task(p.ID).end(outlet.Exit{Code: 1}) // which cuts this connection
				}
				_, _ = w.Write([]byte("{}"))
			})})
			f.create("p")
			f.enable("p")
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if tt.reused {
				if _, _, err := f.Call(ctx, "p", "VolumeDriver.Capabilities", nil); err != nil {
					t.Fatal(err)
				}
			}
			status, _, err := f.Call(ctx, "p", tt.method, nil)
			if (err == nil && status == http.StatusOK) != tt.ok {
				t.Errorf("it ends with %d, %v", status, err)
			}
			if n := asked.Load(); n != tt.asked {
				t.Errorf("the plugin was asked %d times", n)
			}
		})
	}
}
