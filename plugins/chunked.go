package plugins

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Bounds on the framing of chunked bodies.
const (
	// maxChunkDigits keeps the sizes of chunks far from overflowing.
	maxChunkDigits = 15
	// maxChunkHeader is the longest line between chunks, in bytes.
	maxChunkHeader = callBuffer
	// chunkOverhead is how much framing a chunk may have without being looked
	// at twice, and maxExcess how much more all chunks of a body may have than
	// that and twice their bytes: extensions are allowed, a body of nothing but
	// extensions is not.
	chunkOverhead, maxExcess = 16, 16 << 10
	// directRead is how much a caller has to have room for so that its own
	// memory is read into: with less, system calls cost more than copying.
	directRead = 16 << 10
)

// A chunkReader reads a body in chunked encoding. At the last chunk its error is
// io.EOF; the trailer is left where it is.
type chunkReader struct {
	br *bufio.Reader
	// src is what br reads from, or nil; it is read from directly where br has
	// nothing and the caller has room.
	src *source
	// left is what is to come of the current chunk; inside says that there is
	// one, so that a line end comes before the next.
	left   int64
	inside bool
	excess int64
	err    error
}

// more sees to it that bytes of a chunk come next.
func (c *chunkReader) more() error {
	if c.left == 0 && c.err == nil {
		c.err = c.begin()
	}
	return c.err
}

// begin reads what stands between the bytes of two chunks.
func (c *chunkReader) begin() error {
	if c.inside {
		end, err := c.br.Peek(2)
		if err != nil {
			return unexpected(err)
		}
		if end[0] != '\r' || end[1] != '\n' {
			return fmt.Errorf("%w: chunk is longer than it says", errMalformed)
		}
		_, _ = c.br.Discard(2) // cannot fail: it is there
		c.inside = false
	}
	line, err := c.br.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) || len(line) > maxChunkHeader {
		return fmt.Errorf("%w: chunk header is too long", errMalformed)
	}
	if err != nil {
		return unexpected(err)
	}
	size, err := chunkSize(line)
	if err != nil {
		return err
	}
	if size == 0 {
		return io.EOF
	}
	c.excess = max(c.excess+int64(len(line))-chunkOverhead-2*size, 0)
	if c.excess > maxExcess {
		return fmt.Errorf("%w: chunks hold little but extensions", errMalformed)
	}
	c.left, c.inside = size, true
	return nil
}

// chunkSize reads a line of the form "1a;extension\r\n". As this line says where
// the next one is, nothing is guessed.
func chunkSize(line []byte) (int64, error) {
	end := len(line) - 2
	if end < 0 || bytes.IndexByte(line, '\r') != end {
		return 0, fmt.Errorf("%w: chunk header %q", errMalformed, clip(line))
	}
	digits, _, _ := bytes.Cut(line[:end], []byte{';'})
	digits = bytes.TrimRight(digits, " \t")
	if len(digits) == 0 || len(digits) > maxChunkDigits {
		return 0, fmt.Errorf("%w: chunk header %q", errMalformed, clip(line))
	}
	var n int64
	for _, b := range digits {
		switch b = lower(b); {
		case '0' <= b && b <= '9':
			n = n<<4 | int64(b-'0')
		case 'a' <= b && b <= 'f':
			n = n<<4 | int64(b-'a'+10)
		default:
			return 0, fmt.Errorf("%w: chunk header %q", errMalformed, clip(line))
		}
	}
	return n, nil
}

// Read reads what is there, of more than one chunk if more are there, and waits
// only if nothing is.
func (c *chunkReader) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if n > 0 && c.left == 0 && !c.beginsHere() {
			break
		}
		if err := c.more(); err != nil {
			if n > 0 {
				break // next time
			}
			return 0, err
		}
		if c.br.Buffered() == 0 {
			if n > 0 {
				break
			}
			if c.src != nil && len(p) >= directRead {
				return c.readDirect(p)
			}
		}
		m, err := c.br.Read(p[n:min(int64(len(p)), int64(n)+c.left)])
		n += m
		c.left -= int64(m)
		if err != nil {
			c.err = unexpected(err)
			return n, c.err
		}
	}
	return n, nil
}

// beginsHere says whether the header of the next chunk has arrived.
func (c *chunkReader) beginsHere() bool {
	ahead, _ := c.br.Peek(c.br.Buffered()) // cannot fail: it is there
	return len(ahead) > 2 && bytes.IndexByte(ahead[2:], '\n') >= 0
}

// readDirect reads from the connection into p, and takes the framing of chunks
// out where it lies. What it does not understand at a glance, and what is the
// last chunk's, it leaves for begin.
func (c *chunkReader) readDirect(p []byte) (int, error) {
	m, err := c.src.Read(p)
	n := int(min(int64(m), c.left))
	c.left -= int64(n)
	rest := p[n:m]
	for len(rest) > 0 {
		size, used := plainFrame(rest)
		if used == 0 {
			c.src.unread(rest)
			break
		}
		rest = rest[used:]
		k := int(min(int64(len(rest)), size))
		copy(p[n:], rest[:k])
		n += k
		c.left = size - int64(k)
		rest = rest[k:]
	}
	if err != nil && n == 0 {
		c.err = unexpected(err)
		return 0, c.err
	}
	// An error beside bytes comes again, or does not matter.
	return n, nil
}

// plainFrame reads "\r\n1a\r\n" at the start of b, and returns the size of the
// chunk that begins and the length of what it read: 0 if it is anything else.
func plainFrame(b []byte) (size int64, used int) {
	if len(b) < 5 || b[0] != '\r' || b[1] != '\n' {
		return 0, 0
	}
	end := bytes.IndexByte(b[2:min(len(b), 2+maxChunkDigits+2)], '\n')
	if end < 0 {
		return 0, 0
	}
	used = 2 + end + 1
	size, err := chunkSize(b[2:used])
	if err != nil || size == 0 {
		return 0, 0
	}
	return size, used
}

// next returns bytes of the body that are good until the next call, at most as
// many as br can hold.
func (c *chunkReader) next() ([]byte, error) {
	if err := c.more(); err != nil {
		return nil, err
	}
	b, err := nextOf(c.br, c.left)
	c.left -= int64(len(b))
	if err != nil {
		c.err = unexpected(err)
	}
	return b, c.err
}

// nextOf takes up to limit bytes that br has, after waiting until it has one.
func nextOf(br *bufio.Reader, limit int64) ([]byte, error) {
	if br.Buffered() == 0 {
		if _, err := br.Peek(1); err != nil {
			return nil, err
		}
	}
	n := int(min(int64(br.Buffered()), limit))
	b, _ := br.Peek(n)   // cannot fail: it is there
	_, _ = br.Discard(n) // nor this, and what it passes over stays
	return b, nil
}
