package api

import (
	"net/http"
	"runtime"
	"strconv"
)

// Version is what a [SystemBackend] tells of what runs here. Empty fields are
// filled in where this package knows better.
type Version struct {
	Version       string // Outlet's
	GitCommit     string
	BuildTime     string // RFC 3339
	KernelVersion string
	// Components are those beside Outlet itself, for example runc.
	Components []Component
}

// Component is a part of what runs here.
type Component struct {
	Name    string
	Version string
	Details map[string]string `json:",omitempty"`
}

// versionAnswer is the wire form of docs/spec/engine-api.md §7.2.
type versionAnswer struct {
	Platform      struct{ Name string }
	Version       string
	APIVersion    string `json:"ApiVersion"`
	MinAPIVersion string
	Os            string
	Arch          string
	Components    []Component
	GitCommit     string
	GoVersion     string
	KernelVersion string
	BuildTime     string
}

func (s *Server) ping(w http.ResponseWriter, r *http.Request) error {
	h := w.Header()
	h.Set("Cache-Control", "no-cache, no-store, must-revalidate")
	h.Set("Pragma", "no-cache")
	h.Set("Swarm", "inactive")
	h.Set("Content-Type", "text/plain; charset=utf-8")
	if r.Method == http.MethodHead {
		h.Set("Content-Length", "0")
		w.WriteHeader(http.StatusOK)
		return nil
	}
	writeBody(w, http.StatusOK, "text/plain; charset=utf-8", []byte("OK"))
	return nil
}

func (s *Server) version(w http.ResponseWriter, r *http.Request) error {
	v, err := s.cfg.System.Version(r.Context())
	if err != nil {
		return err
	}
	if v.Version == "" {
		v.Version = s.cfg.Version
	}
	a := versionAnswer{
		Version: v.Version, APIVersion: MaxVersion, MinAPIVersion: MinVersion,
		Os: "linux", Arch: runtime.GOARCH, GitCommit: v.GitCommit, GoVersion: runtime.Version(),
		KernelVersion: v.KernelVersion, BuildTime: v.BuildTime,
	}
	a.Platform.Name = "Outlet"
	// Clients print the component of this name specially.
	engine := Component{Name: "Engine", Version: v.Version, Details: map[string]string{
		"ApiVersion": MaxVersion, "MinAPIVersion": MinVersion, "GitCommit": v.GitCommit,
		"GoVersion": a.GoVersion, "Os": a.Os, "Arch": a.Arch, "BuildTime": v.BuildTime,
		"KernelVersion": v.KernelVersion, "Experimental": strconv.FormatBool(false),
	}}
	a.Components = append([]Component{engine}, v.Components...)
	return writeJSON(w, http.StatusOK, a)
}

// diskUsage lets "docker system df" work: nothing of what it counts is here.
func (s *Server) diskUsage(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, http.StatusOK, struct {
		LayersSize                              int64
		Images, Containers, Volumes, BuildCache []struct{}
	}{0, []struct{}{}, []struct{}{}, []struct{}{}, []struct{}{}})
}
