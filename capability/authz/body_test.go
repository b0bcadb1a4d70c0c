package authz_test

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/outletd/outlet/capability/authz"
)

func TestForwards(t *testing.T) {
	for _, tt := range []struct {
		contentType, path string
		want              bool
	}{
		{"application/json", "/containers/create", true},
		{"Application/JSON; charset=utf-8", "/v1.44/containers/create", true},
		{"application/json; charset", "/x", true},
		{"application/json;;", "/x", true},
		{"", "/x", false},
		{"text/plain", "/x", false},
		{"application/x-tar", "/build", false},
		{"application/jsonp", "/x", false},
		{"application/json", "/auth", false},
		{"application/json", "/v1.44/auth", false},
		{"application/json", "/authority", true},
		{"application/json", "/v1.44/authx", true},
		{"application/json", "/vauth/auth", true},
		{"application/json", "/v/auth", true},
		{"application/json", "/plugins/auth", true},
	} {
		if got := authz.Forwards(tt.contentType, tt.path); got != tt.want {
			t.Errorf("%q %q: %v", tt.contentType, tt.path, got)
		}
	}
}

// Sizes around the limit, with an exact length, none and a wrong one: the
// plugin and the handler see the same bytes, or the request is refused.
func TestTakeBodyShowsAllOrNothing(t *testing.T) {
	const limit = authz.MaxBody
	for _, size := range []int{0, 1, 4 << 20, 4<<20 + 1} {
		for _, length := range []string{"exact", "none"} {
			t.Run(fmt.Sprint(size, " ", length), func(t *testing.T) {
				body := bytes.Repeat([]byte("x"), size)
				type seen struct {
					shown, handled []byte
					err            error
				}
				result := make(chan seen, 1)
				srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					shown, rest, err := authz.TakeBody(r.Body, limit)
					s := seen{shown: shown, err: err}
					if err == nil {
						s.handled, _ = io.ReadAll(rest)
						rest.Close()
					}
					result <- s
				}))
				defer srv.Close()
				var r io.Reader = bytes.NewReader(body)
				if length == "none" {
					r = struct{ io.Reader }{r}
				}
				resp, err := http.Post(srv.URL, "application/json", r)
				if err == nil {
					resp.Body.Close()
				}
				got := <-result
				if size > limit {
					var large *authz.BodyTooLargeError
					if !errors.As(got.err, &large) || got.err.Error() != "request body too large for authorization plugin: size exceeds 4194304 bytes" {
						t.Errorf("error %v", got.err)
					}
					return
				}
				if got.err != nil || !bytes.Equal(got.shown, body) || !bytes.Equal(got.handled, body) {
					t.Errorf("shown %d, handled %d of %d bytes: %v", len(got.shown), len(got.handled), size, got.err)
				}
			})
		}
	}
	t.Run("wrong length", func(t *testing.T) {
		_, _, err := authz.TakeBody(io.NopCloser(io.MultiReader(strings.NewReader("abc"), failing{})), limit)
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("no body", func(t *testing.T) {
		b, rest, err := authz.TakeBody(nil, limit)
		if err != nil || len(b) != 0 || rest == nil {
			t.Errorf("%q, %v", b, err)
		}
	})
}

// failing ends as the body of a request that is shorter than it said.
type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestHeadersHaveNoCredentials(t *testing.T) {
	got := authz.Headers(http.Header{
		"Authorization": {"secret"}, "X-Registry-Auth": {"secret"}, "x-registry-config": {"secret"},
		"A": {"first", "last"}, "B": {},
	})
	if len(got) != 1 || got["A"] != "last" {
		t.Errorf("%v", got)
	}
}

func TestCertificatesAreBlocks(t *testing.T) {
	got := authz.Certificates([]*x509.Certificate{{Raw: []byte("x")}, nil})
	if len(got) != 1 || !strings.HasPrefix(string(got[0]), "-----BEGIN CERTIFICATE-----\neA==\n") {
		t.Errorf("%q", got)
	}
}
