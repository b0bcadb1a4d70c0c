package api

import (
	"context"
	"net/http"
	"strings"
)

// splitVersion takes a version prefix off a path: "/v1.51/info" is "1.51" and
// "/info". A path without one is returned as it is.
func splitVersion(path string) (version, rest string) {
	after, ok := strings.CutPrefix(path, "/v")
	if !ok {
		return "", path
	}
	n := strings.IndexByte(after, '/')
	if n < 1 || strings.Trim(after[:n], "0123456789.") != "" {
		return "", path
	}
	return after[:n], after[n:]
}

// compareVersions compares part by part as numbers of any length; a missing
// part is 0.
func compareVersions(a, b string) int {
	for a != "" || b != "" {
		var x, y string
		x, a, _ = strings.Cut(a, ".")
		y, b, _ = strings.Cut(b, ".")
		x, y = strings.TrimLeft(x, "0"), strings.TrimLeft(y, "0")
		if len(x) != len(y) {
			return sign(len(x) - len(y))
		}
		if c := strings.Compare(x, y); c != 0 {
			return c
		}
	}
	return 0
}

func sign(n int) int {
	if n < 0 {
		return -1
	}
	return 1
}

// checkVersion refuses versions that are not spoken.
func checkVersion(v string) error {
	switch {
	case v == "":
		return nil
	case compareVersions(v, MinVersion) < 0:
		return invalid("client version %s is too old. Minimum supported API version is %s, please upgrade your client to a newer version", v, MinVersion)
	case compareVersions(v, MaxVersion) > 0:
		return invalid("client version %s is too new. Maximum supported API version is %s", v, MaxVersion)
	}
	return nil
}

type versionKey struct{}

// withVersion remembers the version prefix of a request, if it has one.
func withVersion(r *http.Request, v string) *http.Request {
	if v == "" {
		return r
	}
	return r.WithContext(context.WithValue(r.Context(), versionKey{}, v))
}

// requestedVersion is the version prefix of a request, "" without one.
func requestedVersion(r *http.Request) string {
	v, _ := r.Context().Value(versionKey{}).(string)
	return v
}

// before says whether the request asks for an API older than v.
func before(r *http.Request, v string) bool {
	asked := requestedVersion(r)
	if asked == "" {
		asked = MaxVersion
	}
	return compareVersions(asked, v) < 0
}
