package api

import (
	"net/http"

	"github.com/outletd/outlet"
)

// checkSystem reports what is wrong with what the daemon keeps. It changes
// nothing.
func (s *Server) checkSystem(w http.ResponseWriter, r *http.Request) error {
	return s.answerCheck(w, r, false)
}

// repairSystem also mends what can be mended.
func (s *Server) repairSystem(w http.ResponseWriter, r *http.Request) error {
	return s.answerCheck(w, r, true)
}

func (s *Server) answerCheck(w http.ResponseWriter, r *http.Request, repair bool) error {
	report, err := s.cfg.System.Check(r.Context(), repair)
	if err != nil {
		return err
	}
	if report.Problems == nil {
		report.Problems = []outlet.Problem{}
	}
	return writeJSON(w, http.StatusOK, report)
}
