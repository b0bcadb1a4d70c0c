package plugins

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Bounds on what a plugin can make the client read before its answer's body.
const (
	// maxHead is the longest status line and headers, in bytes.
	maxHead = 256 << 10
	// maxInterim is how many 1xx answers may come before the real one.
	maxInterim = 16
	// maxTrailer is the longest trailer of a chunked body, in bytes.
	maxTrailer = 64 << 10
)

// errMalformed is what errors match if the answer is no HTTP/1 message.
var errMalformed = errors.New("malformed HTTP answer")

// untilClose is the length of a body that ends with the connection.
const untilClose = -1

// head is what the client needs to know of an answer's status line and headers.
type head struct {
	status int
	// length is the body's, or untilClose; chunked goes before it.
	length  int64
	chunked bool
	// reusable says whether the connection can carry another request once the
	// body was read to its end.
	reusable bool
	// closes says that the plugin closes the connection, old that it speaks
	// HTTP/1.0.
	closes, old bool
}

// readHead reads the answer's status line and headers, passing over interim
// answers.
func readHead(br *bufio.Reader) (head, error) {
	budget := maxHead
	for range maxInterim {
		h, err := readOneHead(br, &budget)
		if err != nil || h.status >= 200 {
			return h, err
		}
		if h.status == 101 {
			return head{}, fmt.Errorf("%w: the plugin switches protocols", errMalformed)
		}
	}
	return head{}, fmt.Errorf("%w: too many interim answers", errMalformed)
}

func readOneHead(br *bufio.Reader, budget *int) (head, error) {
	line, err := readLine(br, budget)
	if err != nil {
		return head{}, err
	}
	h, err := parseStatusLine(line)
	if err != nil {
		return head{}, err
	}
	sawLength, framing := false, false
	for {
		line, err := readLine(br, budget)
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return head{}, err
		}
		if len(line) == 0 {
			break
		}
		if line[0] == ' ' || line[0] == '\t' {
			// A folded line goes on with the header before it. Where that one
			// says how long the body is, guessing would be wrong.
			if framing {
				return head{}, fmt.Errorf("%w: folded header", errMalformed)
			}
			continue
		}
		if framing, err = h.header(line, &sawLength); err != nil {
			return head{}, err
		}
	}
	h.finish(sawLength)
	return h, nil
}

// parseStatusLine reads "HTTP/1.x nnn text".
func parseStatusLine(line []byte) (head, error) {
	const version = "HTTP/1."
	if len(line) < len(version)+5 || string(line[:len(version)]) != version || line[len(version)+1] != ' ' {
		return head{}, fmt.Errorf("%w: status line %q", errMalformed, clip(line))
	}
	minor, code, rest := line[len(version)], line[len(version)+2:len(version)+5], line[len(version)+5:]
	status := 0
	for _, c := range code {
		if c < '0' || c > '9' {
			return head{}, fmt.Errorf("%w: status line %q", errMalformed, clip(line))
		}
		status = status*10 + int(c-'0')
	}
	if status < 100 || minor < '0' || minor > '9' || (len(rest) > 0 && rest[0] != ' ') {
		return head{}, fmt.Errorf("%w: status line %q", errMalformed, clip(line))
	}
	return head{status: status, length: untilClose, reusable: minor != '0', old: minor == '0'}, nil
}

// header takes one header line into h and says whether it tells where the body
// ends.
func (h *head) header(line []byte, sawLength *bool) (framing bool, err error) {
	name, value, ok := bytes.Cut(line, []byte{':'})
	if !ok || len(name) == 0 || name[len(name)-1] == ' ' || name[len(name)-1] == '\t' {
		return false, fmt.Errorf("%w: header %q", errMalformed, clip(line))
	}
	value = bytes.Trim(value, " \t")
	switch len(name) {
	case len("Connection"):
		if equalFold(name, "Connection") {
			h.connection(value)
			return true, nil
		}
	case len("Content-Length"):
		if equalFold(name, "Content-Length") {
			n, err := parseLength(value)
			if err != nil || *sawLength && n != h.length {
				return false, fmt.Errorf("%w: content length %q", errMalformed, clip(value))
			}
			h.length, *sawLength = n, true
			return true, nil
		}
	case len("Transfer-Encoding"):
		if equalFold(name, "Transfer-Encoding") {
			if !equalFold(value, "chunked") || h.chunked {
				return false, fmt.Errorf("%w: transfer encoding %q", errMalformed, clip(value))
			}
			if h.old {
				// Who reads it in which way cannot be known: there are no chunks
				// in HTTP/1.0.
				return false, fmt.Errorf("%w: chunks in HTTP/1.0", errMalformed)
			}
			h.chunked = true
			return true, nil
		}
	}
	return false, nil
}

// connection reads the tokens of a Connection header.
func (h *head) connection(value []byte) {
	for len(value) > 0 {
		var token []byte
		token, value, _ = bytes.Cut(value, []byte{','})
		token = bytes.Trim(token, " \t")
		switch {
		case equalFold(token, "close"):
			h.closes = true
		case equalFold(token, "keep-alive"):
			// HTTP/1.0 servers that keep the connection say so.
			h.reusable = true
		}
	}
}

