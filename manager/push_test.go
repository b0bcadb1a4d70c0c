package manager

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/outletd/outlet"
	rt "github.com/outletd/outlet/internal/testutil/registrytest"
)

func TestUploadsAreAsManyAsConfigured(t *testing.T) {
	reg := rt.Start(t, rt.Options{})
	for name, tt := range map[string]struct{ uploads, most int }{"one": {1, 1}, "as many as there are": {0, 2}} {
		t.Run(name, func(t *testing.T) {
			front := rt.Before(t, reg)
			var mu sync.Mutex
			now, most := 0, 0
			wait, all := 200*time.Millisecond, make(chan struct{}) // time for another to come
			if tt.most > 1 {
				wait = 10 * time.Second
			}
			front.On("HEAD", func(w http.ResponseWriter, r *http.Request, _ int, next http.Handler) {
				mu.Lock()
				now++
				if most = max(most, now); now == tt.most && tt.most > 1 {
					close(all)
				}
				mu.Unlock()
				select {
				case <-all:
				case <-time.After(wait):
				}
				mu.Lock()
				now--
				mu.Unlock()
				next.ServeHTTP(w, r)
			})
			f := newFixture(t, quick, func(c *Config) { c.MaxUploads = tt.uploads })
			ref := front.Host + "/foo/bar:1"
			f.create(ref)
			if _, err := f.Push(t.Context(), ref, outlet.RemoteOptions{}, nil); err != nil {
				t.Fatal(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if most != tt.most {
				t.Errorf("%d at the same time", most)
			}
		})
	}
}
