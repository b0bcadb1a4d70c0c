package api

import (
	"context"
	"net/http"

	"github.com/outletd/outlet"
)

func (s *Server) listVolumes(w http.ResponseWriter, r *http.Request) error {
	f, err := listFilters(r, "dangling", "driver", "label", "name")
	if err != nil {
		return err
	}
	filter := outlet.VolumeFilter{Names: f.values("name"), Drivers: f.values("driver"), Labels: f.values("label")}
	if filter.Dangling, err = f.boolean("dangling"); err != nil {
		return err
	}
	answer, err := s.cfg.Volumes.List(r.Context(), filter)
	if err != nil {
		return err
	}
	answer.Volumes, answer.Warnings = list(answer.Volumes), list(answer.Warnings)
	return writeJSON(w, http.StatusOK, answer)
}

func (s *Server) createVolume(w http.ResponseWriter, r *http.Request) error {
	var c outlet.VolumeCreate
	if err := readJSON(r, &c); err != nil {
		return err
	}
	ctx, cancel := s.detached(r)
	defer cancel()
	v, err := s.cfg.Volumes.Create(ctx, c)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusCreated, v)
}

func (s *Server) inspectVolume(w http.ResponseWriter, r *http.Request) error {
	v, err := s.cfg.Volumes.Inspect(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, v)
}

func (s *Server) removeVolume(w http.ResponseWriter, r *http.Request) error {
	q, err := parseQuery(r)
	if err != nil {
		return err
	}
	return s.change(w, r, http.StatusNoContent, func(ctx context.Context) error {
		return s.cfg.Volumes.Remove(ctx, r.PathValue("name"), truthy(q.Get("force")))
	})
}

// pruneVolumes deletes nothing. Engine prunes only volumes of its built-in
// driver, of which there are none here; a habit must not delete remote data.
func (s *Server) pruneVolumes(w http.ResponseWriter, r *http.Request) error {
	q, err := parseQuery(r)
	if err != nil {
		return err
	}
	if _, err := parseFilters(q.Get("filters")); err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, struct {
		VolumesDeleted []string
		SpaceReclaimed uint64
	}{VolumesDeleted: []string{}})
}

type mountBody struct{ ID string }

func (s *Server) mountVolume(w http.ResponseWriter, r *http.Request) error {
	var b mountBody
	if err := readJSON(r, &b); err != nil {
		return err
	}
	ctx, cancel := s.detached(r)
	defer cancel()
	mountpoint, id, err := s.cfg.Volumes.Mount(ctx, r.PathValue("name"), b.ID)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, struct{ Mountpoint, ID string }{mountpoint, id})
}

func (s *Server) unmountVolume(w http.ResponseWriter, r *http.Request) error {
	var b mountBody
	if err := readJSON(r, &b); err != nil {
		return err
	}
	return s.change(w, r, http.StatusNoContent, func(ctx context.Context) error {
		return s.cfg.Volumes.Unmount(ctx, r.PathValue("name"), b.ID)
	})
}
