// Package api serves Docker's Engine API, as far as plugins and volumes go, and
// Outlet's own extensions below /outlet/v1, over HTTP
// (docs/spec/engine-api.md). It parses requests, checks versions, turns error
// classes into statuses and encodes answers.
//
// It decides nothing about plugins: what a request means is up to the backends
// that package declares and its caller supplies. It does not know the manager,
// and it is not a client; that is package client.
package api

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// The versions of the Engine API that are spoken. 1.44 is the least that
// current clients accept as the highest; 1.52 changed answers.
const (
	MaxVersion = "1.51"
	MinVersion = "1.25"
)

// Config is what a [Server] is made of.
type Config struct {
	// Plugins, Volumes, System and Events are required.
	Plugins PluginBackend
	Volumes VolumeBackend
	System  SystemBackend
	Events  EventSource
	// Registries may be nil: then the routes that need a registry say so.
	Registries RegistryBackend
	// Version is Outlet's version, shown in the Server header.
	Version string
	// Logger may be nil, which discards.
	Logger *slog.Logger
	// Middlewares are put around every route, the first outermost. They run
	// after the route is known and before the version is checked or the body
	// read: the place for authorization.
	Middlewares []Middleware
	// Hosts are further names by which clients may address a TCP listener,
	// beside addresses, localhost and the name of the TLS handshake.
	Hosts []string
	// StatePaths are directories whose paths are left out of the text of
	// server errors unless the caller is root.
	StatePaths []string
	// MaxConnections bounds open connections; 0 is 4096.
	MaxConnections int
	// BodyTimeout is how long one read of a request's body may take; 0 is one
	// minute.
	BodyTimeout time.Duration
	// OperationTimeout bounds what goes on although its client hung up; 0 is
	// ten minutes.
	OperationTimeout time.Duration
}

// Middleware wraps the handler of a route.
type Middleware func(rt Route, next http.Handler) http.Handler

// Route describes a route to a [Middleware].
type Route struct {
	Method  string
	Pattern string // for example /plugins/{name}/json
	// Streams says that the answer goes on for as long as the client likes, so
	// that it cannot be held back.
	Streams bool
	// Hijacks says that the connection changes its protocol.
	Hijacks bool
	// JSONBody says that the body is JSON and bounded.
	JSONBody bool
}

// Server answers requests. It is an [http.Handler], and can serve listeners
// itself.
type Server struct {
	cfg    Config
	log    *slog.Logger
	routes map[string][]boundRoute // by method, in the order of the table
	cache  pluginCache
	hosts  map[string]bool
	http   *http.Server
	conns  *connTable

	// life ends when the server shuts down: streams and the processes that are
	// run for a client end with it.
	life context.Context //nolint:containedctx // a life cycle beside its cancel
	quit context.CancelFunc

	mu       sync.Mutex
	closing  bool           // no session is begun any more
	sessions sync.WaitGroup // hijacked connections, which net/http forgets
}

// New returns a server that is not yet serving.
func New(cfg Config) (*Server, error) {
	if cfg.Plugins == nil || cfg.Volumes == nil || cfg.System == nil || cfg.Events == nil {
		return nil, errors.New("api: a backend is missing")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Version == "" {
		cfg.Version = "unknown"
	}
	if cfg.MaxConnections <= 0 {
		cfg.MaxConnections = 4096
	}
	if cfg.BodyTimeout <= 0 {
		cfg.BodyTimeout = time.Minute
	}
	if cfg.OperationTimeout <= 0 {
		cfg.OperationTimeout = 10 * time.Minute
	}
	s := &Server{cfg: cfg, log: cfg.Logger, conns: newConnTable(cfg.MaxConnections)}
	s.life, s.quit = context.WithCancel(context.Background())
	s.cache.revisions, _ = cfg.Plugins.(Revisioner)
	s.hosts = allowedHosts(cfg.Hosts)
	s.routes = s.bind(append(s.table(), s.archiveRoutes()...))
	s.http = s.newHTTPServer()
	return s, nil
}

// detached returns a context for what must not stop when the client hangs up.
func (s *Server) detached(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(r.Context()), s.cfg.OperationTimeout)
}

// change does what must not stop when the client hangs up, and answers with code
// and no body.
func (s *Server) change(w http.ResponseWriter, r *http.Request, code int, do func(ctx context.Context) error) error {
	ctx, cancel := s.detached(r)
	defer cancel()
	if err := do(ctx); err != nil {
		return err
	}
	w.WriteHeader(code)
	return nil
}

// streaming returns a context that ends with the request or with the server.
func (s *Server) streaming(r *http.Request) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(r.Context())
	stop := context.AfterFunc(s.life, cancel)
	return ctx, func() { stop(); cancel() }
}

// isTCP says whether the request came over the network, from where browsers can
// be made to send requests.
func isTCP(r *http.Request) bool {
	addr, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return ok && addr.Network() == "tcp"
}
