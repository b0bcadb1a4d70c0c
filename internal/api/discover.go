package api

import (
	"net/http"

	"github.com/outletd/outlet"
)

func (s *Server) discover(w http.ResponseWriter, r *http.Request) error {
	found, err := s.cfg.Plugins.Discover(r.Context())
	if err != nil {
		return err
	}
	plugins := make([]outlet.V1Plugin, len(found.Plugins)) // never null
	for i, p := range found.Plugins {
		p.Capabilities = list(p.Capabilities)
		plugins[i] = p
	}
	return writeJSON(w, http.StatusOK, outlet.V1Plugins{Plugins: plugins, Warnings: list(found.Warnings)})
}
