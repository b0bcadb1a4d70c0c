package plugins

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
)

// readAnswer reads one answer as the client does.
func readAnswer(r io.Reader) (int, []byte, error) {
	br := bufio.NewReaderSize(r, callBuffer)
	h, err := readHead(br)
	if err != nil {
		return 0, nil, err
	}
	b := newBody(br, h)
	body, err := io.ReadAll(&b)
	return h.status, body, err
}

// What both we and net/http take for an answer, both read the same way; and how
// it arrives makes no difference.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\n{}\r\n0\r\nX: y\r\n\r\n",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 500 No\r\nConnection: keep-alive\r\n\r\nrest",
		"HTTP/1.1 204 No Content\r\n\r\n",
		"HTTP/1.1 200 OK\nX: a\n b\nContent-Length: 1\nContent-Length: 1\n\nx",
		"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		status, body, err := readAnswer(bytes.NewReader(in))
		slowStatus, slowBody, slowErr := readAnswer(iotest.OneByteReader(bytes.NewReader(in)))
		if status != slowStatus || !bytes.Equal(body, slowBody) || (err == nil) != (slowErr == nil) {
			t.Fatalf("at once %d %q %v, byte by byte %d %q %v", status, body, err, slowStatus, slowBody, slowErr)
		}
		if err != nil {
			return
		}
		br := bufio.NewReader(bytes.NewReader(in))
		var resp *http.Response
		for {
			var err error
			if resp, err = http.ReadResponse(br, &http.Request{Method: http.MethodPost}); err != nil {
				return // net/http is stricter about what does not matter here
			}
			if resp.StatusCode >= 200 {
				break
			}
		}
		defer resp.Body.Close()
		want, err := io.ReadAll(resp.Body)
		if err != nil {
			return
		}
		if resp.StatusCode != status || !bytes.Equal(want, body) {
			t.Fatalf("%q is %d %q, net/http says %d %q", in, status, body, resp.StatusCode, want)
		}
	})
}

func TestConnectionsAreKeptOnlyWhereThatIsSafe(t *testing.T) {
	for answer, want := range map[string]bool{
		"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n":                                                   true,
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n":                                          true,
		"HTTP/1.1 204 No Content\r\n\r\n":                                                                true,
		"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: Keep-Alive\r\n\r\n":                         true,
		"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n":                                                   false,
		"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: foo, Close\r\n\r\n":                         false,
		"HTTP/1.1 200 OK\r\n\r\n":                                                                        false,
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n":                     false,
		"HTTP/1.1 100 Continue\r\nConnection: close\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n": true,
	} {
		h, err := readHead(bufio.NewReader(strings.NewReader(answer)))
		if err != nil || h.reusable != want {
			t.Errorf("%q: kept %v, %v", answer, h.reusable, err)
		}
	}
}

func TestD07NoHomeAtAll(t *testing.T) {
	env := func(m map[string]string) func(string) string { return func(k string) string { return m[k] } }
	for _, tt := range []struct {
		name, goos, home string
		env              map[string]string
		want             string
	}{
		{"no home", "linux", "", map[string]string{"ROOTLESSKIT_STATE_DIR": "/r"}, "/etc/docker/plugins /usr/lib/docker/plugins"},
		{"home in the user database", "linux", "/db", map[string]string{"ROOTLESSKIT_STATE_DIR": "/r"}, "/db/.config/docker/plugins /db/.local/lib/docker/plugins"},
		{"XDG without home", "linux", "", map[string]string{"ROOTLESSKIT_STATE_DIR": "/r", "XDG_CONFIG_HOME": "/x"}, "/x/docker/plugins /usr/lib/docker/plugins"},
		{"XDG that is not absolute", "linux", "", map[string]string{"ROOTLESSKIT_STATE_DIR": "/r", "XDG_CONFIG_HOME": "x", "HOME": "/h"}, "/h/.config/docker/plugins /h/.local/lib/docker/plugins"},
		{"not rootless", "freebsd", "/db", map[string]string{"HOME": "/h"}, "/etc/docker/plugins /usr/lib/docker/plugins"},
		{"Windows", "windows", "", map[string]string{"programdata": "/pd", "ROOTLESSKIT_STATE_DIR": "/r"}, "/pd/docker/plugins"},
	} {
		if got := strings.Join(specDirs(tt.goos, env(tt.env), func() string { return tt.home }), " "); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}
