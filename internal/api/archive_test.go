package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
)

// fakeArchives notes what it is asked, and answers as it is told.
type fakeArchives struct {
	withRevisions

	fail    error
	after   string // what Save writes before it fails
	asked   string
	archive string
}

func (f *fakeArchives) Save(_ context.Context, names []string, w io.Writer) error {
	f.asked = strings.Join(names, " ")
	if f.fail == nil || f.after != "" {
		if _, err := io.WriteString(w, f.after); err != nil {
			return err
		}
	}
	return f.fail
}

func (f *fakeArchives) Load(_ context.Context, archive io.Reader, o outlet.LoadOptions) (outlet.Loaded, error) {
	if f.fail != nil {
		return outlet.Loaded{}, f.fail // without reading it
	}
	b, err := io.ReadAll(archive)
	f.archive = string(b)
	asked, _ := json.Marshal(o)
	f.asked = string(asked)
	return outlet.Loaded{}, err
}

func (f *fakeArchives) CreateFromImage(_ context.Context, name string, archive io.Reader, o outlet.ImageOptions) (outlet.Plugin, []string, error) {
	if f.fail != nil {
		return outlet.Plugin{}, nil, f.fail
	}
	f.archive = "none"
	if archive != nil {
		b, err := io.ReadAll(archive)
		if err != nil {
			return outlet.Plugin{}, nil, err
		}
		f.archive = string(b)
	}
	f.asked = fmt.Sprintf("%s %s %s %s %v", name, o.Ref, o.Platform, o.Config, o.Env)
	return outlet.Plugin{Name: name}, []string{"odd"}, nil
}

func archiveRig(t *testing.T) (*rig, *fakeArchives) {
	f := &fakeArchives{}
	g := newRig(t, func(c *Config) {
		f.withRevisions = c.Plugins.(withRevisions)
		c.Plugins = f
	})
	return g, f
}

func TestSaveStreamsAnArchive(t *testing.T) {
	g, f := archiveRig(t)
	f.after = "an archive"
	a := g.do(http.MethodGet, "/outlet/v1/plugins/save?plugin=a%2Fb:1&plugin=c", "", "")
	if a.status != http.StatusOK || a.body != "an archive" || a.header.Get("Content-Type") != "application/x-tar" || f.asked != "a/b:1 c" {
		t.Errorf("%d %q %q, asked for %q", a.status, a.body, a.header, f.asked)
	}
	f.after, f.fail = "", outlet.Errorf(errdefs.ErrNotFound, "plugin \"c\" not found")
	if a := g.do(http.MethodGet, "/outlet/v1/plugins/save?plugin=c", "", ""); a.status != http.StatusNotFound || !strings.Contains(a.body, "not found") {
		t.Errorf("before the first byte: %d %s", a.status, a.body)
	}
	if a := g.do(http.MethodGet, "/outlet/v1/plugins/save", "", ""); a.status != http.StatusBadRequest {
		t.Errorf("of nothing: %d %s", a.status, a.body)
	}
}

func TestAnArchiveThatBreaksOffIsNotTakenForWhole(t *testing.T) {
	g, f := archiveRig(t)
	f.after, f.fail = strings.Repeat("x", 1<<20), errdefs.ErrDataLoss
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://x/outlet/v1/plugins/save?plugin=c", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := g.client.Do(req)
	if err != nil {
		return // cut before the headers: nobody takes that for an archive either
	}
	defer res.Body.Close()
	if b, err := io.ReadAll(res.Body); err == nil {
		t.Errorf("it ends like one, after %d bytes", len(b))
	}
}

// parts makes a form.
func parts(list ...[2]string) string {
	var b strings.Builder
	for _, p := range list {
		fmt.Fprintf(&b, "--B\r\nContent-Disposition: form-data; name=%q\r\n\r\n%s\r\n", p[0], p[1])
	}
	return b.String() + "--B--\r\n"
}

const formType = "multipart/form-data; boundary=B"

