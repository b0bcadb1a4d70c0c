package registry

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/outletd/outlet"
	rt "github.com/outletd/outlet/internal/testutil/registrytest"
)

// stranger is a server that answers as f does.
func stranger(t *testing.T, f http.HandlerFunc) string {
	t.Helper()
	srv := httptest.NewServer(f)
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	return srv.Listener.Addr().String()
}

// flood sends b again and again until its client goes, and counts the bytes it
// could get rid of.
type flood struct{ sent atomic.Int64 }

func (f *flood) write(w http.ResponseWriter, r *http.Request, b []byte) {
	for r.Context().Err() == nil {
		n, err := w.Write(b)
		f.sent.Add(int64(n))
		if err != nil {
			return
		}
	}
}

// drip sends b byte by byte, so slowly that it never stands still.
func drip(w http.ResponseWriter, r *http.Request, b []byte) {
	for i := 0; ; i++ {
		_, _ = w.Write(b[i%len(b) : i%len(b)+1])
		_ = http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// allocated is how much memory f asked for in all, and so at least as much as it
// ever had.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

const (
	// inFlight is what kernels hold of a connection over loopback.
	inFlight = 16 << 20
	mebibyte = 1 << 20
)

func TestWhatStrangersSendIsBounded(t *testing.T) {
	junk := bytes.Repeat([]byte(" "), 64<<10)
	const manifests, token = "/v2/a/b/manifests/1", "/token"
	unauthorized := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Www-Authenticate", `Bearer realm="http://`+r.Host+token+`",service="x"`)
		w.WriteHeader(http.StatusUnauthorized)
	}
	packed := rt.Gzip(t, []byte(`{"token":"`+strings.Repeat("a", 100*mebibyte)+`"}`))
	for name, tt := range map[string]struct {
		on    string // the path that is answered with answer; others ask for a token
		fails string
		class error
		f     func(*flood, http.ResponseWriter, *http.Request)
	}{
		"a manifest without end": {manifests, "the manifest is larger than", errdefs.ErrInvalidArgument, func(f *flood, w http.ResponseWriter, r *http.Request) {
			f.write(w, r, junk)
		}},
		"a manifest that says how long it is": {manifests, "the manifest is larger than", errdefs.ErrInvalidArgument, func(_ *flood, w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(100*mebibyte))
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}},
		"a manifest in drops": {manifests, "did not finish its answer within 1s", errdefs.ErrInternal, func(_ *flood, w http.ResponseWriter, r *http.Request) {
			drip(w, r, []byte(" "))
		}},
		"a manifest that is shorter than it says": {manifests, "read the manifest: unexpected EOF", errdefs.ErrInternal, func(_ *flood, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "{}")
		}},
		"a manifest that is longer than it says": {manifests, "the manifest is not JSON", errdefs.ErrInvalidArgument, func(_ *flood, w http.ResponseWriter, _ *http.Request) {
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer c.Close()
			fmt.Fprint(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\n"+`{"schemaVersion":2}`)
		}},
		"an error without end": {manifests, "403 aaaa", errdefs.ErrPermissionDenied, func(f *flood, w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			f.write(w, r, bytes.Repeat([]byte("a"), 64<<10))
		}},
		"an error in drops": {manifests, "403 a", errdefs.ErrPermissionDenied, func(_ *flood, w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			drip(w, r, []byte("a"))
		}},
		"an error for a terminal": {manifests, "403  [2Jpay [31m � first", errdefs.ErrPermissionDenied, func(_ *flood, w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, "\x1b[2Jpay\u009b[31m\u202e\xff\nfirst")
		}},
		"failures without end": {manifests, "503 service unavailable", errdefs.ErrInternal, func(f *flood, w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
			f.write(w, r, junk)
		}},
		"a challenge without end": {manifests, "401 aaaa", errdefs.ErrUnauthenticated, func(f *flood, w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusUnauthorized)
			f.write(w, r, bytes.Repeat([]byte("a"), 64<<10))
		}},
		"a token without end": {token, "unexpected EOF", errdefs.ErrInternal, func(f *flood, w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, `{"token":"`)
			f.write(w, r, bytes.Repeat([]byte("a"), 64<<10))
		}},
		"a token of 100 MB": {token, "unexpected EOF", errdefs.ErrInternal, func(f *flood, w http.ResponseWriter, _ *http.Request) {
			n, _ := io.WriteString(w, `{"token":"`+strings.Repeat("a", 100*mebibyte)+`"}`)
			f.sent.Add(int64(n))
		}},
		"a token that unpacks to 100 MB": {token, "unexpected EOF", errdefs.ErrInternal, func(_ *flood, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(packed) // the client hangs up
		}},
		"a token in drops": {token, "did not finish its answer within 1s", errdefs.ErrInternal, func(_ *flood, w http.ResponseWriter, r *http.Request) {
			drip(w, r, []byte(" "))
		}},
		"a refusal of the token server without end": {token, "403 aaaa", errdefs.ErrPermissionDenied, func(f *flood, w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			f.write(w, r, bytes.Repeat([]byte("a"), 64<<10))
		}},
		"a token server that sends back to itself": {token, "10 redirects", errdefs.ErrInternal, func(_ *flood, w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path+"x", http.StatusTemporaryRedirect)
		}},
		"ever new places": {manifests, "10 redirects", errdefs.ErrInternal, func(_ *flood, w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path+"/x", http.StatusFound)
		}},
		"a place that cannot be read": {manifests, "", errdefs.ErrInternal, func(_ *flood, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://[::"+strings.Repeat("x", 100<<10))
			w.WriteHeader(http.StatusFound)
		}},
		"a realm that cannot be read": {manifests, "missing ']' in host", errdefs.ErrInternal, func(_ *flood, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Www-Authenticate", `Bearer realm="http://[::`+strings.Repeat("x", 100<<10)+`"`)
			w.WriteHeader(http.StatusUnauthorized)
		}},
		"a realm of another scheme": {manifests, "unsupported protocol scheme", errdefs.ErrInternal, func(_ *flood, w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Www-Authenticate", `Bearer realm="file:///etc/shadow"`)
			w.WriteHeader(http.StatusUnauthorized)
		}},
		"headers of a megabyte": {manifests, "headers", errdefs.ErrInternal, func(_ *flood, w http.ResponseWriter, _ *http.Request) {
			for i := range 10_000 {
				w.Header().Add("Www-Authenticate", fmt.Sprintf(`Bearer realm="http://127.0.0.1:1/token",service="s",scope="repository:%d:pull,%s"`, i, strings.Repeat("x", 60)))
			}
			w.WriteHeader(http.StatusUnauthorized)
		}},
		"a manifest with a number of 3 MB": {manifests, "the manifest is not JSON", errdefs.ErrInvalidArgument, func(_ *flood, w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"schemaVersion":2,"config":{"size":1`+strings.Repeat("1", 3*mebibyte)+`}}`)
		}},
		"a manifest of a strange type": {manifests, "are not supported", errdefs.ErrInvalidArgument, func(_ *flood, w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"schemaVersion":2,"mediaType":"`+strings.Repeat("x", 3*mebibyte)+`"}`)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var sent flood
			host := stranger(t, func(w http.ResponseWriter, r *http.Request) {
				if strings.HasPrefix(r.URL.Path, tt.on) {
					tt.f(&sent, w, r)
				} else {
					unauthorized(w, r)
				}
			})
			c := client(t, func(c *Config) {
				c.AnswerTimeout, c.DocumentTimeout, c.Attempts = 30*time.Second, 30*time.Second, 2
				if strings.HasSuffix(name, " in drops") {
					c.DocumentTimeout = time.Second
				}
			})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			_, err := open(t, c, host+"/a/b:1", outlet.RegistryAuth{}).Resolve(ctx)
			if err == nil || !strings.Contains(err.Error(), tt.fails) || !errors.Is(err, tt.class) {
				t.Errorf("got %.2000v", err)
			}
			if err != nil && (len(err.Error()) > 4<<10 || strings.ContainsFunc(err.Error(), func(r rune) bool { return !unicode.IsPrint(r) })) {
				t.Errorf("the error has %d bytes: %.200q", len(err.Error()), err)
			}
			if n := sent.sent.Load(); n > inFlight {
				t.Errorf("%d bytes of it were read", n)
			}
		})
	}
}

