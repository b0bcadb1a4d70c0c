package registrytest

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// TokenServer gives out tokens as the distribution specification says.
type TokenServer struct {
	URL string
	// Certificate verifies its tokens.
	Certificate []byte
	// User and Password get every scope asked for; others, nothing. "" is that
	// nobody is asked.
	User, Password string
	// Refresh is a refresh token it gives and takes; "" is none.
	Refresh string
	// RefuseClass refuses scopes with a class, as some token servers do.
	RefuseClass bool

	key *ecdsa.PrivateKey

	mu     sync.Mutex
	scopes []string
	auths  []string
}

// StartTokens starts a token server. Its fields may be changed before it is
// used.
func StartTokens(t testing.TB) *TokenServer {
	t.Helper()
	s := &TokenServer{}
	var keyPEM []byte
	s.Certificate, keyPEM = Certificate(t, "127.0.0.1")
	block, _ := pem.Decode(keyPEM)
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	s.key = k.(*ecdsa.PrivateKey)
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	s.URL = srv.URL
	return s
}

// Scopes are those that were asked for, and Auths the credentials that came.
func (s *TokenServer) Scopes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.scopes...)
}

// Auths are the credentials that came, one of each request.
func (s *TokenServer) Auths() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.auths...)
}

func (s *TokenServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var scopes []string
	for _, v := range r.Form["scope"] {
		scopes = append(scopes, strings.Fields(v)...)
	}
	user, password, basic := r.BasicAuth()
	if r.Method == http.MethodPost {
		user, password = r.Form.Get("username"), r.Form.Get("password")
	}
	s.mu.Lock()
	s.scopes = append(s.scopes, scopes...)
	s.auths = append(s.auths, fmt.Sprintf("%s:%s:%s", user, password, r.Form.Get("refresh_token")))
	s.mu.Unlock()
	ok := s.User == "" || user == s.User && password == s.Password || s.Refresh != "" && r.Form.Get("refresh_token") == s.Refresh
	if !ok {
		if basic || r.Method == http.MethodPost {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusUnauthorized)
			fmt.Fprint(w, `{"errors":[{"code":"UNAUTHORIZED","message":"incorrect username or password"}]}`)
			return
		}
		scopes = nil
	}
	var access []map[string]any
	for _, sc := range scopes {
		parts := strings.Split(sc, ":")
		if len(parts) < 3 {
			continue
		}
		kind, class, _ := strings.Cut(parts[0], "(")
		if class != "" && s.RefuseClass {
			http.Error(w, "unknown resource class", http.StatusBadRequest)
			return
		}
		access = append(access, map[string]any{"type": kind, "name": strings.Join(parts[1:len(parts)-1], ":"), "actions": strings.Split(parts[len(parts)-1], ",")})
	}
	token := s.token(user, access)
	answer := map[string]any{"token": token, "access_token": token, "expires_in": 300}
	if s.Refresh != "" && (r.Form.Get("offline_token") != "" || r.Form.Get("access_type") == "offline") {
		answer["refresh_token"] = s.Refresh
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

// token signs a JSON web token; its certificate comes with it.
func (s *TokenServer) token(user string, access []map[string]any) string {
	block, _ := pem.Decode(s.Certificate)
	now := time.Now()
	enc := func(v any) string {
		b, _ := json.Marshal(v)
		return base64.RawURLEncoding.EncodeToString(b)
	}
	body := enc(map[string]any{"typ": "JWT", "alg": "ES256", "x5c": []string{base64.StdEncoding.EncodeToString(block.Bytes)}}) + "." +
		enc(map[string]any{
			"iss": "test", "sub": user, "aud": "test", "exp": now.Add(5 * time.Minute).Unix(), "nbf": now.Add(-time.Minute).Unix(),
			"iat": now.Unix(), "jti": rand.Text(), "access": access,
		})
	sum := sha256.Sum256([]byte(body))
	r, sig, err := ecdsa.Sign(rand.Reader, s.key, sum[:])
	if err != nil {
		return ""
	}
	raw := make([]byte, 64)
	r.FillBytes(raw[:32])
	sig.FillBytes(raw[32:])
	return body + "." + base64.RawURLEncoding.EncodeToString(raw)
}
