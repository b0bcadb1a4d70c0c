package authz

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"mime"
	"strings"
)

// MaxBody is the longest body that plugins are shown, in bytes. A longer one is
// refused: a plugin must not see less than the handler acts on.
const MaxBody = 4 << 20

// BodyTooLargeError is a body that cannot be shown to plugins.
type BodyTooLargeError struct {
	// Limit is what the body exceeds, in bytes.
	Limit int64
}

// Error says what was exceeded.
func (e *BodyTooLargeError) Error() string {
	return fmt.Sprintf("request body too large for authorization plugin: size exceeds %d bytes", e.Limit)
}

// ResourceExhausted marks the error's class.
func (e *BodyTooLargeError) ResourceExhausted() {}

// Forwards says whether plugins are shown a body: those of media type
// application/json are, except for the registry login's, which has a password.
// path is what the server routes by.
func Forwards(contentType, path string) bool {
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil && !errors.Is(err, mime.ErrInvalidMediaParameter) {
		// What a lenient handler may still take for JSON is shown.
		media, _, _ = strings.Cut(contentType, ";")
		media = strings.ToLower(strings.TrimSpace(media))
	}
	return media == "application/json" && !isLogin(path)
}

// isLogin says whether the first element of a path, after the version if there
// is one, is exactly auth.
func isLogin(path string) bool {
	first, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if isVersion(first) {
		first, _, _ = strings.Cut(rest, "/")
	}
	return first == "auth"
}

// isVersion says whether a path element is v and digits with dots.
func isVersion(s string) bool {
	digits, ok := strings.CutPrefix(s, "v")
	return ok && digits != "" && strings.Trim(digits, "0123456789.") == ""
}

// TakeBody reads a body to its end and returns it beside a reader of the very
// same bytes for the handler, which closes body. Whatever the request says about
// its length is of no interest. A body of more than limit bytes is a
// *BodyTooLargeError. Nil is an empty body.
func TakeBody(body io.ReadCloser, limit int64) ([]byte, io.ReadCloser, error) {
	if body == nil {
		return nil, io.NopCloser(bytes.NewReader(nil)), nil
	}
	content, err := io.ReadAll(io.LimitReader(body, limit+1))
	if err != nil {
		return nil, nil, fmt.Errorf("read the body for authorization: %w", err)
	}
	if int64(len(content)) > limit {
		return nil, nil, &BodyTooLargeError{limit}
	}
	return content, struct {
		io.Reader
		io.Closer
	}{bytes.NewReader(content), body}, nil
}

// Headers flattens headers for plugins: the last value of each, without those
// that have credentials.
func Headers(h map[string][]string) map[string]string {
	flat := make(map[string]string, len(h))
	for name, values := range h {
		switch strings.ToLower(name) {
		case "authorization", "x-registry-auth", "x-registry-config":
			continue
		}
		if len(values) > 0 {
			flat[name] = values[len(values)-1]
		}
	}
	return flat
}

// Certificates are a client's as plugins get them. The first one's common name
// is the User.
func Certificates(chain []*x509.Certificate) [][]byte {
	var all [][]byte
	for _, c := range chain {
		if c != nil {
			all = append(all, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
		}
	}
	return all
}
