package logdriver

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Names of the sources of entries.
const (
	SourceStdout = "stdout"
	SourceStderr = "stderr"
)

// MaxEntry is the longest entry that a Decoder accepts unless told otherwise, in
// bytes.
const MaxEntry = 1 << 20

// MaxLine is the longest line in an entry that a host writes, in bytes.
const MaxLine = 16 << 10

// Entry is one line of output, or a part of one.
type Entry struct {
	// Source is SourceStdout or SourceStderr.
	Source string
	// TimeNano is when it was written, in nanoseconds since 1970 UTC.
	TimeNano int64
	// Line is what was written. A host writes it without a line end; what a
	// plugin sends back has one.
	Line []byte
	// Partial says that the line was cut up, and is set on all its parts.
	Partial bool
	// Metadata says which part it is. The zero value is none.
	Metadata PartialMetadata
	// Attrs are more facts about the entry. Hosts send plugins none.
	Attrs []Attr
}

// PartialMetadata is a part's place in its line.
type PartialMetadata struct {
	// Last is set on the last part.
	Last bool
	// ID is the same for all parts.
	ID string
	// Ordinal counts the parts from 1.
	Ordinal int32
}

// Attr is a fact about an entry.
type Attr struct{ Key, Value string }

// ErrEntryTooLarge is what errors match if an entry is longer than the limit.
var ErrEntryTooLarge = errors.New("log entry is too large")

// ErrMalformed is what errors match if an entry is no protobuf message.
var ErrMalformed = errors.New("malformed log entry")

// Tags of the message's fields: the number, and how the value is written.
const (
	tagSource   = 1<<3 | wireBytes
	tagTime     = 2<<3 | wireVarint
	tagLine     = 3<<3 | wireBytes
	tagPartial  = 4<<3 | wireVarint
	tagMetadata = 5<<3 | wireBytes
	tagAttrs    = 6<<3 | wireBytes

	tagLast    = 1<<3 | wireVarint
	tagID      = 2<<3 | wireBytes
	tagOrdinal = 3<<3 | wireVarint

	tagKey   = 1<<3 | wireBytes
	tagValue = 2<<3 | wireBytes
)

// How values are written.
const (
	wireVarint = 0
	wire64     = 1
	wireBytes  = 2
	wire32     = 5
)

