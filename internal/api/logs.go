package api

import (
	"net/http"
	"net/url"
	"strconv"

	"github.com/outletd/outlet"
)

func logOptions(q url.Values) (o outlet.LogOptions, err error) {
	o.Tail = -1
	if t := q.Get("tail"); t != "" && t != "all" {
		if o.Tail, err = strconv.Atoi(t); err != nil || o.Tail < 0 {
			return o, invalid("invalid tail %q", t)
		}
	}
	if o.Since, err = lenientTimeParam(q, "since"); err != nil {
		return o, err
	}
	if o.Until, err = lenientTimeParam(q, "until"); err != nil {
		return o, err
	}
	o.Follow = truthy(q.Get("follow"))
	return o, checkRange(q, o.Since, o.Until)
}

type errorLine struct {
	Error string `json:"error"`
}

// logs streams what a plugin printed. An error before the first line is a
// status, one after it a last line.
func (s *Server) logs(w http.ResponseWriter, r *http.Request) error {
	q, name, err := pluginQuery(r)
	if err != nil {
		return err
	}
	o, err := logOptions(q)
	if err != nil {
		return err
	}
	st := s.openStream(w, r, typeJSONL)
	defer st.close()
	if o.Follow {
		// There may be nothing to say for long. So that the client knows where
		// it stands, it gets its answer before the first line.
		if _, err := s.cfg.Plugins.Inspect(st.ctx, name); err != nil {
			return err
		}
		if st.start() != nil {
			return nil // the client is gone
		}
	}
	err = s.cfg.Plugins.Logs(st.ctx, name, o, func(e outlet.LogEntry) error {
		b, err := encode(e)
		if err != nil {
			return err
		}
		return st.write(b, o.Follow)
	})
	switch {
	case st.over():
		return nil
	case err == nil:
		_ = st.start() // fails only when the client is gone
		return nil
	case !st.started:
		return err
	}
	line, encodeErr := encode(errorLine{s.publicText(r, status(err), err)})
	if encodeErr != nil {
		return encodeErr
	}
	_ = st.write(line, true) // the error below is logged
	return err
}
