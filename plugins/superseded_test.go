package plugins_test

import (
	"context"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/outletd/outlet/plugins"
	"github.com/outletd/outlet/plugins/pluginstest"
)

// An attempt that is under way when another definition takes the place of its
// own says nothing about the new one, however it ends.
func TestAnAttemptIsForItsDefinition(t *testing.T) {
	uses := map[string]func(ctx context.Context, r *plugins.Registry) (*plugins.Plugin, error){
		"GetAll": func(ctx context.Context, r *plugins.Registry) (*plugins.Plugin, error) {
			all, err := r.GetAll(ctx, volumeDriver)
			if len(all) == 0 {
				return nil, err
			}
			return all[0], err
		},
		"Get": func(ctx context.Context, r *plugins.Registry) (*plugins.Plugin, error) {
			return r.Get(ctx, "p", volumeDriver, plugins.WithBudget(0))
		},
	}
	ends := map[string]http.HandlerFunc{
		"fails":    func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no more", http.StatusInternalServerError) },
		"hangs up": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"succeeds": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"Implements":["VolumeDriver"]}`))
		},
	}
	for first, begin := range uses {
		for second, use := range uses {
			for how, end := range ends {
				t.Run(first+" "+how+" during "+second, func(t *testing.T) {
					tr := newTree(t)
					asked, answer := make(chan struct{}), make(chan struct{})
					old := pluginstest.StartTCP(t, nil)
					old.Handle("Plugin.Activate", func(w http.ResponseWriter, r *http.Request) {
						close(asked)
						<-answer
						end(w, r)
					})
					tr.write(filepath.Join(tr.b, "p.spec"), old.Addr)
					r := tr.registry()
					ended := make(chan struct{})
					go func() {
						defer close(ended)
						_, _ = begin(t.Context(), r) // what it gets is no matter here
					}()
					<-asked
					now := pluginstest.StartTCP(t, nil, volumeDriver)
					tr.write(filepath.Join(tr.a, "p.spec"), now.Addr)
					got := make(chan error, 1)
					var p *plugins.Plugin
					go func() {
						var err error
						p, err = use(t.Context(), r)
						got <- err
					}()
					// It need not wait for the old one, but may.
					select {
					case err := <-got:
						got <- err
					case <-time.After(20 * time.Millisecond):
					}
					close(answer)
					must(t, <-got)
					if p.Addr != now.Addr {
						t.Errorf("there is the plugin at %s, not the one at %s", p.Addr, now.Addr)
					}
					<-ended
				})
			}
		}
	}
}