// AppendEntry appends an entry with its length in front, as it goes into a FIFO,
// and allocates nothing if b has room.
func AppendEntry(b []byte, e *Entry) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(e.size()))
	if e.Source != "" {
		b = appendString(append(b, tagSource), e.Source)
	}
	if e.TimeNano != 0 {
		b = binary.AppendUvarint(append(b, tagTime), uint64(e.TimeNano))
	}
	if len(e.Line) > 0 {
		b = binary.AppendUvarint(append(b, tagLine), uint64(len(e.Line)))
		b = append(b, e.Line...)
	}
	if e.Partial {
		b = append(b, tagPartial, 1)
	}
	if m := &e.Metadata; *m != (PartialMetadata{}) {
		b = binary.AppendUvarint(append(b, tagMetadata), uint64(m.size()))
		if m.Last {
			b = append(b, tagLast, 1)
		}
		if m.ID != "" {
			b = appendString(append(b, tagID), m.ID)
		}
		if m.Ordinal != 0 {
			b = binary.AppendUvarint(append(b, tagOrdinal), uint64(int64(m.Ordinal)))
		}
	}
	for i := range e.Attrs {
		a := &e.Attrs[i]
		b = binary.AppendUvarint(append(b, tagAttrs), uint64(a.size()))
		if a.Key != "" {
			b = appendString(append(b, tagKey), a.Key)
		}
		if a.Value != "" {
			b = appendString(append(b, tagValue), a.Value)
		}
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func (e *Entry) size() int {
	n := sizeBytes(len(e.Source)) + sizeBytes(len(e.Line))
	if e.TimeNano != 0 {
		n += 1 + sizeVarint(uint64(e.TimeNano))
	}
	if e.Partial {
		n += 2
	}
	if e.Metadata != (PartialMetadata{}) {
		m := e.Metadata.size()
		n += 1 + sizeVarint(uint64(m)) + m
	}
	for i := range e.Attrs {
		a := e.Attrs[i].size()
		n += 1 + sizeVarint(uint64(a)) + a
	}
	return n
}

func (m *PartialMetadata) size() int {
	n := sizeBytes(len(m.ID))
	if m.Last {
		n += 2
	}
	if m.Ordinal != 0 {
		n += 1 + sizeVarint(uint64(int64(m.Ordinal)))
	}
	return n
}

func (a *Attr) size() int { return sizeBytes(len(a.Key)) + sizeBytes(len(a.Value)) }

// sizeBytes is the size of a field of n bytes, none if there are none.
func sizeBytes(n int) int {
	if n == 0 {
		return 0
	}
	return 1 + sizeVarint(uint64(n)) + n
}

func sizeVarint(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

// Encoder writes entries, one Write for each. It is not safe for concurrent use.
type Encoder struct {
	w   io.Writer
	buf []byte
}

// NewEncoder returns an encoder that writes to w.
func NewEncoder(w io.Writer) *Encoder { return &Encoder{w: w} }

// Encode writes an entry.
func (e *Encoder) Encode(entry *Entry) error {
	e.buf = AppendEntry(e.buf[:0], entry)
	_, err := e.w.Write(e.buf)
	return err
}

// Decoder reads entries. It is not safe for concurrent use.
type Decoder struct {
	r     io.Reader
	limit int
	// buf[at:end] was read and not decoded yet.
	buf     []byte
	at, end int
	// err is why nothing more can be read.
	err error
}

// readAhead is how much a Decoder reads at once, in bytes.
const readAhead = 128 << 10

// NewDecoder returns a decoder that reads from r entries of up to limit bytes;
// zero means MaxEntry. It reads ahead.
func NewDecoder(r io.Reader, limit int) *Decoder {
	if limit <= 0 {
		limit = MaxEntry
	}
	return &Decoder{r: r, limit: limit}
}

// Decode reads the next entry into e. Its Line is good until the next call. The
// error is io.EOF at the end and io.ErrUnexpectedEOF within an entry; it matches
// ErrEntryTooLarge or ErrMalformed where that is so, and then nothing more can be
// read.
func (d *Decoder) Decode(e *Entry) error {
	if d.end-d.at < 4 {
		if err := d.fill(4); err != nil {
			return err
		}
	}
	size := binary.BigEndian.Uint32(d.buf[d.at:])
	if uint64(size) > uint64(d.limit) {
		d.err = fmt.Errorf("%w: %d bytes, at most %d are accepted", ErrEntryTooLarge, size, d.limit)
		return d.err
	}
	whole := 4 + int(size)
	if d.end-d.at < whole {
		if err := d.fill(whole); err != nil {
			return err
		}
	}
	message := d.buf[d.at+4 : d.at+whole : d.at+whole]
	d.at += whole
	if err := e.unmarshal(message); err != nil {
		d.err = err
		return err
	}
	return nil
}

// fill reads until n bytes are there. What was decoded before is gone then.
func (d *Decoder) fill(n int) error {
	if d.err != nil {
		return d.err
	}
	switch {
	case n > len(d.buf):
		grown := make([]byte, max(n, readAhead))
		d.end = copy(grown, d.buf[d.at:d.end])
		d.buf, d.at = grown, 0
	case d.at > 0:
		d.end = copy(d.buf, d.buf[d.at:d.end])
		d.at = 0
	}
	for idle := 0; d.end < n; {
		got, err := d.r.Read(d.buf[d.end:])
		d.end += got
		if d.end >= n {
			return nil // an error comes back with the next read
		}
		if got > 0 {
			idle = 0
		} else if idle++; err == nil && idle == 100 {
			err = io.ErrNoProgress
		}
		if err != nil {
			if errors.Is(err, io.EOF) && d.end > 0 {
				err = io.ErrUnexpectedEOF
			}
			d.err = err
			return err
		}
	}
	return nil
}

// unmarshal reads a message. Line stays a part of b.
func (e *Entry) unmarshal(b []byte) error {
	was := e.Metadata.ID
	*e = Entry{Attrs: e.Attrs[:0]}
	for i := 0; i < len(b); {
		// What nearly all entries are made of is read without a detour.
		switch b[i] {
		case tagLine, tagSource:
			if p, next, ok := shortBytes(b, i+1); ok {
				if b[i] == tagLine {
					e.Line = p
				} else {
					e.Source = sourceString(p)
				}
				i = next
				continue
			}
		case tagTime:
			if v, next := number(b, i+1); next > 0 {
				e.TimeNano, i = int64(v), next
				continue
			}
		}
		f, next, err := nextField(b, i)
		if err != nil {
			return err
		}
		i = next
		switch f.tag {
		case tagLine:
			e.Line = f.bytes
		case tagSource:
			e.Source = sourceString(f.bytes)
		case tagTime:
			e.TimeNano = int64(f.value)
		case tagPartial:
			e.Partial = f.value != 0
		case tagMetadata:
			if err := e.Metadata.unmarshal(f.bytes, was); err != nil {
				return err
			}
		case tagAttrs:
			var a Attr
			if err := a.unmarshal(f.bytes); err != nil {
				return err
			}
			e.Attrs = append(e.Attrs, a)
		}
	}
	return nil
}

// sourceString makes no new string for the two sources there are.
func sourceString(b []byte) string {
	switch string(b) {
	case SourceStdout:
		return SourceStdout
	case SourceStderr:
		return SourceStderr
	}
	return string(b)
}

// unmarshal reads into m what is there; a message that comes twice is merged.
// was is the ID of the entry before, which is that of this one for all parts but
// the first.
func (m *PartialMetadata) unmarshal(b []byte, was string) error {
	for i := 0; i < len(b); {
		f, next, err := nextField(b, i)
		if err != nil {
			return err
		}
		i = next
		switch f.tag {
		case tagLast:
			m.Last = f.value != 0
		case tagID:
			if string(f.bytes) == was {
				m.ID = was
			} else {
				m.ID = string(f.bytes)
			}
		case tagOrdinal:
			m.Ordinal = int32(f.value)
		}
	}
	return nil
}

func (a *Attr) unmarshal(b []byte) error {
	for i := 0; i < len(b); {
		f, next, err := nextField(b, i)
		if err != nil {
			return err
		}
		i = next
		switch f.tag {
		case tagKey:
			a.Key = string(f.bytes)
		case tagValue:
			a.Value = string(f.bytes)
		}
	}
	return nil
}

// A field is one field of a message: value or bytes, depending on the tag.
type field struct {
	tag   uint64
	value uint64
	bytes []byte
}

// nextField reads the field at b[i] and returns where the next one is. Fields
// that nobody knows are read, too, so that they can be passed over.
func nextField(b []byte, i int) (field, int, error) {
	var f field
	f.tag, i = number(b, i)
	if i < 0 || f.tag>>3 == 0 || f.tag>>3 > maxFieldNumber {
		return f, 0, fmt.Errorf("%w: field number", ErrMalformed)
	}
	var size uint64
	switch f.tag & 7 {
	case wireVarint:
		if f.value, i = number(b, i); i < 0 {
			return f, 0, fmt.Errorf("%w: number", ErrMalformed)
		}
		return f, i, nil
	case wireBytes:
		if size, i = number(b, i); i < 0 {
			return f, 0, fmt.Errorf("%w: length of a field", ErrMalformed)
		}
	case wire64:
		size = 8
	case wire32:
		size = 4
	default:
		return f, 0, fmt.Errorf("%w: type %d of a field", ErrMalformed, f.tag&7)
	}
	if size > uint64(len(b)-i) {
		return f, 0, fmt.Errorf("%w: end within a field", ErrMalformed)
	}
	end := i + int(size)
	f.bytes = b[i:end:end]
	return f, end, nil
}

// shortBytes reads a field of less than 16 KiB whose length is at b[i], and
// returns where the next one is. What it does not know is for nextField.
func shortBytes(b []byte, i int) ([]byte, int, bool) {
	if i+1 >= len(b) {
		return nil, 0, false
	}
	size := int(b[i])
	i++
	if size >= 0x80 {
		if b[i] >= 0x80 {
			return nil, 0, false
		}
		size = size&0x7f | int(b[i])<<7
		i++
	}
	if size > len(b)-i {
		return nil, 0, false
	}
	return b[i : i+size : i+size], i + size, true
}

// maxFieldNumber is the largest number that protobuf allows.
const maxFieldNumber = 1<<29 - 1

// number reads a varint at b[i] and returns where it ends, or a negative
// position if it does not. Most are one byte long.
func number(b []byte, i int) (uint64, int) {
	if i < len(b) && b[i] < 0x80 {
		return uint64(b[i]), i + 1
	}
	return longNumber(b, i)
}

func longNumber(b []byte, i int) (uint64, int) {
	v, n := binary.Uvarint(b[i:])
	if n <= 0 {
		return 0, -1
	}
	return v, i + n
}

// Fragments calls write for an entry, and where its line is longer than MaxLine
// for each of the parts it has to be cut into. id is the parts' ID. What write
// gets is good until it returns; its error ends the work.
func Fragments(e *Entry, id string, write func(*Entry) error) error {
	if len(e.Line) <= MaxLine {
		return write(e)
	}
	part := *e
	part.Partial = true
	part.Metadata = PartialMetadata{ID: id}
	for line := e.Line; len(line) > 0; {
		n := min(len(line), MaxLine)
		part.Line, line = line[:n], line[n:]
		part.Metadata.Ordinal++
		part.Metadata.Last = len(line) == 0
		if err := write(&part); err != nil {
			return err
		}
	}
	return nil
}
