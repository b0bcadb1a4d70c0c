package api

import (
	"errors"
	"net/http"
	"strings"
)

// handlerFunc answers a request, or returns what went wrong.
type handlerFunc func(w http.ResponseWriter, r *http.Request) error

// route is a row of the table.
type route struct {
	method  string
	pattern string // at most one {name}, which takes all it can get
	handle  handlerFunc
	min     string // the least API version, "" for any
	kind    kind
}

// kind is what a route does with its connection, for middlewares.
type kind int

const (
	plain    kind = iota
	jsonBody      // takes a JSON body
	streams       // its answer has no end of its own
	hijacks       // changes the protocol
)

// table is every route there is, in the order in which they are tried: fixed
// paths stand before those with a name.
func (s *Server) table() []route {
	return []route{
		{http.MethodHead, "/_ping", s.ping, "", plain},
		{http.MethodGet, "/_ping", s.ping, "", plain},
		{http.MethodGet, "/version", s.version, "", plain},
		{http.MethodGet, "/info", s.info, "", plain},
		{http.MethodGet, "/events", s.events, "", streams},
		{http.MethodPost, "/auth", s.auth, "", jsonBody},
		{http.MethodGet, "/system/df", s.diskUsage, "", plain},

		{http.MethodGet, "/plugins", s.listPlugins, "", plain},
		{http.MethodGet, "/plugins/privileges", s.remotePrivileges, "", plain},
		{http.MethodPost, "/plugins/pull", s.pullPlugin, "", jsonBody},
		{http.MethodPost, "/plugins/create", s.createPlugin, "", plain},
		{http.MethodGet, "/plugins/{name}/json", s.inspectPlugin, "", plain},
		{http.MethodPost, "/plugins/{name}/enable", s.enablePlugin, "", plain},
		{http.MethodPost, "/plugins/{name}/disable", s.disablePlugin, "", plain},
		{http.MethodPost, "/plugins/{name}/set", s.setPlugin, "", jsonBody},
		{http.MethodPost, "/plugins/{name}/push", s.pushPlugin, "", plain},
		{http.MethodPost, "/plugins/{name}/upgrade", s.upgradePlugin, "1.26", jsonBody},
		{http.MethodDelete, "/plugins/{name}", s.removePlugin, "", plain},

		{http.MethodGet, "/volumes", s.listVolumes, "", plain},
		{http.MethodPost, "/volumes/create", s.createVolume, "", jsonBody},
		{http.MethodPost, "/volumes/prune", s.pruneVolumes, "", plain},
		{http.MethodGet, "/volumes/{name}", s.inspectVolume, "", plain},
		{http.MethodDelete, "/volumes/{name}", s.removeVolume, "", plain},

		{http.MethodGet, "/outlet/v1/info", s.outletInfo, "", plain},
		{http.MethodGet, "/outlet/v1/system/df", s.outletDiskUsage, "", plain},
		{http.MethodPost, "/outlet/v1/system/prune", s.pruneSystem, "", plain},
		{http.MethodGet, "/outlet/v1/system/check", s.checkSystem, "", plain},
		{http.MethodPost, "/outlet/v1/system/check", s.repairSystem, "", plain},
		{http.MethodGet, "/outlet/v1/discover", s.discover, "", plain},
		{http.MethodPost, "/outlet/v1/plugins/create", s.outletCreate, "", plain},
		{http.MethodGet, "/outlet/v1/plugins/privileges", s.outletPrivileges, "", plain},
		{http.MethodGet, "/outlet/v1/plugins/remote", s.outletRemote, "", plain},
		{http.MethodPost, "/outlet/v1/plugins/pull", s.outletPull, "", jsonBody},
		{http.MethodPost, "/outlet/v1/plugins/upgrade", s.outletUpgrade, "", jsonBody},
		{http.MethodPost, "/outlet/v1/plugins/push", s.outletPush, "", plain},
		{http.MethodPost, "/outlet/v1/plugins/enable", s.outletEnable, "", plain},
		{http.MethodPost, "/outlet/v1/plugins/set", s.outletSet, "", jsonBody},
		{http.MethodGet, "/outlet/v1/plugins/logs", s.logs, "", streams},
		{http.MethodPost, "/outlet/v1/plugins/call", s.call, "", jsonBody},
		{http.MethodPost, "/outlet/v1/plugins/exec", s.exec, "", hijacks},
		{http.MethodPost, "/outlet/v1/volumes/{name}/mount", s.mountVolume, "", jsonBody},
		{http.MethodPost, "/outlet/v1/volumes/{name}/unmount", s.unmountVolume, "", jsonBody},
	}
}

// boundRoute is a row made ready: its pattern cut at the name, its handler
// inside the middlewares.
type boundRoute struct {
	prefix, suffix string
	named          bool
	handler        http.Handler
}

// match says whether path is the route's, and the name it holds.
func (b *boundRoute) match(path string) (name string, ok bool) {
	if !b.named {
		return "", path == b.prefix
	}
	rest, ok := strings.CutPrefix(path, b.prefix)
	if !ok {
		return "", false
	}
	name, ok = strings.CutSuffix(rest, b.suffix)
	if !ok || name == "" || strings.HasSuffix(name, "/") {
		return "", false
	}
	return name, true
}

func (s *Server) bind(table []route) map[string][]boundRoute {
	routes := make(map[string][]boundRoute)
	for _, row := range table {
		b := boundRoute{handler: s.handler(row)}
		b.prefix, b.suffix, b.named = strings.Cut(row.pattern, "{name}")
		info := Route{
			Method: row.method, Pattern: row.pattern,
			Streams: row.kind == streams, Hijacks: row.kind == hijacks, JSONBody: row.kind == jsonBody,
		}
		for i := len(s.cfg.Middlewares) - 1; i >= 0; i-- {
			b.handler = s.cfg.Middlewares[i](info, b.handler)
		}
		routes[row.method] = append(routes[row.method], b)
	}
	return routes
}

// handler checks versions, calls the row's function and sends its error.
func (s *Server) handler(row route) http.Handler {
	return http.HandlerFunc(func(hw http.ResponseWriter, r *http.Request) {
		w, ok := hw.(*response)
		if !ok { // a middleware put its own writer between
			w = &response{ResponseWriter: hw}
		}
		err := checkVersion(requestedVersion(r))
		if err == nil && row.min != "" && before(r, row.min) {
			pattern := strings.Replace(row.pattern, "{name}", "{name:.*}", 1)
			err = invalid("%s %s requires minimum API version %s", row.method, pattern, row.min)
		}
		if err == nil {
			err = row.handle(w, r)
		}
		if err != nil && !errors.Is(err, errAnswered) {
			s.fail(w, r, err)
		}
	})
}
