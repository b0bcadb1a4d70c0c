package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// parseQuery returns the parameters of a request. Bodies are never parameters.
func parseQuery(r *http.Request) (url.Values, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, invalid("%w", err)
	}
	return q, nil
}

// pluginQuery returns the parameters of a request that names a plugin by one.
func pluginQuery(r *http.Request) (q url.Values, name string, err error) {
	if q, err = parseQuery(r); err != nil {
		return nil, "", err
	}
	name, err = required(q, "plugin")
	return q, name, err
}

// truthy reads a boolean parameter as Engine does: everything but the words
// for no is yes.
func truthy(s string) bool {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "", "0", "no", "false", "none":
		return false
	}
	return true
}

// filters are the values of the parameter of that name, by key. A value that is
// mapped to false is there all the same, but is no answer to yes or no.
type filters map[string]map[string]bool

// parseFilters reads {"key":{"value":true}} or the older {"key":["value"]}.
func parseFilters(s string) (filters, error) {
	if s == "" {
		return nil, nil
	}
	var f filters
	if json.Unmarshal([]byte(s), &f) == nil {
		return f, nil
	}
	var lists map[string][]string
	if json.Unmarshal([]byte(s), &lists) != nil {
		return nil, invalid("invalid filter")
	}
	f = filters{}
	for key, list := range lists {
		f[key] = make(map[string]bool, len(list))
		for _, value := range list {
			f[key][value] = true
		}
	}
	return f, nil
}

// values are those of a key, sorted.
func (f filters) values(key string) []string { return slices.Sorted(maps.Keys(f[key])) }

// all are the values of every key.
func (f filters) all() map[string][]string {
	all := make(map[string][]string, len(f))
	for key := range f {
		all[key] = f.values(key)
	}
	return all
}

// listFilters returns the filters of a request for a list that knows those keys.
func listFilters(r *http.Request, known ...string) (filters, error) {
	q, err := parseQuery(r)
	if err != nil {
		return nil, err
	}
	f, err := parseFilters(q.Get("filters"))
	if err != nil {
		return nil, err
	}
	return f, f.only(known...)
}

// only refuses keys that are not among known.
func (f filters) only(known ...string) error {
	for _, key := range slices.Sorted(maps.Keys(f)) {
		if !slices.Contains(known, key) {
			return invalid("invalid filter '%s'", key)
		}
	}
	return nil
}

// boolean reads a key whose value is true or false; nil if it is not there.
func (f filters) boolean(key string) (*bool, error) {
	set, ok := f[key]
	if !ok {
		return nil, nil
	}
	yes := set["true"] || set["1"]
	no := set["false"] || set["0"]
	if yes == no {
		return nil, invalid("invalid filter '%s=%s'", key, f.values(key))
	}
	return &yes, nil
}

// maxSeconds keeps times where nanoseconds since 1970 fit 64 bits.
const maxSeconds = 9_000_000_000

// parseTimestamp reads <seconds>[.<fraction>] since 1970.
func parseTimestamp(s string) (time.Time, error) {
	secs, frac, hasFrac := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(secs, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("invalid timestamp %q: invalid seconds %q: %w", s, secs, errors.Unwrap(err))
	}
	sec = min(max(sec, -maxSeconds), maxSeconds)
	if !hasFrac {
		return time.Unix(sec, 0), nil
	}
	if frac == "" || len(frac) > 20 || strings.Trim(frac, "0123456789") != "" {
		return time.Time{}, fmt.Errorf("invalid timestamp %q: invalid nanoseconds %q: %w", s, frac, strconv.ErrSyntax)
	}
	nsec, err := strconv.ParseInt((frac + "000000000")[:9], 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("invalid timestamp %q: %w", s, err)
	}
	return time.Unix(sec, nsec), nil
}

// timeParam reads a parameter that is a timestamp; zero if it is empty.
func timeParam(q url.Values, key string) (time.Time, error) {
	s := q.Get(key)
	if s == "" {
		return time.Time{}, nil
	}
	t, err := parseTimestamp(s)
	if err != nil {
		return time.Time{}, invalid("invalid value for '%s': %w", key, err)
	}
	return t, nil
}

// lenientTimeParam is timeParam that reads RFC 3339 too.
func lenientTimeParam(q url.Values, key string) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339Nano, q.Get(key)); err == nil {
		return t, nil
	}
	return timeParam(q, key)
}

// checkRange refuses an end before the start.
func checkRange(q url.Values, since, until time.Time) error {
	if !until.IsZero() && until.Before(since) {
		return invalid("`since` time (%s) cannot be after `until` time (%s)", q.Get("since"), q.Get("until"))
	}
	return nil
}

// durationParam reads a parameter in Go's form, 0 if it is not there.
func durationParam(q url.Values, key string) (time.Duration, error) {
	s := q.Get(key)
	if s == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, invalid("invalid %s %q", key, s)
	}
	return d, nil
}

// required returns a parameter that must not be empty.
func required(q url.Values, key string) (string, error) {
	if v := q.Get(key); v != "" {
		return v, nil
	}
	return "", invalid("the parameter %q is missing", key)
}
