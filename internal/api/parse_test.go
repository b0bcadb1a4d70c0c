package api

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/events"
)

func TestTruthy(t *testing.T) {
	for s, want := range map[string]bool{
		"": false, "0": false, "no": false, " No ": false, "FALSE": false, "none": false,
		"1": true, "true": true, "yes": true, "off": true, "2": true, "x": true,
	} {
		if got := truthy(s); got != want {
			t.Errorf("%q: %v", s, got)
		}
	}
}

func TestParseFilters(t *testing.T) {
	for s, want := range map[string]map[string][]string{
		"":                           {},
		"{}":                         {},
		"null":                       {},
		`{"a":{"y":true,"x":false}}`: {"a": {"x", "y"}},
		`{"a":["y","x","y"]}`:        {"a": {"x", "y"}},
		`{"a":{}}`:                   {"a": nil},
	} {
		got, err := parseFilters(s)
		if err != nil {
			t.Errorf("%s: %v", s, err)
		}
		if diff := cmp.Diff(want, got.all()); diff != "" {
			t.Errorf("%s: %s", s, diff)
		}
	}
	for s, want := range map[string]bool{
		`{"a":{"true":true}}`: true, `{"a":["1"]}`: true, `{"a":{"0":true,"x":true}}`: false, `{"a":{"false":true,"true":false}}`: false,
	} {
		f, err := parseFilters(s)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := f.boolean("a"); err != nil || *got != want {
			t.Errorf("%s: %v, %v", s, got, err)
		}
		if got, err := f.boolean("b"); got != nil || err != nil {
			t.Errorf("a key that is not there: %v, %v", got, err)
		}
	}
	for s, want := range map[string]string{
		`{"a":{"true":false}}`: "invalid filter 'a=[true]'", `{"a":["true","0"]}`: "invalid filter 'a=[0 true]'", `{"a":[]}`: "invalid filter 'a=[]'",
	} {
		f, err := parseFilters(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.boolean("a"); err == nil || err.Error() != want {
			t.Errorf("%s: %v", s, err)
		}
	}
	for _, s := range []string{"x", "[]", `"a"`, "1", `{"a":"b"}`, `{"a":{"b":"c"}}`, `{"a":[1]}`, "{}{}"} {
		if got, err := parseFilters(s); err == nil || err.Error() != "invalid filter" {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
}

func TestParseTimestamp(t *testing.T) {
	for s, want := range map[string]int64{
		"0": 0, "1": 1e9, "1.5": 1500000000, "1.000000001": 1000000001, "1.00000000199": 1000000001,
		"1.12345678901234567890": 1123456789, "99999999999999": maxSeconds * 1e9,
	} {
		got, err := parseTimestamp(s)
		if err != nil || got.UnixNano() != want {
			t.Errorf("%s: %d, %v", s, got.UnixNano(), err)
		}
	}
}

func TestParseRegistryAuth(t *testing.T) {
	want := registryAuth{Username: "u", Password: "p?>~", ServerAddress: "r.example"}
	raw, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	for name, enc := range map[string]*base64.Encoding{
		"as Docker": base64.URLEncoding, "unpadded": base64.RawURLEncoding,
		"standard": base64.StdEncoding, "standard, unpadded": base64.RawStdEncoding,
	} {
		got, err := parseRegistryAuth(enc.EncodeToString(raw))
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for _, anonymous := range []string{"", "e30=", "e30", "bnVsbA=="} {
		if got, err := parseRegistryAuth(anonymous); err != nil || got != (registryAuth{}) {
			t.Errorf("%q: %+v, %v", anonymous, got, err)
		}
	}
	for _, bad := range []string{"{}", "!!!!", "W10=", base64.URLEncoding.EncodeToString([]byte("{"))} {
		if got, err := parseRegistryAuth(bad); err == nil || got != (registryAuth{}) {
			t.Errorf("%q: %+v", bad, got)
		}
	}
}

func TestSecretsAreNotLogged(t *testing.T) {
	g := newRig(t)
	good := base64.URLEncoding.EncodeToString([]byte(`{"username":"u","password":"hunter2"}`))
	for _, header := range []string{good, "hunter2!" + good} {
		if a := g.do("POST", "/plugins/foo/bar/push", "", "", "X-Registry-Auth", header); a.status != 501 {
			t.Errorf("%v", a)
		}
	}
	g.log.Write(fmt.Append(nil, registryAuth{Password: "x"}.LogValue())) // never fails
	log := g.log.String()
	if strings.Contains(log, "hunter2") || strings.Contains(log, good) {
		t.Errorf("the log: %s", log)
	}
	if !strings.Contains(log, "the X-Registry-Auth header is ignored") {
		t.Errorf("a bad header is not noted: %s", log)
	}
}

func FuzzParseFilters(f *testing.F) {
	for _, s := range []string{"", "{}", "null", `{"a":{"b":true}}`, `{"a":["b"]}`, `{"a":[]}`, `[`, `{"a":{"b":1}}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := parseFilters(s)
		if err != nil || got == nil {
			return
		}
		again, err := json.Marshal(got.all())
		if err != nil {
			t.Fatal(err)
		}
		twice, err := parseFilters(string(again))
		if err != nil {
			t.Fatalf("%s: %v", again, err)
		}
		// Keys that are not UTF-8 may fall together when they are encoded.
		if diff := cmp.Diff(got.all(), twice.all()); diff != "" && utf8.ValidString(s) {
			t.Error(diff)
		}
		events.Filter(got.all()).Match(outlet.Message{})
	})
}

func FuzzParseTimestamp(f *testing.F) {
	for _, s := range []string{"0", "1.5", "-1.9", "9223372036854775807.999999999", "1.", ".1", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := parseTimestamp(s)
		if err == nil && !time.Unix(0, got.UnixNano()).Equal(got) {
			t.Errorf("%s is %v, which nanoseconds cannot tell", s, got)
		}
	})
}

func FuzzParseRegistryAuth(f *testing.F) {
	for _, s := range []string{"", "e30=", "e30", "eyJ1c2VybmFtZSI6InUifQ==", "+/-_", "===="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := parseRegistryAuth(s)
		if err != nil {
			if a != (registryAuth{}) || strings.Contains(err.Error(), s) && s != "" && !strings.Contains(errRegistryAuth.Error(), s) {
				t.Errorf("%+v, %v", a, err)
			}
			return
		}
		raw, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := parseRegistryAuth(base64.URLEncoding.EncodeToString(raw)); err != nil || again != a {
			t.Errorf("%+v, %v", again, err)
		}
	})
}

// FuzzRequest sends whatever to the routes that only read: nothing a client
// sends is the server's fault.
func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		"/plugins?filters=%7B%7D", "/v1.25/plugins/x/json", "/volumes?filters=[", "//x/../y", "/events?until=1&since=%zz",
		"/v1/version", "/outlet/v1/plugins/privileges?plugin=x", "/plugins/%2e%2e/json", "/v1.51", "/v./info",
	} {
		f.Add(s)
	}
	pub := events.New(nil)
	pub.Close()
	s, err := New(Config{
		Plugins: &fakePlugins{events: pub, plugins: map[string]*outlet.Plugin{}}, Volumes: &fakeVolumes{}, System: fakeSystem{}, Events: pub,
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || strings.HasSuffix(u.Path, "/logs") {
			return
		}
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodOptions} {
			r := httptest.NewRequestWithContext(t.Context(), method, "http://x/", nil)
			r.URL = u
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			if w.Code >= 500 && w.Code != http.StatusNotImplemented {
				t.Errorf("%s %q: %d %s", method, target, w.Code, w.Body)
			}
			if w.Header().Get("Api-Version") != MaxVersion {
				t.Errorf("%s %q: no version", method, target)
			}
			if w.Code == http.StatusMovedPermanently {
				if l := w.Header().Get("Location"); strings.HasPrefix(l, "//") || cleanPath(strings.SplitN(l, "?", 2)[0]) != strings.SplitN(l, "?", 2)[0] {
					t.Errorf("%q is redirected to %q", target, l)
				}
			}
		}
	})
}

// FuzzJSONBody reads whatever as a JSON body.
func FuzzJSONBody(f *testing.F) {
	for _, s := range []string{"", "[]", "null", `["a=b"]`, "[] []", "[", "{}", "[]}", " [] \n"} {
		f.Add("application/json", s)
	}
	f.Add("text/plain", "[]")
	f.Add(";", "[]")
	f.Fuzz(func(t *testing.T, contentType, body string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", io.NopCloser(strings.NewReader(body)))
		r.Header["Content-Type"] = []string{contentType}
		var out []string
		if err := readJSON(r, &out); err != nil {
			if status(err) != http.StatusBadRequest {
				t.Errorf("%v is %d", err, status(err))
			}
			return
		}
		if !json.Valid([]byte(body)) {
			t.Errorf("%q was taken", body)
		}
	})
}
