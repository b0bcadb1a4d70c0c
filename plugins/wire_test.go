package plugins

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
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
	b := newBody(br, nil, h)
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
		for way, read := range ways {
			st, b, e := read(bytes.NewReader(in))
			if st != status || !bytes.Equal(b, body) || (e == nil) != (err == nil) {
				t.Fatalf("at once %d %q %v, %s %d %q %v", status, body, err, way, st, b, e)
			}
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
		"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\nConnection: keep-alive\r\n\r\n":    false,
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

// framings are answers that servers, proxies and attackers send, and what the
// client makes of them.
func TestAnswersAreFramedAsTheyClaimOrRefused(t *testing.T) {
	const chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	long := strings.Repeat("x", 5000)
	for _, tt := range []struct{ name, answer, body, err string }{
		{"chunks", chunked + "3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n", "abc0123456789", ""},
		{"trailer", chunked + "1\r\na\r\n0\r\nX: y\r\nY: z\r\n\r\n", "a", ""},
		{"interim answers", "HTTP/1.1 103 Early\r\nLink: x\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nb", "b", ""},
		{"body of a 204", "HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\nhello", "", ""},
		{"chunks of a 304", "HTTP/1.1 304 No\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na", "", ""},
		{"long header that does not matter", "HTTP/1.1 200 OK\r\nX: " + long + "\r\nContent-Length: 1\r\n\r\nc", "c", ""},
		{"HTTP/1.0 to the end", "HTTP/1.0 200 OK\r\n\r\nrest", "rest", ""},
		{"lengths that agree", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nd", "d", ""},

		{"lengths that differ", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nde", "", "malformed"},
		{"list of lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\nd", "", "malformed"},
		{"signed length", "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nd", "", "malformed"},
		{"length behind many blanks", "HTTP/1.1 200 OK\r\nContent-Length:" + strings.Repeat(" ", 5000) + "1\r\n\r\nd", "", "malformed"},
		{"space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 1\r\n\r\nd", "", "malformed"},
		{"folded length", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n 0\r\n\r\nd", "", "malformed"},
		{"two encodings", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "", "malformed"},
		{"encoding twice", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "", "malformed"},
		{"encoding with a tail", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\x0b\r\n\r\n0\r\n\r\n", "", "malformed"},
		{"chunks in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "", "malformed"},
		{"switch of protocols", "HTTP/1.1 101 Go\r\n\r\n", "", "malformed"},
		{"interim for ever", strings.Repeat("HTTP/1.1 100 C\r\n\r\n", 100), "", "malformed"},
		{"headers for ever", "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: "+long+"\r\n", 100), "", "malformed"},
		{"HTTP/2", "HTTP/2.0 200 OK\r\n\r\n", "", "malformed"},
		{"status of four digits", "HTTP/1.1 2000 OK\r\n\r\n", "", "malformed"},

		{"chunk with a sign", chunked + "+1\r\na\r\n0\r\n\r\n", "", "malformed"},
		{"chunk in C's way", chunked + "0x1\r\na\r\n0\r\n\r\n", "", "malformed"},
		{"chunk without a size", chunked + "\r\na\r\n0\r\n\r\n", "", "malformed"},
		{"chunk that overflows", chunked + "fffffffffffffffff\r\na", "", "malformed"},
		{"chunk header with a bare line end", chunked + "1\na\r\n0\r\n\r\n", "", "malformed"},
		{"chunk header with a stray return", chunked + "1\r;\r\na\r\n0\r\n\r\n", "", "malformed"},
		{"chunk longer than it says", chunked + "1\r\nab\r\n0\r\n\r\n", "a", "malformed"},
		{"chunk of an extension", chunked + "1;" + long + "\r\na\r\n0\r\n\r\n", "", "malformed"},
		{"extensions for ever", chunked + strings.Repeat("1;"+long[:2000]+"\r\na\r\n", 20), "aaaaaaaa", "malformed"},
		{"end within a chunk", chunked + "5\r\nab", "ab", "unexpected EOF"},
		{"end between chunks", chunked + "1\r\na\r\n", "a", "unexpected EOF"},
		{"end within the trailer", chunked + "1\r\na\r\n0\r\nX: y\r\n", "a", "unexpected EOF"},
		{"trailer for ever", chunked + "0\r\n" + strings.Repeat("X: "+long+"\r\n", 30), "", "malformed"},
		{"end before the length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", "ab", "unexpected EOF"},
	} {
		for way, read := range ways {
			_, body, err := read(strings.NewReader(tt.answer))
			switch {
			case string(body) != tt.body:
				t.Errorf("%s, %s: body %.40q, want %q", tt.name, way, body, tt.body)
			case tt.err == "" && err != nil, tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
				t.Errorf("%s, %s: error %v, want %q", tt.name, way, err, tt.err)
			}
		}
	}
}

// ways are the ways in which bodies are read; all have to find the same.
var ways = map[string]func(io.Reader) (int, []byte, error){
	"read": readAnswer,
	"read directly": func(r io.Reader) (int, []byte, error) {
		return readWide(r, func(b *body) ([]byte, error) {
			p := make([]byte, directRead)
			n, err := b.Read(p)
			return p[:n], err
		})
	},
	"pass on": func(r io.Reader) (int, []byte, error) { return readWide(r, (*body).next) },
}

// readWide reads an answer from a connection, its body with next.
func readWide(r io.Reader, next func(*body) ([]byte, error)) (int, []byte, error) {
	c := newConn(fakeConn{r: r})
	h, err := readHead(c.br)
	if err != nil {
		return 0, nil, err
	}
	c.resize(streamBuffer)
	b := newBody(c.br, &c.src, h)
	var all []byte
	for {
		p, err := next(&b)
		all = append(all, p...)
		if errors.Is(err, io.EOF) {
			return h.status, all, nil
		}
		if err != nil {
			return h.status, all, err
		}
	}
}

// fakeConn is a connection that can only be read from.
type fakeConn struct {
	net.Conn
	r io.Reader
}

func (c fakeConn) Read(p []byte) (int, error) { return c.r.Read(p) }

// Long bodies in chunks of all sizes, in reads of all sizes.
func TestChunksOfAllSizes(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		var wire, want bytes.Buffer
		wire.WriteString("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		for range 1 + random.IntN(40) {
			p := make([]byte, 1+random.IntN(1<<random.IntN(18)))
			for i := range p {
				p[i] = byte(random.Uint32())
			}
			extension := ""
			if random.IntN(8) == 0 {
				extension = ";a=b"
			}
			fmt.Fprintf(&wire, "%x%s\r\n%s\r\n", len(p), extension, p)
			want.Write(p)
		}
		wire.WriteString("0\r\n\r\n")
		for way, read := range ways {
			from := &pieces{bytes.NewReader(wire.Bytes()), random}
			if _, body, err := read(from); err != nil || !bytes.Equal(body, want.Bytes()) {
				t.Fatalf("%s: %d bytes of %d, equal %v: %v", way, len(body), want.Len(), bytes.Equal(body, want.Bytes()), err)
			}
		}
	}
}

// pieces reads any number of bytes at a time.
type pieces struct {
	r      io.Reader
	random *rand.Rand
}

func (p *pieces) Read(b []byte) (int, error) {
	return p.r.Read(b[:min(len(b), 1+p.random.IntN(1<<p.random.IntN(18)))])
}
