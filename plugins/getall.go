package plugins

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// GetAll returns all plugins that serve the subsystem, active and with their
// handlers run, sorted by name. Plugins that are not active yet are activated
// side by side, one try each, within the bounds of Config.
//
// The error joins, for each plugin and directory that could not be used, the
// reason; the plugins are good beside it. A plugin that failed is left alone for
// Config.FailureMemory, unless its definition changes or Get is called for it,
// and the same error is reported again. When ctx ends, what was found by then is
// returned.
func (r *Registry) GetAll(ctx context.Context, subsystem string) ([]*Plugin, error) {
	results, scanErr := r.activateAll(ctx, subsystem)
	var all []*Plugin
	errs := []error{scanErr}
	for _, res := range results {
		if res.err != nil {
			errs = append(errs, res.err)
		} else if res.plugin.Implements(subsystem) {
			all = append(all, res.plugin)
		}
	}
	slices.SortFunc(all, func(a, b *Plugin) int { return strings.Compare(a.name, b.name) })
	return all, errors.Join(errs...)
}

// Discovered is what is known about a name that a file defines.
type Discovered struct {
	// Name is the plugin's name, Path the file that defines it.
	Name, Path string
	// Plugin is the plugin if it is active.
	Plugin *Plugin
	// Err is why it is not.
	Err error
}

// Discover activates all plugins as GetAll does, whatever they serve, and
// returns them and those that cannot be used, sorted by name. The error joins
// the directories that could not be read.
func (r *Registry) Discover(ctx context.Context) ([]Discovered, error) {
	results, err := r.activateAll(ctx, "")
	all := make([]Discovered, 0, len(results))
	for _, res := range results {
		all = append(all, Discovered{res.file.name, res.file.file.path, res.plugin, res.err})
	}
	slices.SortFunc(all, func(a, b Discovered) int { return strings.Compare(a.Name, b.Name) })
	return all, err
}

// A result is a plugin that is active, or why it is not.
type result struct {
	file   selected
	plugin *Plugin
	err    error
}

// activateAll activates whatever the directories have, side by side. The error
// is that of the directories.
func (r *Registry) activateAll(ctx context.Context, subsystem string) ([]result, error) {
	if err := r.alive(ctx); err != nil {
		return nil, err
	}
	var results []result
	err := r.dirs().scan(func(s selected) error {
		results = append(results, result{file: s})
		return nil
	})
	use := func(res *result, e *entry) {
		if res.err = r.runHandlers(ctx, e, subsystem); res.err == nil {
			res.plugin = e.plugin
		}
	}
	var wg sync.WaitGroup
	for i := range results {
		res := &results[i]
		if e := r.active(res.file); e != nil {
			use(res, e)
			continue
		}
		if res.err = r.failedBefore(res.file); res.err != nil {
			continue
		}
		wg.Go(func() {
			e, err := r.probe(ctx, res.file)
			if err != nil {
				res.err = err
				return
			}
			use(res, e)
		})
	}
	wg.Wait()
	return results, err
}

// failedBefore returns why the plugin failed the last time, if that was not long
// ago and its definition is the same.
func (r *Registry) failedBefore(s selected) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	f, ok := r.failures[s.name]
	if !ok || f.file != s.file || time.Since(f.at) >= r.cfg.FailureMemory {
		return nil
	}
	return f.err
}

// probe activates a plugin within the bounds of GetAll.
func (r *Registry) probe(ctx context.Context, s selected) (*entry, error) {
	select {
	case r.slots <- struct{}{}:
	case <-ctx.Done():
		return nil, &ActivationError{Name: s.name, Address: s.file.path, Err: ctx.Err()}
	}
	free := sync.OnceFunc(func() { <-r.slots })
	defer free()
	slow := time.NewTimer(slowProbe)
	defer slow.Stop()
	connect := time.NewTimer(r.cfg.ProbeConnectTimeout)
	defer connect.Stop()
	total := time.NewTimer(r.cfg.ProbeTimeout)
	defer total.Stop()
	giveUp := func(what string, d time.Duration) (*entry, error) {
		err := &ActivationError{Name: s.name, Address: s.file.path, Err: &timeoutError{fmt.Sprintf("%s within %s", what, d)}}
		r.remember(s.name, s.file, err)
		return nil, err
	}
	e, err := r.join(s, 0) //nolint:contextcheck // the attempt is shared: no single caller's context ends it
	if err != nil {
		return nil, err
	}
	defer func() { r.leave(e) }()
	tried := e.tried
	for {
		select {
		case <-e.done:
			now, ok := r.superseded(e, s)
			if !ok {
				return e, e.err
			}
			next, err := r.join(now, 0) //nolint:contextcheck // as above
			if err != nil {
				return nil, err
			}
			r.leave(e)
			s, e, tried = now, next, next.tried
		case <-tried:
			if e.firstFile != s.file {
				tried = nil // that was another definition; whoever goes on comes to this one
				continue
			}
			// Somebody who is more patient goes on; this caller does not. If
			// nobody does, the attempt is about to be done with the same error.
			r.remember(s.name, s.file, e.firstErr)
			return e, e.firstErr
		case <-ctx.Done():
			return nil, &ActivationError{Name: s.name, Address: s.file.path, Err: ctx.Err()}
		case <-slow.C:
			free()
		case <-connect.C:
			if !e.connected.Load() {
				return giveUp("no connection", r.cfg.ProbeConnectTimeout)
			}
		case <-total.C:
			return giveUp("no answer", r.cfg.ProbeTimeout)
		}
	}
}
