package policy

import (
	"fmt"
	"path"
	"strings"
)

// Pattern is compared with a repository ("docker.io/example/dirvol"), a path or
// another value, component by component: "*" and "?" stand for characters within
// one, a last component "**" for any number of them, none included.
type Pattern string

// UnmarshalText refuses patterns that can never match.
func (p *Pattern) UnmarshalText(b []byte) error {
	s := string(b)
	for i, part := range strings.Split(s, "/") {
		if part == "**" && !strings.HasSuffix(s, "/**") && s != "**" || part == "**" && strings.Count(s, "**") > 1 {
			return fmt.Errorf("%q: ** can only be the last component", s)
		}
		if part != "**" && strings.Contains(part, "**") {
			return fmt.Errorf("%q: component %d: ** must stand alone", s, i+1)
		}
		if _, err := path.Match(part, ""); err != nil {
			return fmt.Errorf("%q: %w", s, err)
		}
	}
	if s == "" {
		return fmt.Errorf("an empty pattern matches nothing")
	}
	*p = Pattern(s)
	return nil
}

// Matches says whether all of s is what p stands for.
func (p Pattern) Matches(s string) bool {
	pattern, parts := strings.Split(string(p), "/"), strings.Split(s, "/")
	for i, want := range pattern {
		if want == "**" {
			return true
		}
		if i >= len(parts) {
			return false
		}
		if ok, err := path.Match(want, parts[i]); err != nil || !ok {
			return false
		}
		if i == len(parts)-1 && i+2 == len(pattern) && pattern[i+1] == "**" {
			return true // "a/**" is a too
		}
	}
	return len(parts) == len(pattern)
}

// touches says whether a path is one that p stands for, or contains one: who has
// a directory has what is below it.
func (p Pattern) touches(s string) bool {
	if !strings.HasPrefix(s, "/") {
		return p.Matches(s)
	}
	s = path.Clean(s)
	if p.Matches(s) {
		return true
	}
	if s == "/" {
		return strings.HasPrefix(string(p), "/") || p == "**"
	}
	// The pattern's beginning, as long as the path is.
	pattern, parts := strings.Split(string(p), "/"), strings.Split(s, "/")
	if len(parts) >= len(pattern) {
		return false
	}
	for i, part := range parts {
		if ok, err := path.Match(pattern[i], part); err != nil || !ok {
			return false
		}
	}
	return true
}

func anyMatches(patterns []Pattern, s string) bool {
	for _, p := range patterns {
		if p.Matches(s) {
			return true
		}
	}
	return false
}