func TestBlobsOfStrangersAreBounded(t *testing.T) {
	const content = `{"description":"x"}`
	for name, tt := range map[string]struct {
		size  int64
		fails string
		f     http.HandlerFunc
	}{
		"one without end is read as far as it is known": {int64(len(content)), "", func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, content)
			new(flood).write(w, r, bytes.Repeat([]byte(" "), 64<<10))
		}},
		"in drops": {int64(len(content)) + 1000, "did not finish its answer within 1s", func(w http.ResponseWriter, r *http.Request) {
			drip(w, r, []byte(content))
		}},
		"a byte a connection": {int64(len(content)), "broke off after", func(w http.ResponseWriter, r *http.Request) {
			var at int
			_, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &at)
			w.Header().Set("Content-Length", fmt.Sprint(len(content)-at))
			if err == nil {
				w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", at, len(content)-1, len(content)))
				w.WriteHeader(http.StatusPartialContent)
			}
			fmt.Fprint(w, content[at:at+1])
		}},
		"one that says it is longer": {int64(len(content)), "it has 1000 bytes where the manifest says 19", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			fmt.Fprint(w, content)
		}},
		"one that says it is shorter": {int64(len(content)), "it has 18 bytes where the manifest says 19", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "18")
			fmt.Fprint(w, content[:18])
		}},
		"one that is packed": {int64(len(content)), `it sent it encoded as "gzip", unasked`, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			fmt.Fprint(z, content)
			_ = z.Close()
		}},
		"another range than it was asked for": {int64(len(content)), `it was asked for bytes from 4 and sent "bytes 0-18/19"`, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "" {
				w.Header().Set("Content-Range", "bytes 0-18/19")
				w.WriteHeader(http.StatusPartialContent)
				fmt.Fprint(w, content)
				return
			}
			w.Header().Set("Content-Length", fmt.Sprint(len(content)))
			fmt.Fprint(w, content[:4])
		}},
		"a config that is too large": {mebibyte + 1, "the config is larger than 1048576 bytes", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			host := stranger(t, func(w http.ResponseWriter, r *http.Request) { tt.f(w, r) })
			c := client(t, func(c *Config) {
				if c.Attempts = 3; name == "in drops" {
					c.DocumentTimeout = time.Second
				}
			})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			desc := ocispec.Descriptor{Digest: digest.FromString(content), Size: tt.size}
			got, err := open(t, c, host+"/a/b:1", outlet.RegistryAuth{}).Config(ctx, desc)
			if tt.fails == "" && (err != nil || string(got) != content) || tt.fails != "" && (err == nil || !strings.Contains(err.Error(), tt.fails)) {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

// A layer may take as long as it takes, if only it goes on.
func TestABlobHasNoTimeToBeThroughIn(t *testing.T) {
	content := strings.Repeat("x", 30)
	host := stranger(t, func(w http.ResponseWriter, _ *http.Request) {
		for i := range content {
			fmt.Fprint(w, content[i:i+1])
			_ = http.NewResponseController(w).Flush()
			<-time.After(10 * time.Millisecond)
		}
	})
	c := client(t, func(c *Config) { c.DocumentTimeout = 50 * time.Millisecond; c.Attempts = 1 })
	b := open(t, c, host+"/a/b:1", outlet.RegistryAuth{}).Blob(t.Context(), ocispec.Descriptor{Digest: digest.FromString(content), Size: int64(len(content))}, 0)
	defer b.Close()
	if got, err := io.ReadAll(b); err != nil || string(got) != content {
		t.Errorf("got %q, %v", got, err)
	}
}

// numbered is as many empty annotations.
func numbered(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"%d":"",`, i)
	}
	return b.String()
}

func TestLongListsTakeLittleMemory(t *testing.T) {
	const head = `{"schemaVersion":2,"mediaType":"` + rt.TypeOCIIndex + `","manifests":[`
	entry := `{"digest":"` + someDigest + `"},`
	for name, tt := range map[string]struct{ doc, fails string }{
		"100 000 entries":           {head + strings.Repeat(entry, 99_999) + strings.TrimSuffix(entry, ",") + "]}", "more than 10000 manifests"},
		"a million of nothing":      {head + strings.Repeat("{},", 1_300_000) + "{}]}", "more than 10000 manifests"},
		"a million layers":          {strings.Replace(head, "manifests", "layers", 1) + strings.Repeat("{},", 1_300_000) + "{}]}", "more than 10000 manifests or layers"},
		"a million URLs":            {head + `{"urls":["` + strings.Repeat(`","`, 1_300_000) + `"]}]}`, "manifests: invalid checksum digest format"},
		"a million features":        {head + `{"platform":{"os.features":["` + strings.Repeat(`","`, 1_300_000) + `"]}}]}`, "manifests: invalid checksum digest format"},
		"a megabyte of data":        {head + `{"data":"` + strings.Repeat("aaaa", mebibyte) + `"}]}`, "manifests: invalid checksum digest format"},
		"300 000 annotations":       {head + `{"annotations":{` + strings.TrimSuffix(numbered(300_000), ",") + `}}]}`, "manifests: invalid checksum digest format"},
		"an annotation of 4 MB":     {head + `{"annotations":{"a":"` + strings.Repeat("aaaa", mebibyte) + `"}}]}`, "manifests: invalid checksum digest format"},
		"another list in each list": {head + strings.Repeat(`{"manifests":[`, 100_000), "not JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			raw := []byte(tt.doc)
			var err error
			n := allocated(func() { _, err = ParseManifest(raw, rt.TypeOCIIndex) })
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tt.fails) {
				t.Errorf("got %v", err)
			}
			if n > 80*mebibyte {
				t.Errorf("%d bytes of a document took %d of memory", len(raw), n)
			}
		})
	}
}

func TestDigestsThatRegistriesSay(t *testing.T) {
	doc := `{"schemaVersion":2,"mediaType":"` + rt.TypeOCIIndex + `","manifests":[]}`
	long := digest.SHA512.FromString(doc)
	for name, tt := range map[string]struct{ said, ref, fails string }{
		"none":                            {"", ":1", ""},
		"the right one":                   {digest.FromString(doc).String(), ":1", ""},
		"the right one of another kind":   {long.String(), ":1", ""},
		"something that is none":          {"sha256:zz", ":1", ""},
		"one of a kind nobody knows":      {"sha3:" + strings.Repeat("0", 64), ":1", ""},
		"a wrong one":                     {someDigest, ":1", "it sent a manifest of digest"},
		"a wrong one of another kind":     {digest.SHA512.FromString("x").String(), ":1", "it sent a manifest of digest"},
		"a wrong one for what is right":   {someDigest, "@" + digest.FromString(doc).String(), ""},
		"what was asked for, being wrong": {someDigest, "@" + someDigest, "it sent a manifest of digest"},
		"asked for by another kind":       {"", "@" + long.String(), ""},
	} {
		t.Run(name, func(t *testing.T) {
			host := stranger(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", rt.TypeOCIIndex)
				w.Header().Set("Docker-Content-Digest", tt.said)
				fmt.Fprint(w, doc)
			})
			m, err := open(t, client(t), host+"/a/b"+tt.ref, outlet.RegistryAuth{}).Resolve(t.Context())
			if tt.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fails) {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil || m.Descriptor.Digest != digest.FromString(doc) {
				t.Errorf("got %s, %v", m.Descriptor.Digest, err)
			}
		})
	}
}

func TestEntriesAreWhatTheirIndexSays(t *testing.T) {
	doc := `{"schemaVersion":2,"mediaType":"` + rt.TypeOCIIndex + `","manifests":[]}`
	host := stranger(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, doc) })
	right := ocispec.Descriptor{MediaType: rt.TypeOCIIndex, Digest: digest.FromString(doc), Size: int64(len(doc))}
	for name, tt := range map[string]struct {
		change func(*ocispec.Descriptor)
		fails  string
	}{
		"right":                {func(*ocispec.Descriptor) {}, ""},
		"without a type":       {func(d *ocispec.Descriptor) { d.MediaType = "" }, ""},
		"another type":         {func(d *ocispec.Descriptor) { d.MediaType = rt.TypeOCI }, `calls the manifest ` + string(right.Digest) + ` "` + rt.TypeOCI + `", it is "` + rt.TypeOCIIndex + `"`},
		"longer":               {func(d *ocispec.Descriptor) { d.Size++ }, "bytes, it has"},
		"empty":                {func(d *ocispec.Descriptor) { d.Size = 0 }, "has 0 bytes, it has"},
		"longer than anybody":  {func(d *ocispec.Descriptor) { d.Size = 1 << 60 }, "the manifest is larger than"},
		"another digest":       {func(d *ocispec.Descriptor) { d.Digest = someDigest }, "it sent a manifest of digest"},
		"a digest that is not": {func(d *ocispec.Descriptor) { d.Digest = "sha256:../../x" }, "invalid checksum digest"},
	} {
		t.Run(name, func(t *testing.T) {
			d := right
			tt.change(&d)
			_, err := open(t, client(t), host+"/a/b:1", outlet.RegistryAuth{}).Manifest(t.Context(), d)
			if tt.fails == "" && err != nil || tt.fails != "" && (err == nil || !strings.Contains(err.Error(), tt.fails)) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestTokenServersAreNotFollowedWithASecret(t *testing.T) {
	var mu sync.Mutex
	var heard []string
	elsewhere := stranger(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		mu.Lock()
		heard = append(heard, r.Method+" "+r.Header.Get("Authorization")+" "+string(body)+" "+r.URL.RawQuery)
		mu.Unlock()
		fmt.Fprint(w, `{"token":"t","access_token":"t"}`)
	})
	for _, status := range []int{http.StatusFound, http.StatusTemporaryRedirect, http.StatusPermanentRedirect} {
		for name, auth := range map[string]outlet.RegistryAuth{
			"password": {Username: "me", Password: "hush"}, "identity token": {IdentityToken: "hush"}, "nobody": {},
		} {
			t.Run(fmt.Sprint(status, " ", name), func(t *testing.T) {
				host := stranger(t, func(w http.ResponseWriter, r *http.Request) {
					switch {
					case r.URL.Path == "/token":
						http.Redirect(w, r, "http://"+elsewhere+"/token?"+r.URL.RawQuery, status)
					case r.Header.Get("Authorization") == "Bearer t":
						w.WriteHeader(http.StatusNotFound)
					default:
						w.Header().Set("Www-Authenticate", `Bearer realm="http://`+r.Host+`/token",service="x"`)
						w.WriteHeader(http.StatusUnauthorized)
					}
				})
				r := open(t, client(t), host+"/a/b:1", auth)
				if _, err := r.Resolve(t.Context()); err == nil {
					t.Error("it found something")
				}
				auth.ServerAddress = host
				_, _ = client(t).Login(t.Context(), auth) // that it says nothing is what matters
			})
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(heard) == 0 {
		t.Error("nobody was sent on, though there was no secret")
	}
	for _, h := range heard {
		if strings.Contains(h, "hush") || strings.Contains(h, "Basic") {
			t.Errorf("the other host heard %q", h)
		}
	}
}

// secureStranger is a server with a certificate that the client knows, at an
// address where nothing else would do.
func secureStranger(t *testing.T, f http.HandlerFunc) (host string, known func(*Config)) {
	t.Helper()
	ip := outside(t)
	cert, key := rt.Certificate(t, ip)
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(f)
	srv.Listener.Close()
	srv.Listener, srv.TLS = l, &tls.Config{Certificates: []tls.Certificate{pair}}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	host = l.Addr().String()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, host), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, host, "ca.crt"), cert, 0o600); err != nil {
		t.Fatal(err)
	}
	return host, func(c *Config) { c.CertsDirs = []string{dir}; c.Attempts = 1 }
}

func TestASecureRegistryCannotSendItsClientsIntoTheOpen(t *testing.T) {
	var asked atomic.Int64
	plain := stranger(t, func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		fmt.Fprint(w, `{"token":"t","schemaVersion":2}`)
	})
	auth := outlet.RegistryAuth{Username: "me", Password: "hush"}
	for name, f := range map[string]http.HandlerFunc{
		"by a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://"+plain+r.URL.Path, http.StatusTemporaryRedirect)
		},
		"by a redirect to itself": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://"+r.Host+r.URL.Path, http.StatusTemporaryRedirect)
		},
		"by a token server": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Www-Authenticate", `Bearer realm="http://`+plain+`/token",service="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		},
		"by a redirect of its token server": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/token" {
				http.Redirect(w, r, "http://"+plain+r.URL.Path, http.StatusFound)
				return
			}
			w.Header().Set("Www-Authenticate", `Bearer realm="https://`+r.Host+`/token",service="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		},
	} {
		t.Run(name, func(t *testing.T) {
			host, known := secureStranger(t, f)
			for _, a := range []outlet.RegistryAuth{{}, auth} {
				_, err := open(t, client(t, known), host+"/a/b:1", a).Resolve(t.Context())
				if err == nil || !strings.Contains(err.Error(), "plain HTTP") {
					t.Errorf("got %v", err)
				}
				a.ServerAddress = host
				if _, err := client(t, known).Login(t.Context(), a); err == nil {
					t.Error("login succeeded")
				}
			}
		})
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("it was asked %d times over plain HTTP", n)
	}
}

func TestAnswersAreAskedForAsTheyAre(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	host := stranger(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.Header.Get("Accept-Encoding"))
		mu.Unlock()
		w.Header().Set("Content-Type", rt.TypeOCIIndex)
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		fmt.Fprint(z, `{"schemaVersion":2,"manifests":[]}`)
		_ = z.Close()
	})
	_, err := open(t, client(t), host+"/a/b:1", outlet.RegistryAuth{}).Resolve(t.Context())
	if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "not JSON") {
		t.Errorf("a manifest that is packed: %v", err)
	}
	for _, a := range asked {
		if a != "identity" {
			t.Errorf("it was told that %q is understood", a)
		}
	}
}

func TestClippedTextIsText(t *testing.T) {
	long := clip("a" + strings.Repeat("ä", maxErrorText))
	if !utf8.ValidString(long) || len(long) > maxErrorText+4 || !strings.HasSuffix(long, "ä…") {
		t.Errorf("%q", long)
	}
	if got := clip("a\u009b31m\u202eb\x1b\xffc\u200b"); got != "a 31m b �c " {
		t.Errorf("%q", got)
	}
}

func TestWhatCameInDropsIsNotAskedForAgain(t *testing.T) {
	var asked atomic.Int64
	host := stranger(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		drip(w, r, []byte(" "))
	})
	c := client(t, func(c *Config) { c.DocumentTimeout = 100 * time.Millisecond })
	if _, err := open(t, c, host+"/a/b:1", outlet.RegistryAuth{}).Resolve(t.Context()); !errors.Is(err, errLate) || asked.Load() != 1 {
		t.Errorf("it was asked %d times, and then %v", asked.Load(), err)
	}
}

func TestATokenForABlobIsADocument(t *testing.T) {
	host := stranger(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			drip(w, r, []byte(" "))
			return
		}
		w.Header().Set("Www-Authenticate", `Bearer realm="http://`+r.Host+`/token",service="x"`)
		w.WriteHeader(http.StatusUnauthorized)
	})
	c := client(t, func(c *Config) { c.DocumentTimeout = 100 * time.Millisecond })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	b := open(t, c, host+"/a/b:1", outlet.RegistryAuth{}).Blob(ctx, ocispec.Descriptor{Digest: someDigest, Size: 1}, 0)
	defer b.Close()
	if _, err := io.ReadAll(b); !errors.Is(err, errLate) {
		t.Errorf("got %v", err)
	}
}

func TestAThousandChallengesAreAnsweredOnce(t *testing.T) {
	var tokens, asked atomic.Int64
	host := stranger(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			tokens.Add(1)
			fmt.Fprint(w, `{"token":"t"}`)
			return
		}
		asked.Add(1)
		for i := range 1000 {
			w.Header().Add("Www-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="s%d"`, r.Host, i))
		}
		w.WriteHeader(http.StatusUnauthorized)
	})
	_, err := open(t, client(t), host+"/a/b:1", outlet.RegistryAuth{}).Resolve(t.Context())
	if !errdefs.IsUnauthorized(err) {
		t.Errorf("got %v", err)
	}
	if n, m := tokens.Load(), asked.Load(); n == 0 || n > 2 || m > 1+maxChallenges {
		t.Errorf("the token server was asked %d times, the registry %d times", n, m)
	}
}

