package main

import (
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"strings"
)

const (
	mediaType = "application/vnd.docker.plugins.v1.2+json"
	maxBody   = 1 << 20
)

// request has the fields of every request of the protocol.
type request struct {
	Name string
	ID   string
	Opts map[string]string
}

type empty struct{}

// newHandler serves the volume protocol (docs/spec/capabilities.md §2).
func newHandler(d *driver, logger *log.Logger) http.Handler {
	methods := map[string]func(request) (any, error){
		"Plugin.Activate": func(request) (any, error) {
			return struct{ Implements []string }{[]string{"VolumeDriver"}}, nil
		},
		"VolumeDriver.Capabilities": func(request) (any, error) {
			type scope struct{ Scope string }
			return struct{ Capabilities scope }{scope{"local"}}, nil
		},
		"VolumeDriver.Create": func(r request) (any, error) { return empty{}, d.create(r.Name, r.Opts) },
		"VolumeDriver.Remove": func(r request) (any, error) { return empty{}, d.remove(r.Name) },
		"VolumeDriver.Get": func(r request) (any, error) {
			v, err := d.describe(r.Name)
			return struct{ Volume description }{v}, err
		},
		"VolumeDriver.List": func(request) (any, error) {
			return struct{ Volumes []description }{d.list()}, nil
		},
		"VolumeDriver.Path": func(r request) (any, error) {
			v, err := d.describe(r.Name)
			return struct{ Mountpoint string }{v.Mountpoint}, err
		},
		"VolumeDriver.Mount": func(r request) (any, error) {
			path, err := d.mount(r.Name, r.ID)
			return struct{ Mountpoint string }{path}, err
		},
		"VolumeDriver.Unmount": func(r request) (any, error) { return empty{}, d.unmount(r.Name, r.ID) },
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/")
		method, ok := methods[name]
		switch {
		case !ok:
			answer(w, http.StatusNotFound, failure{"dirvol has no method " + name})
			return
		case r.Method != http.MethodPost:
			w.Header().Set("Allow", http.MethodPost)
			answer(w, http.StatusMethodNotAllowed, failure{"methods of plugins are called by POST"})
			return
		}
		var args request
		// Some callers send no body where there is nothing to say.
		err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&args)
		if err != nil && !errors.Is(err, io.EOF) {
			answer(w, http.StatusBadRequest, failure{"body: " + err.Error()})
			return
		}
		result, err := method(args)
		if err != nil {
			if !errors.Is(err, errNotFound) { // whoever creates a volume looks for it first
				logger.Printf("%s %q: %v", name, args.Name, err)
			}
			answer(w, status(err), failure{err.Error()})
			return
		}
		answer(w, http.StatusOK, result)
	})
}

// failure is how the protocol tells an error.
type failure struct{ Err string }

func status(err error) int {
	switch {
	case errors.Is(err, errNotFound):
		return http.StatusNotFound
	case errors.Is(err, errInvalid):
		return http.StatusBadRequest
	case errors.Is(err, errInUse):
		return http.StatusConflict
	default:
		return http.StatusInternalServerError
	}
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", mediaType)
	w.WriteHeader(status)
	// If the caller is gone there is nobody to tell.
	_ = json.NewEncoder(w).Encode(v)
}
