package api

import (
	"encoding/binary"
	"fmt"
	"io"
)

// The exec protocol: after the connection was upgraded both sides send frames.
// A frame is a byte that says what it is, three zero bytes, the length of the
// payload as a big-endian 32-bit number, and the payload.

// frameType says what a frame is.
type frameType byte

const (
	frameStdin    frameType = 0  // client: bytes for standard input
	frameStdout   frameType = 1  // server: bytes of standard output
	frameStderr   frameType = 2  // server: bytes of standard error
	frameExit     frameType = 3  // server, last: JSON {"ExitCode":n}
	frameStdinEnd frameType = 4  // client: no more standard input
	frameResize   frameType = 5  // client: JSON {"Rows":n,"Columns":n}
	frameError    frameType = 7  // server, last: JSON {"message":"…","status":n}
	frameStart    frameType = 16 // client, first: JSON {"Args","Env","Cwd","Terminal"}
)

const (
	frameHeader = 8
	maxFrame    = 1 << 20
)

// readFrame reads one frame. io.EOF means that the other side ended between
// frames.
func readFrame(r io.Reader) (frameType, []byte, error) {
	var h [frameHeader]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return 0, nil, err
	}
	if h[1]|h[2]|h[3] != 0 {
		return 0, nil, invalid("malformed frame: header % x", h)
	}
	n := binary.BigEndian.Uint32(h[4:])
	if n > maxFrame {
		return 0, nil, invalid("malformed frame: %d bytes are more than %d", n, maxFrame)
	}
	payload := make([]byte, n)
	if _, err := io.ReadFull(r, payload); err != nil {
		if err == io.EOF { // exactly what ReadFull returns
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, fmt.Errorf("read a frame: %w", err)
	}
	return frameType(h[0]), payload, nil
}

// appendFrame appends a frame to b.
func appendFrame(b []byte, t frameType, payload []byte) []byte {
	b = append(b, byte(t), 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload))) //nolint:gosec // callers stay below maxFrame
	return append(b, payload...)
}
