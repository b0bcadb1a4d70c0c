package client

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
)

func TestSaveNoticesAnArchiveThatBreaksOff(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if got := r.URL.Query()["plugin"]; strings.Join(got, " ") != "a/b:1 c" {
			t.Errorf("asked for %q", got)
		}
		_, _ = w.Write(make([]byte, 1<<20))
		if r.Header.Get("User-Agent") == "cut" {
			panic(http.ErrAbortHandler)
		}
	})
	var b bytes.Buffer
	if err := c.Save(t.Context(), []string{"a/b:1", "c"}, &b); err != nil || b.Len() != 1<<20 {
		t.Errorf("%d bytes, %v", b.Len(), err)
	}
	c.userAgent = "cut"
	if err := c.Save(t.Context(), []string{"a/b:1", "c"}, io.Discard); err == nil || !strings.Contains(err.Error(), "broke the archive off") {
		t.Errorf("cut: %v", err)
	}
	c.userAgent = ""
	full := errors.New("the disk is full")
	if err := c.Save(t.Context(), []string{"a/b:1", "c"}, failingSink{full}); !errors.Is(err, full) || strings.Contains(err.Error(), "daemon") {
		t.Errorf("a writer that fails: %v", err)
	}
}

type failingSink struct{ err error }

func (f failingSink) Write([]byte) (int, error) { return 0, f.err }

func TestLoadSendsWhatWasGrantedWithTheArchive(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		form, err := r.MultipartReader()
		if err != nil {
			t.Error(err)
			return
		}
		var got []string
		for {
			p, err := form.NextPart()
			if err != nil {
				break
			}
			b, err := io.ReadAll(p)
			if err != nil {
				t.Error(err)
			}
			got = append(got, p.FormName()+"="+string(b))
		}
		if want := `granted={"sha256:x":[{"Name":"n","Description":"","Value":["v"]}]} archive=bytes`; strings.Join(got, " ") != want {
			t.Errorf("got %q", got)
		}
		if r.URL.Query().Get("alias") != "x" || r.URL.Query().Has("grant-all") {
			t.Errorf("query %v", r.URL.Query())
		}
		_, _ = io.WriteString(w, `{"Plugins":[{"Name":"x:latest"}],"Warnings":["odd"]}`)
	})
	l, err := c.Load(t.Context(), strings.NewReader("bytes"), outlet.LoadOptions{
		Alias: "x", Granted: map[string]outlet.Privileges{"sha256:x": {{Name: "n", Value: []string{"v"}}}},
	})
	if err != nil || len(l.Plugins) != 1 || l.Plugins[0].Name != "x:latest" || len(l.Warnings) != 1 {
		t.Errorf("%+v, %v", l, err)
	}
}

func TestAnArchiveThatIsRefusedEarlyIsNotSentToItsEnd(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"message":"not an OCI layout"}`)
	})
	endless := func() io.Reader { return struct{ io.Reader }{io.LimitReader(zeros{}, 1<<40)} }
	if _, err := c.Load(t.Context(), endless(), outlet.LoadOptions{}); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("load: %v", err)
	}
	if _, _, err := c.CreateFromImage(t.Context(), "n", endless(), outlet.ImageOptions{Config: []byte("{}")}); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("create: %v", err)
	}
}