// roundTripper answers requests without a network.
type roundTripper func(*http.Request) *http.Response

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r), nil }

func FuzzChallenge(f *testing.F) {
	for _, s := range []string{
		`Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull"`,
		`Basic realm="x"`, `Digest realm="x",nonce="y"`, `Bearer realm="http://auth.example/token"`, `Bearer`, `Bearer realm=`,
		`bearer realm="https://auth.example/a\"b",error="invalid_token"`, `Bearer realm="https://u:p@auth.example/?a=b#c",scope="  "`, `Negotiate`, "Bearer realm=\"file:///etc/shadow\"",
	} {
		f.Add(s, false)
		f.Add(s, true)
	}
	c, err := New(Config{Attempts: 1})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, challenge string, again bool) {
		e := &endpoint{}
		e.Host, e.Scheme, e.Path = "registry.example", "https", "/v2"
		var asked []*http.Request
		network := roundTripper(func(r *http.Request) *http.Response {
			asked = append(asked, r)
			body, status := `{"token":"t","access_token":"t"}`, http.StatusOK
			if r.URL.Host == e.Host && r.Header.Get("Authorization") == "" {
				body, status = "", http.StatusUnauthorized
			}
			return &http.Response{
				StatusCode: status, Status: http.StatusText(status), Request: r, Body: io.NopCloser(strings.NewReader(body)),
				Header: http.Header{"Www-Authenticate": {challenge}},
			}
		})
		e.client = &http.Client{Transport: network}
		tokens := &http.Client{Transport: &tokenTransport{base: network}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		auth := outlet.RegistryAuth{Username: "me", Password: "hush"}
		if again {
			auth = outlet.RegistryAuth{IdentityToken: "hush"}
		}
		e.auth = newAuthorizer(e, tokens, auth)
		_, _ = c.login(t.Context(), e, auth)
		ref, err := reference.ParseNormalizedNamed("registry.example/a/b:1")
		if err != nil {
			t.Fatal(err)
		}
		r := &Repository{c: c, ref: ref, endpoints: []*endpoint{e}, distrusted: make(map[distrust]bool)}
		if _, err := r.Resolve(t.Context()); err != nil && (len(err.Error()) > 8<<10 || strings.Contains(err.Error(), "hush")) {
			t.Errorf("the error is %.300q", err)
		}
		if len(asked) > 12 {
			t.Errorf("%d requests", len(asked))
		}
		for _, r := range asked {
			if r.URL.Scheme != "https" {
				t.Errorf("%s was asked in plain", r.URL)
			}
			if strings.Contains(r.URL.RawQuery, "hush") {
				t.Errorf("the secret is in %s", r.URL)
			}
		}
	})
}