func TestLoadTakesAnArchiveAsItIsOrInAForm(t *testing.T) {
	g, f := archiveRig(t)
	for what, c := range map[string]struct {
		query, contentType, body string
		code                     int
		asked, archive           string
	}{
		"as it is":      {"?alias=x&platform=linux/arm64&grant-all=1", "application/x-tar", "bytes", 200, `{"Alias":"x","Platform":"linux/arm64","Granted":null,"GrantAll":true}`, "bytes"},
		"without type":  {"", "", "bytes", 200, `{"Alias":"","Platform":"","Granted":null,"GrantAll":false}`, "bytes"},
		"in a form":     {"", formType, parts([2]string{"granted", `{"sha256:x":[{"Name":"n","Value":["v"]}]}`}, [2]string{"archive", "bytes"}), 200, `{"Alias":"","Platform":"","Granted":{"sha256:x":[{"Name":"n","Description":"","Value":["v"]}]},"GrantAll":false}`, "bytes"},
		"only archive":  {"", formType, parts([2]string{"archive", "bytes"}), 200, `{"Alias":"","Platform":"","Granted":null,"GrantAll":false}`, "bytes"},
		"nothing":       {"", "application/x-tar", "", 400, "", ""},
		"no archive":    {"", formType, parts([2]string{"granted", `{}`}), 400, "", ""},
		"another field": {"", formType, parts([2]string{"other", `{}`}, [2]string{"archive", "bytes"}), 400, "", ""},
		"bad grants":    {"", formType, parts([2]string{"granted", `{`}, [2]string{"archive", "bytes"}), 400, "", ""},
		"two grants":    {"", formType, parts([2]string{"granted", `{} {}`}, [2]string{"archive", "bytes"}), 400, "", ""},
		"huge grants":   {"", formType, parts([2]string{"granted", strings.Repeat(" ", 3<<20)}, [2]string{"archive", "bytes"}), 400, "", ""},
		"a form cut":    {"", formType, "--B\r\nContent-Disposition: form-data; name=\"archive\"\r\n\r\nbytes", 400, "", ""},
		"no boundary":   {"", "multipart/form-data", "x", 400, "", ""},
	} {
		t.Run(what, func(t *testing.T) {
			f.asked, f.archive = "", ""
			a := g.do(http.MethodPost, "/outlet/v1/plugins/load"+c.query, c.contentType, c.body)
			if what == "a form cut" {
				// What reads the archive sees that it ends too early, and says so in
				// its own words.
				if a.status == http.StatusOK {
					t.Errorf("a part was taken for the whole")
				}
				return
			}
			if a.status != c.code || f.asked != c.asked || f.archive != c.archive {
				t.Errorf("%d %s, asked %s, archive %q", a.status, a.body, f.asked, f.archive)
			}
			if c.code == 200 && a.body != `{"Plugins":[],"Warnings":[]}`+"\n" {
				t.Errorf("answered %s", a.body)
			}
		})
	}
}

func TestARefusedArchiveIsAnsweredAtOnce(t *testing.T) {
	g, f := archiveRig(t)
	f.fail = outlet.Errorf(errdefs.ErrAlreadyExists, "plugin x already exists")
	a := g.do(http.MethodPost, "/outlet/v1/plugins/load", "application/x-tar", strings.Repeat("x", 8<<20))
	if a.status != http.StatusConflict || !strings.Contains(a.body, "already exists") {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestCreateFromImage(t *testing.T) {
	g, f := archiveRig(t)
	config := [2]string{"config", `{"a":1}`}
	for what, c := range map[string]struct {
		body           string
		code           int
		asked, archive string
	}{
		"of an archive":  {parts(config, [2]string{"archive", "bytes"}), 200, `n ref linux/arm64 {"a":1} [A=b]`, "bytes"},
		"of a reference": {parts(config), 200, `n ref linux/arm64 {"a":1} [A=b]`, "none"},
		"without config": {parts([2]string{"archive", "bytes"}), 400, "", ""},
	} {
		t.Run(what, func(t *testing.T) {
			f.asked, f.archive = "", ""
			a := g.do(http.MethodPost, "/outlet/v1/plugins/create-from-image?name=n&image=ref&platform=linux/arm64&env=A%3Db", formType, c.body)
			if a.status != c.code || f.asked != c.asked || f.archive != c.archive {
				t.Errorf("%d %s, asked %s, archive %q", a.status, a.body, f.asked, f.archive)
			}
			if c.code == 200 && !strings.Contains(a.body, `"Warnings":["odd"]`) {
				t.Errorf("answered %s", a.body)
			}
		})
	}
}

func TestWithoutABackendForArchivesTheRoutesSaySo(t *testing.T) {
	g := newRig(t)
	for _, r := range [][2]string{
		{http.MethodGet, "/outlet/v1/plugins/save?plugin=x"},
		{http.MethodPost, "/outlet/v1/plugins/load"},
		{http.MethodPost, "/outlet/v1/plugins/create-from-image"},
		{http.MethodGet, "/outlet/v1/system/df"},
		{http.MethodPost, "/outlet/v1/system/prune"},
	} {
		if a := g.do(r[0], r[1], "", ""); a.status != http.StatusNotImplemented {
			t.Errorf("%s %s: %d %s", r[0], r[1], a.status, a.body)
		}
	}
}
