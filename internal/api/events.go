package api

import (
	"errors"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/outletd/outlet/internal/events"
)

const (
	typeJSON    = "application/json"
	typeJSONL   = "application/jsonl"
	typeNDJSON  = "application/x-ndjson"
	typeJSONSeq = "application/json-seq"
	// recordSeparator begins every object of a json-seq.
	recordSeparator = 0x1e
)

func (s *Server) events(w http.ResponseWriter, r *http.Request) error {
	q, err := parseQuery(r)
	if err != nil {
		return err
	}
	f, err := parseFilters(q.Get("filters"))
	if err != nil {
		return err
	}
	since, err := timeParam(q, "since")
	if err != nil {
		return err
	}
	until, err := timeParam(q, "until")
	if err != nil {
		return err
	}
	if err := checkRange(q, since, until); err != nil {
		return err
	}

	st := s.openStream(w, r, eventsType(r))
	defer st.close()
	sub := s.cfg.Events.Subscribe(st.ctx, events.Options{Filter: events.Filter(f.all()), Since: since, Until: until})
	defer sub.Close()
	// The subscription may end because this goroutine is stuck in a write.
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-sub.Done()
		if errors.Is(sub.Err(), events.ErrTooSlow) {
			st.expire()
		}
	}()
	defer func() { sub.Close(); <-done }()

	if err := st.start(); err != nil {
		return nil // the client is gone
	}
	return s.sendEvents(st, sub)
}

// sendEvents copies a subscription to its client until one of them ends.
func (s *Server) sendEvents(st *stream, sub *events.Subscription) error {
	for {
		m, err := sub.Next(st.ctx)
		switch {
		case errors.Is(err, events.ErrTooSlow):
			s.log.WarnContext(st.ctx, "an event stream was cut", "error", err, "lost", sub.Lost())
			// A proper end would say that there was nothing more.
			panic(http.ErrAbortHandler)
		case err == io.EOF || st.ctx.Err() != nil: //nolint:errorlint // Next documents io.EOF itself
			return nil //nolint:nilerr // its end, or the client's
		case err != nil:
			return err
		}
		b, err := encode(m)
		if err != nil {
			return err
		}
		if st.typ == typeJSONSeq {
			b = append([]byte{recordSeparator}, b...)
		}
		if st.write(b, !sub.Pending()) != nil {
			return nil //nolint:nilerr // the client is gone
		}
	}
}

// eventsType chooses the form of the stream: what the client names in Accept
// and prefers most, else what its API version had.
func eventsType(r *http.Request) string {
	best, bestQ := "", 0.0
	for _, offer := range []string{typeJSONL, typeNDJSON, typeJSONSeq} {
		if q := acceptQuality(r, offer); q > bestQ {
			best, bestQ = offer, q
		}
	}
	switch {
	case best != "":
		return best
	case before(r, "1.52"):
		return typeJSON
	}
	return typeJSONL
}

// acceptQuality is the q under which the Accept headers name a type; 0 if they
// don't. Wildcards name nothing.
func acceptQuality(r *http.Request, offer string) (best float64) {
	for _, line := range r.Header.Values("Accept") {
		for part := range strings.SplitSeq(line, ",") {
			got, params, err := mime.ParseMediaType(part)
			if err != nil || got != offer {
				continue
			}
			q := 1.0
			if text, ok := params["q"]; ok {
				if q, err = strconv.ParseFloat(text, 64); err != nil || q < 0 || q > 1 {
					continue
				}
			}
			best = max(best, q)
		}
	}
	return best
}
