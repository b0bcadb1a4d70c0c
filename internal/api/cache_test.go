package api

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

func TestListIsEncodedOncePerChange(t *testing.T) {
	g := newRig(t)
	for range 3 {
		g.do("GET", "/plugins", "", "")
	}
	if n := g.plugins.lists.Load(); n != 1 {
		t.Errorf("the backend was asked %d times", n)
	}
	if a := g.do("POST", "/plugins/foo/bar/disable", "", ""); a.status != 200 {
		t.Fatal(a)
	}
	if a := g.do("GET", "/plugins", "", ""); strings.Count(a.body, `"Enabled":false`) != 1 {
		t.Errorf("the change is not shown: %s", a.body)
	}
	if a := g.do("GET", "/plugins/foo/bar/json", "", ""); !strings.Contains(a.body, `"Enabled":false`) {
		t.Errorf("the change is not shown: %s", a.body)
	}
	if a := g.do("GET", `/plugins?filters={"enabled":["true"]}`, "", ""); strings.Count(a.body, `"Enabled":true`) != 2 {
		t.Errorf("filters are not told apart: %s", a.body)
	}
}

func TestABackendWithoutRevisionsIsAlwaysAsked(t *testing.T) {
	g := newRig(t, func(c *Config) { c.Plugins = c.Plugins.(withRevisions).fakePlugins })
	for range 3 {
		g.do("GET", "/plugins", "", "")
	}
	if n := g.plugins.lists.Load(); n != 3 {
		t.Errorf("the backend was asked %d times", n)
	}
}

type counter struct{ atomic.Uint64 }

func (c *counter) Revision() uint64 { return c.Load() }

func TestCacheNeverAnswersWithWhatWasBefore(t *testing.T) {
	var revision counter
	var value atomic.Uint64
	c := pluginCache{revisions: &revision}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 2000 {
				least := revision.Load()
				b, err := c.answer("k", func() ([]byte, error) { return fmt.Append(nil, value.Load()), nil })
				var got uint64
				if _, scanErr := fmt.Sscan(string(b), &got); err != nil || scanErr != nil || got < least {
					t.Errorf("%d changes were made before, the answer is of %s", least, b)
					return
				}
			}
		})
	}
	wg.Go(func() {
		for range 1000 {
			value.Add(1) // the change is seen first, then counted
			revision.Add(1)
		}
	})
	wg.Wait()
}

func TestCacheIsBounded(t *testing.T) {
	var revision counter
	c := pluginCache{revisions: &revision}
	made := 0
	get := func(key string, n int) {
		t.Helper()
		b, err := c.answer(key, func() ([]byte, error) { made++; return make([]byte, n), nil })
		if err != nil || len(b) != n {
			t.Fatalf("%d bytes, %v", len(b), err)
		}
		if c.size > maxCached {
			t.Fatalf("%d bytes are kept", c.size)
		}
	}
	for i := range 20 {
		get(fmt.Sprint(i), maxCached/4)
	}
	made = 0
	get("19", maxCached/4)
	if made != 0 {
		t.Error("the newest answer is not kept")
	}
	get("huge", maxCached+1)
	get("huge", maxCached+1)
	if made != 2 {
		t.Error("an answer beyond the bound is kept")
	}
	failure := errors.New("x")
	for range 2 {
		if _, err := c.answer("err", func() ([]byte, error) { made++; return nil, failure }); !errors.Is(err, failure) {
			t.Fatal(err)
		}
	}
	if made != 4 {
		t.Error("an error is kept")
	}
}