// finish decides what the headers mean together.
func (h *head) finish(sawLength bool) {
	h.reusable = h.reusable && !h.closes
	switch {
	case h.status < 200, h.status == 204, h.status == 304:
		h.length, h.chunked = 0, false
	case h.chunked:
		// A message with both is either an attack or a broken proxy; the
		// connection's state is not to be trusted afterwards.
		if sawLength {
			h.reusable = false
		}
		h.length = untilClose
	case !sawLength:
		h.length, h.reusable = untilClose, false
	}
}

// parseLength reads digits only: no sign, no list, no overflow.
func parseLength(v []byte) (int64, error) {
	if len(v) == 0 || len(v) > 18 {
		return 0, strconv.ErrRange
	}
	var n int64
	for _, c := range v {
		if c < '0' || c > '9' {
			return 0, strconv.ErrSyntax
		}
		n = n*10 + int64(c-'0')
	}
	return n, nil
}

// readLine returns the next line without its end. What is returned is valid
// until the next read, and cut off where it is longer than the buffer of br: no
// header that matters is.
func readLine(br *bufio.Reader, budget *int) ([]byte, error) {
	line, err := br.ReadSlice('\n')
	*budget -= len(line)
	if err == nil && *budget >= 0 {
		return trimEnd(line), nil
	}
	if errors.Is(err, bufio.ErrBufferFull) {
		first := bytes.Clone(line)
		for errors.Is(err, bufio.ErrBufferFull) && *budget >= 0 {
			line, err = br.ReadSlice('\n')
			*budget -= len(line)
		}
		if err == nil && *budget >= 0 {
			return first, nil
		}
	}
	if *budget < 0 {
		return nil, fmt.Errorf("%w: headers are longer than %d bytes", errMalformed, maxHead)
	}
	if errors.Is(err, io.EOF) && len(line) > 0 {
		err = io.ErrUnexpectedEOF
	}
	return nil, err
}

func trimEnd(line []byte) []byte {
	line = line[:len(line)-1]
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	return line
}

// equalFold compares ASCII without case.
func equalFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i := range len(b) {
		if lower(b[i]) != lower(s[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// clip keeps what strangers send short in error texts.
func clip(b []byte) []byte {
	return b[:min(len(b), 64)]
}

// A body is the part of an answer behind its head. It ends with io.EOF, and
// with io.ErrUnexpectedEOF where the connection ended first.
type body struct {
	br      *bufio.Reader
	src     *source
	left    int64
	chunks  chunkReader
	chunked bool
	ended   bool
	toClose bool
}

// newBody returns the body behind h. src is what br reads from, or nil.
func newBody(br *bufio.Reader, src *source, h head) body {
	b := body{br: br, src: src, left: h.length}
	switch {
	case h.chunked:
		b.chunked, b.chunks = true, chunkReader{br: br, src: src}
	case h.length == untilClose:
		b.toClose = true
	case h.length == 0:
		b.ended = true
	}
	return b
}

func (b *body) Read(p []byte) (int, error) {
	switch {
	case b.ended:
		return 0, io.EOF
	case len(p) == 0:
		return 0, nil
	case b.chunked:
		n, err := b.chunks.Read(p)
		return n, b.after(n, err)
	}
	if !b.toClose {
		p = p[:min(int64(len(p)), b.left)]
	}
	var n int
	var err error
	if b.src != nil && b.br.Buffered() == 0 && len(p) >= directRead {
		n, err = b.src.Read(p)
	} else {
		n, err = b.br.Read(p)
	}
	return n, b.after(n, err)
}

// next returns bytes of the body that are good until the next use of it, for
// who passes them on.
func (b *body) next() ([]byte, error) {
	var p []byte
	var err error
	switch {
	case b.ended:
		return nil, io.EOF
	case b.chunked:
		p, err = b.chunks.next()
	case b.toClose:
		p, err = nextOf(b.br, int64(b.br.Size()))
	default:
		p, err = nextOf(b.br, b.left)
	}
	return p, b.after(len(p), err)
}

// after notes that n bytes were read, and says what err means.
func (b *body) after(n int, err error) error {
	end := errors.Is(err, io.EOF)
	switch {
	case b.chunked:
		if !end {
			return err
		}
		if err = readTrailer(b.br); err != nil {
			return err
		}
		b.ended = true
		return io.EOF
	case b.toClose:
		b.ended = end
		return err
	}
	b.left -= int64(n)
	switch {
	case b.left == 0:
		b.ended = true
		return io.EOF
	case end:
		return io.ErrUnexpectedEOF
	}
	return err
}

// readTrailer reads what stands between the last chunk and the end.
func readTrailer(br *bufio.Reader) error {
	budget := maxTrailer
	for {
		line, err := readLine(br, &budget)
		if errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		}
		if err != nil || len(line) == 0 {
			return err
		}
	}
}
