package client

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"net/url"

	"github.com/outletd/outlet"
)

// Save writes plugins to w as an OCI layout, a tar that [Client.Load] reads. If
// it fails, w may hold a part of one.
func (c *Client) Save(ctx context.Context, names []string, w io.Writer) error {
	for _, name := range names {
		if _, err := pluginPath(name, ""); err != nil {
			return err
		}
	}
	resp, err := c.extension(ctx, request{method: http.MethodGet, path: "/plugins/save", query: url.Values{"plugin": names}})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	out := &failingWriter{w: w}
	if _, err := io.Copy(out, resp.Body); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		if out.err != nil {
			return out.err
		}
		return fmt.Errorf("the daemon broke the archive off, its log says why: %w", err)
	}
	return nil
}

// failingWriter remembers that it was the writing that failed.
type failingWriter struct {
	w   io.Writer
	err error
}

func (f *failingWriter) Write(b []byte) (int, error) {
	n, err := f.w.Write(b)
	f.err = err
	return n, err
}

// Load makes plugins of an archive that [Client.Save] or a tool for images
// wrote: an OCI layout as a tar, plain or compressed with gzip or zstd. All of
// them are made or none. Where the daemon refuses the archive before all of it
// was read, the rest is not sent; see [Client.Create].
func (c *Client) Load(ctx context.Context, archive io.Reader, o outlet.LoadOptions) (outlet.Loaded, error) {
	q := url.Values{}
	set(q, "alias", o.Alias)
	set(q, "platform", o.Platform)
	if o.GrantAll {
		q.Set("grant-all", "1")
	}
	granted, err := json.Marshal(o.Granted)
	if err != nil {
		return outlet.Loaded{}, err
	}
	r := request{method: http.MethodPost, path: "/plugins/load", query: q}
	if r.body, r.header, err = form("granted", granted, archive); err != nil {
		return outlet.Loaded{}, err
	}
	var l outlet.Loaded
	return l, c.upload(ctx, r, &l)
}

// CreateFromImage makes a plugin of an ordinary image: of one in an OCI layout,
// a tar as [Client.Load] takes it, or, if archive is nil, of one in a registry.
// It gives the plugin and what the daemon warns of.
func (c *Client) CreateFromImage(ctx context.Context, name string, archive io.Reader, o outlet.ImageOptions) (outlet.Plugin, []string, error) {
	q := url.Values{"name": {name}}
	set(q, "image", o.Ref)
	set(q, "platform", o.Platform)
	set(q, "serviceID", o.ServiceID)
	if len(o.Env) > 0 {
		q["env"] = o.Env
	}
	r := request{method: http.MethodPost, path: "/plugins/create-from-image", query: q}
	var err error
	if r.body, r.header, err = form("config", o.Config, archive); err != nil {
		return outlet.Plugin{}, nil, err
	}
	if o.Remote.Auth != (outlet.RegistryAuth{}) {
		auth, err := json.Marshal(o.Remote.Auth)
		if err != nil {
			return outlet.Plugin{}, nil, err
		}
		r.header.Set("X-Registry-Auth", base64.URLEncoding.EncodeToString(auth))
	}
	var answer struct {
		Plugin   outlet.Plugin
		Warnings []string
	}
	err = c.upload(ctx, r, &answer)
	return answer.Plugin, answer.Warnings, err
}

func set(q url.Values, key, value string) {
	if value != "" {
		q.Set(key, value)
	}
}

// form is a body of one small field and, if it is not nil, an archive.
func form(field string, value []byte, archive io.Reader) (io.Reader, http.Header, error) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	header := http.Header{"Content-Type": {w.FormDataContentType()}}
	part, err := w.CreatePart(textproto.MIMEHeader{
		"Content-Disposition": {fmt.Sprintf("form-data; name=%q", field)},
		"Content-Type":        {"application/json"},
	})
	if err != nil {
		return nil, nil, err
	}
	if _, err := part.Write(value); err != nil {
		return nil, nil, err
	}
	if archive == nil {
		return &b, header, w.Close()
	}
	_, err = w.CreatePart(textproto.MIMEHeader{
		"Content-Disposition": {`form-data; name="archive"; filename="archive.tar"`},
		"Content-Type":        {"application/x-tar"},
	})
	end := "\r\n--" + w.Boundary() + "--\r\n"
	return io.MultiReader(&b, archive, bytes.NewReader([]byte(end))), header, err
}
