package cli

import (
	"strconv"
	"strings"
	"time"
)

// whenUsage ends the help of options that take a time.
const whenUsage = "a time (2026-01-02T13:23:37Z, 2026-01-02, seconds since 1970) or how long ago (42m)"

// parseWhen reads a point in time as a person writes it; times without a zone
// are local. "" is the zero time.
func parseWhen(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	for _, layout := range []string{
		time.RFC3339Nano, "2006-01-02T15:04Z07:00",
		"2006-01-02T15:04:05.999999999", "2006-01-02T15:04", "2006-01-02T15",
		"2006-01-02 15:04:05.999999999", "2006-01-02 15:04",
		"2006-01-02Z07:00", "2006-01-02",
	} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	sec, frac, _ := strings.Cut(s, ".")
	n, err := strconv.ParseInt(sec, 10, 64)
	if err != nil {
		return time.Time{}, usagef("invalid time %q: write %s", s, whenUsage)
	}
	nano := int64(0)
	if frac != "" {
		if len(frac) > 9 {
			frac = frac[:9]
		}
		u, err := strconv.ParseUint(frac+strings.Repeat("0", 9-len(frac)), 10, 32)
		if err != nil {
			return time.Time{}, usagef("invalid time %q: write %s", s, whenUsage)
		}
		nano = int64(u)
	}
	return time.Unix(n, nano), nil
}
