package cli

import "strings"

// parseFilters reads repeated KEY=VALUE options. What the keys mean is known to
// the daemon.
func parseFilters(args []string) (map[string][]string, error) {
	out := make(map[string][]string)
	for _, a := range args {
		key, value, ok := strings.Cut(a, "=")
		key = strings.ToLower(strings.TrimSpace(key))
		if !ok || key == "" {
			return nil, usagef("invalid filter %q: write KEY=VALUE", a)
		}
		out[key] = append(out[key], strings.TrimSpace(value))
	}
	return out, nil
}

// parsePairs reads repeated KEY[=VALUE] options.
func parsePairs(args []string) map[string]string {
	out := make(map[string]string, len(args))
	for _, a := range args {
		key, value, _ := strings.Cut(a, "=")
		out[key] = value
	}
	return out
}
