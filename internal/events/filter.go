package events

import (
	"strings"

	"github.com/outletd/outlet"
)

// Filter selects messages by the keys of the Engine API: a message passes if
// for every key one of its values fits. Keys that are not known do not matter,
// nor does a key without values. A nil Filter passes everything.
type Filter map[string][]string

// actorKeys are the keys that name what an event is about, by the start of its
// id or name.
var actorKeys = map[string]bool{
	"plugin": true, "volume": true, "daemon": true, "container": true,
	"network": true, "service": true, "node": true, "secret": true, "config": true,
}

// Match says whether m passes.
func (f Filter) Match(m outlet.Message) bool {
	for key, values := range f {
		if len(values) == 0 {
			continue
		}
		if fits := fitting(key, m); fits != nil && !anyOf(values, fits) {
			return false
		}
	}
	return true
}

// fitting returns how a value of key is compared with m, nil for an unknown
// key.
func fitting(key string, m outlet.Message) func(value string) bool {
	exactly := func(s string) func(string) bool {
		return func(v string) bool { return v == s }
	}
	switch {
	case key == "type":
		return exactly(m.Type)
	case key == "event":
		return exactly(m.Action)
	case key == "scope":
		return exactly(m.Scope)
	case key == "image":
		return func(v string) bool { return v == m.Actor.ID || v == m.Actor.Attributes["name"] }
	case key == "label":
		return func(v string) bool {
			k, want, hasValue := strings.Cut(v, "=")
			got, ok := m.Actor.Attributes[k]
			return ok && (!hasValue || got == want)
		}
	case actorKeys[key]:
		return func(v string) bool {
			return strings.HasPrefix(m.Actor.ID, v) || strings.HasPrefix(m.Actor.Attributes["name"], v)
		}
	}
	return nil
}

func anyOf(values []string, fits func(string) bool) bool {
	for _, v := range values {
		if fits(v) {
			return true
		}
	}
	return false
}

func (f Filter) clone() Filter {
	if f == nil {
		return nil
	}
	c := make(Filter, len(f))
	for k, v := range f {
		c[k] = append([]string(nil), v...)
	}
	return c
}
