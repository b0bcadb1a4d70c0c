package pluginlog

import (
	"bytes"
	"errors"
	"hash/crc32"
	"math"
	"strconv"
	"time"

	"github.com/outletd/outlet"
)

// The kinds of records. The first two name raw files too.
const (
	kindStdout   = 'o'
	kindStderr   = 'e'
	kindNote     = 'n'
	kindPosition = 'p'
	kindVersion  = 'v'
)

// formatVersion is the text of the first record of a file.
const formatVersion = "1"

// record is one line of a log's file.
type record struct {
	kind    byte
	partial bool
	time    int64 // nanoseconds since 1970
	pos     position
	text    []byte
}

// position is how far a raw file has been picked up. Its zero value is none.
type position struct {
	stream byte   // kindStdout or kindStderr
	start  uint64 // of the plugin; from 1
	offset int64
}

var errBadRecord = errors.New("not a record")

// maxHead bounds what precedes the text of a record.
const maxHead = 96

// appendRecord appends the line of r, its newline included, to b.
func appendRecord(b []byte, table *crc32.Table, r record) []byte {
	at := len(b)
	b = append(b, "00000000 "...)
	b = append(b, r.kind, ' ')
	if r.partial {
		b = append(b, "+ "...)
	} else {
		b = append(b, ". "...)
	}
	b = strconv.AppendInt(b, r.time, 10)
	b = append(b, ' ')
	if r.pos.start == 0 {
		b = append(b, '-')
	} else {
		b = append(b, r.pos.stream)
		b = strconv.AppendUint(b, r.pos.start, 10)
		b = append(b, ':')
		b = strconv.AppendInt(b, r.pos.offset, 10)
	}
	b = append(b, ' ')
	b = append(b, r.text...)
	sum := crc32.Checksum(b[at+9:], table)
	const digits = "0123456789abcdef"
	for i := range 8 {
		b[at+i] = digits[sum>>(28-4*i)&0xf]
	}
	return append(b, '\n')
}

// parseRecord reads a line without its newline. The text of the record is part
// of line.
func parseRecord(line []byte, table *crc32.Table) (record, error) {
	var r record
	sum, rest, ok := cutField(line)
	if !ok || len(sum) != 8 {
		return r, errBadRecord
	}
	want, err := strconv.ParseUint(string(sum), 16, 32)
	if err != nil || bytes.ContainsAny(sum, "ABCDEF_+-") || uint32(want) != crc32.Checksum(rest, table) {
		return r, errBadRecord
	}
	kind, rest, ok1 := cutField(rest)
	flag, rest, ok2 := cutField(rest)
	when, rest, ok3 := cutField(rest)
	pos, text, ok4 := cutField(rest)
	if !ok1 || !ok2 || !ok3 || !ok4 || len(kind) != 1 || len(flag) != 1 || flag[0] != '.' && flag[0] != '+' {
		return r, errBadRecord
	}
	r.kind, r.partial, r.text = kind[0], flag[0] == '+', text
	n, ok := decimal(when)
	if !ok {
		return r, errBadRecord
	}
	r.time = int64(n)
	if string(pos) == "-" {
		return r, nil
	}
	if r.pos, ok = parsePosition(pos); !ok {
		return r, errBadRecord
	}
	return r, nil
}

func cutField(b []byte) (field, rest []byte, ok bool) { return bytes.Cut(b, []byte{' '}) }

func parsePosition(b []byte) (position, bool) {
	if len(b) == 0 || b[0] != kindStdout && b[0] != kindStderr {
		return position{}, false
	}
	start, offset, ok := bytes.Cut(b[1:], []byte{':'})
	s, ok1 := decimal(start)
	o, ok2 := decimal(offset)
	if !ok || !ok1 || !ok2 || s == 0 {
		return position{}, false
	}
	return position{stream: b[0], start: s, offset: int64(o)}, true
}

// decimal reads a number in its only form: no sign, no leading zero, at most 63
// bits.
func decimal(b []byte) (uint64, bool) {
	if len(b) == 0 || len(b) > 19 || b[0] == '0' && len(b) > 1 {
		return 0, false
	}
	var n uint64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + uint64(c-'0')
	}
	return n, n <= math.MaxInt64
}

// entry returns what a reader sees of r, and whether it sees anything.
func (r record) entry() (outlet.LogEntry, bool) {
	e := outlet.LogEntry{Time: time.Unix(0, r.time).UTC(), Partial: r.partial}
	switch r.kind {
	case kindStdout:
		e.Stream = "stdout"
	case kindStderr:
		e.Stream = "stderr"
	case kindNote:
		e.Stream = "outlet"
	default:
		return e, false
	}
	e.Line = string(r.text)
	return e, true
}
