package registrytest

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// Fault spoils the answer to a request, or answers itself. next asks the
// registry. n counts the requests it is asked about, from 1.
type Fault func(w http.ResponseWriter, r *http.Request, n int, next http.Handler)

// Proxy stands before a registry and makes faults.
type Proxy struct {
	Host string

	mu     sync.Mutex
	rules  []*rule
	served map[string]int
	auths  []string
}

type rule struct {
	part  string
	fault Fault
	n     int
}

// Before starts a proxy before a registry.
func Before(t testing.TB, r *Registry) *Proxy {
	t.Helper()
	target := &url.URL{Scheme: "http", Host: r.Host}
	rp := httputil.NewSingleHostReverseProxy(target)
	rp.FlushInterval = -1
	transport := &http.Transport{}
	rp.Transport = transport
	rp.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	p := &Proxy{served: make(map[string]int)}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		p.mu.Lock()
		p.served[req.Method+" "+req.URL.Path]++
		p.auths = append(p.auths, req.Header.Get("Authorization"))
		var found *rule
		for _, ru := range p.rules {
			if strings.Contains(req.Method+" "+req.URL.Path, ru.part) {
				ru.n++
				found = ru
				break
			}
		}
		var n int
		if found != nil {
			n = found.n
		}
		p.mu.Unlock()
		if found != nil {
			found.fault(w, req, n, rp)
			return
		}
		rp.ServeHTTP(w, req)
	}))
	srv.Start()
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
		transport.CloseIdleConnections()
	})
	p.Host = srv.Listener.Addr().String()
	return p
}

// On has requests whose method and path contain part answered by fault. The
// first rule that fits counts.
func (p *Proxy) On(part string, fault Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = append(p.rules, &rule{part: part, fault: fault})
}

// Served counts the requests whose method and path contain part.
func (p *Proxy) Served(part string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for k, v := range p.served {
		if strings.Contains(k, part) {
			n += v
		}
	}
	return n
}

// Authorizations are the headers of that name that came.
func (p *Proxy) Authorizations() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.auths...)
}

// Times makes a fault that happens to the first n requests only.
func Times(n int, f Fault) Fault {
	return func(w http.ResponseWriter, r *http.Request, k int, next http.Handler) {
		if k > n {
			next.ServeHTTP(w, r)
			return
		}
		f(w, r, k, next)
	}
}

// Status answers with a status and headers.
func Status(code int, header ...string) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ int, _ http.Handler) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
	}
}

// Cut passes on n bytes of the body, then breaks the connection.
func Cut(n int) Fault {
	return func(w http.ResponseWriter, r *http.Request, _ int, next http.Handler) {
		next.ServeHTTP(&spoiled{ResponseWriter: w, left: n, end: func() { panic(http.ErrAbortHandler) }}, r)
	}
}

// Stall passes on n bytes of the body, then nothing until the client goes.
func Stall(n int) Fault {
	return func(w http.ResponseWriter, r *http.Request, _ int, next http.Handler) {
		next.ServeHTTP(&spoiled{ResponseWriter: w, left: n, end: func() {
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			panic(http.ErrAbortHandler)
		}}, r)
	}
}

// Flip changes the body's byte at n.
func Flip(n int) Fault {
	return func(w http.ResponseWriter, r *http.Request, _ int, next http.Handler) {
		next.ServeHTTP(&flipped{ResponseWriter: w, at: n}, r)
	}
}

// Slow waits before each piece of the body.
func Slow(d time.Duration) Fault {
	return func(w http.ResponseWriter, r *http.Request, _ int, next http.Handler) {
		next.ServeHTTP(&slowed{ResponseWriter: w, d: d, done: r.Context().Done()}, r)
	}
}

// Endless answers with a body that does not end.
func Endless(contentType string) Fault {
	return func(w http.ResponseWriter, r *http.Request, _ int, _ http.Handler) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(http.StatusOK)
		junk := []byte(strings.Repeat(" ", 64<<10))
		for r.Context().Err() == nil {
			if _, err := w.Write(junk); err != nil {
				return
			}
		}
	}
}

// Redirect sends the client to the same path elsewhere.
func Redirect(host string) Fault {
	return func(w http.ResponseWriter, r *http.Request, _ int, _ http.Handler) {
		http.Redirect(w, r, "http://"+host+r.URL.Path, http.StatusTemporaryRedirect)
	}
}

type spoiled struct {
	http.ResponseWriter
	left int
	end  func()
}

func (s *spoiled) Write(p []byte) (int, error) {
	if len(p) <= s.left {
		s.left -= len(p)
		return s.ResponseWriter.Write(p)
	}
	_, _ = s.ResponseWriter.Write(p[:s.left])
	_ = http.NewResponseController(s.ResponseWriter).Flush()
	s.end()
	return 0, net.ErrClosed
}

type flipped struct {
	http.ResponseWriter
	at, n int
}

func (f *flipped) Write(p []byte) (int, error) {
	if f.at >= f.n && f.at < f.n+len(p) {
		p = append([]byte(nil), p...)
		p[f.at-f.n] ^= 0xff
	}
	f.n += len(p)
	return f.ResponseWriter.Write(p)
}

type slowed struct {
	http.ResponseWriter
	d    time.Duration
	done <-chan struct{}
}

func (s *slowed) Write(p []byte) (int, error) {
	n := 0
	for len(p) > 0 {
		t := time.NewTimer(s.d)
		select {
		case <-t.C:
		case <-s.done:
			t.Stop()
			return n, net.ErrClosed
		}
		k := min(len(p), 16<<10)
		m, err := s.ResponseWriter.Write(p[:k])
		_ = http.NewResponseController(s.ResponseWriter).Flush()
		n += m
		if err != nil {
			return n, err
		}
		p = p[k:]
	}
	return n, nil
}

func (s *slowed) Unwrap() http.ResponseWriter { return s.ResponseWriter }
