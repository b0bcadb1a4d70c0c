package api

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
)

// ArchiveBackend is what the routes call that move plugins without a registry. A
// [PluginBackend] that implements it has them.
type ArchiveBackend interface {
	// Save writes plugins to w as an OCI layout. It writes nothing before it
	// knows that there are such plugins.
	Save(ctx context.Context, names []string, w io.Writer) error
	// Load makes plugins of such an archive.
	Load(ctx context.Context, archive io.Reader, o outlet.LoadOptions) (outlet.Loaded, error)
	// CreateFromImage makes a plugin of an image in an OCI layout and returns it
	// with warnings. A nil archive means that the image is in a registry.
	CreateFromImage(ctx context.Context, name string, archive io.Reader, o outlet.ImageOptions) (outlet.Plugin, []string, error)
}

// archiveRoutes are the rows of the table for archives.
func (s *Server) archiveRoutes() []route {
	return []route{
		{http.MethodGet, "/outlet/v1/plugins/save", s.savePlugins, "", streams},
		{http.MethodPost, "/outlet/v1/plugins/load", s.loadPlugins, "", plain},
		{http.MethodPost, "/outlet/v1/plugins/create-from-image", s.createFromImage, "", plain},
	}
}

func (s *Server) archives() (ArchiveBackend, error) {
	if b, ok := s.cfg.Plugins.(ArchiveBackend); ok {
		return b, nil
	}
	return nil, outlet.Errorf(errdefs.ErrNotImplemented, "archives of plugins are not supported by this version of Outlet")
}

// savePlugins answers with an archive. An error after its first byte cuts the
// connection, so that nobody takes a part of an archive for the whole.
func (s *Server) savePlugins(w http.ResponseWriter, r *http.Request) error {
	q, err := parseQuery(r)
	if err != nil {
		return err
	}
	if _, err := required(q, "plugin"); err != nil {
		return err
	}
	b, err := s.archives()
	if err != nil {
		return err
	}
	st := s.openStream(w, r, "application/x-tar")
	defer st.close()
	err = b.Save(st.ctx, q["plugin"], streamWriter{st}) //nolint:contextcheck // the answer's context ends with the request's
	if err == nil || !st.started {
		return err
	}
	if !st.over() {
		s.log.ErrorContext(r.Context(), "save plugins", "plugins", q["plugin"], "error", err)
	}
	panic(http.ErrAbortHandler)
}

// streamWriter is a stream to write to, which decides itself when to send.
type streamWriter struct{ st *stream }

func (w streamWriter) Write(b []byte) (int, error) {
	if err := w.st.write(b, false); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (s *Server) loadPlugins(w http.ResponseWriter, r *http.Request) error {
	q, err := parseQuery(r)
	if err != nil {
		return err
	}
	b, err := s.archives()
	if err != nil {
		return err
	}
	o := outlet.LoadOptions{Alias: q.Get("alias"), Platform: q.Get("platform"), GrantAll: truthy(q.Get("grant-all"))}
	u, err := openUpload(r)
	if err != nil {
		return s.refused(w, r, err)
	}
	granted, err := u.field("granted")
	if err == nil && granted != nil {
		err = jsonField("granted", granted, &o.Granted)
	}
	if err != nil {
		return s.refused(w, r, err)
	}
	archive, err := u.archive()
	if err == nil && archive == nil {
		err = invalid("there is no archive in the request")
	}
	if err != nil {
		return s.refused(w, r, err)
	}
	loaded, err := b.Load(r.Context(), archive, o)
	if err != nil {
		return s.refused(w, r, err)
	}
	for _, warning := range loaded.Warnings {
		s.log.WarnContext(r.Context(), "plugin loaded with a warning", "warning", warning)
	}
	if loaded.Plugins == nil {
		loaded.Plugins = []outlet.Plugin{}
	}
	loaded.Warnings = list(loaded.Warnings)
	return writeJSON(w, http.StatusOK, loaded)
}

func (s *Server) createFromImage(w http.ResponseWriter, r *http.Request) error {
	q, err := parseQuery(r)
	if err != nil {
		return err
	}
	b, err := s.archives()
	if err != nil {
		return err
	}
	o := imageOptions(q)
	o.Remote = s.remoteOptions(r, q)
	u, err := openUpload(r)
	if err != nil {
		return s.refused(w, r, err)
	}
	config, err := u.field("config")
	if err == nil && config == nil {
		err = invalid("there is no config in the request")
	}
	if err != nil {
		return s.refused(w, r, err)
	}
	o.Config = config
	archive, err := u.archive()
	if err != nil {
		return s.refused(w, r, err)
	}
	p, warnings, err := b.CreateFromImage(r.Context(), q.Get("name"), archive, o)
	if err != nil {
		return s.refused(w, r, err)
	}
	for _, warning := range warnings {
		s.log.WarnContext(r.Context(), "plugin created with a warning", "plugin", p.Name, "warning", warning)
	}
	return writeJSON(w, http.StatusOK, struct {
		Plugin   outlet.Plugin
		Warnings []string
	}{p, list(warnings)})
}

func imageOptions(q url.Values) outlet.ImageOptions {
	return outlet.ImageOptions{
		CreateOptions: outlet.CreateOptions{ServiceID: q.Get("serviceID"), Env: q["env"]},
		Ref:           q.Get("image"),
		Platform:      q.Get("platform"),
	}
}

// refused answers an upload that is not wanted, or only an error if nothing of
// it can still be coming.
func (s *Server) refused(w http.ResponseWriter, r *http.Request, err error) error {
	if w, ok := w.(*response); ok && r.Context().Err() == nil {
		s.refuseUpload(w, r, err)
		return errAnswered
	}
	return err
}

// upload is a request's body: an archive as it is, or a form
// (multipart/form-data) of small fields and, as its last part, the archive.
type upload struct {
	body io.Reader // the archive, if it is no form
	form *multipart.Reader
	next *multipart.Part
}

func openUpload(r *http.Request) (*upload, error) {
	t, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || t != "multipart/form-data" {
		u := &upload{}
		if hasBody(r) {
			u.body = r.Body
		}
		return u, nil
	}
	u := &upload{form: multipart.NewReader(r.Body, params["boundary"])}
	return u, u.advance()
}

func (u *upload) advance() error {
	part, err := u.form.NextRawPart()
	if err == io.EOF {
		u.next = nil
		return nil
	}
	if err != nil {
		return invalid("the form: %w", err)
	}
	u.next = part
	return nil
}

// field reads a field of the form, if it is the next; nil if it is not.
func (u *upload) field(name string) ([]byte, error) {
	if u.next == nil || u.next.FormName() != name {
		return nil, nil
	}
	value, err := io.ReadAll(io.LimitReader(u.next, 2*maxJSON+1))
	if err != nil {
		return nil, invalid("the form: %s: %w", name, err)
	}
	if len(value) > 2*maxJSON {
		return nil, errBodyTooLarge()
	}
	return value, u.advance()
}

// archive is the archive, nil if there is none.
func (u *upload) archive() (io.Reader, error) {
	switch {
	case u.form == nil:
		return u.body, nil
	case u.next == nil:
		return nil, nil
	case u.next.FormName() != "archive":
		return nil, invalid("the form: %.64q does not belong here", u.next.FormName())
	}
	return u.next, nil
}

// jsonField decodes a field that is one JSON value.
func jsonField(name string, value []byte, out any) error {
	dec := json.NewDecoder(bytes.NewReader(value))
	if err := dec.Decode(out); err != nil {
		return invalid("the form: %s: invalid JSON: %w", name, err)
	}
	if len(bytes.TrimSpace(value[dec.InputOffset():])) > 0 {
		return invalid("the form: %s: unexpected content after JSON", name)
	}
	return nil
}
