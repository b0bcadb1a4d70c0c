package logdriver_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/outletd/outlet/capability/logdriver"
)

var entries = []logdriver.Entry{
	{},
	{Source: "stdout", TimeNano: 1, Line: []byte("hello")},
	{Source: "stderr", TimeNano: -1, Line: bytes.Repeat([]byte("x"), 16<<10), Partial: true, Metadata: logdriver.PartialMetadata{ID: "abc", Ordinal: 1}},
	{Source: "other", Line: bytes.Repeat([]byte("y"), 200<<10), Partial: true, Metadata: logdriver.PartialMetadata{ID: "abc", Ordinal: -2, Last: true}},
	{Attrs: []logdriver.Attr{{Key: "a", Value: "b"}, {}, {Key: "c"}}},
}

func TestEntriesComeBackAsTheyWent(t *testing.T) {
	var buf bytes.Buffer
	enc := logdriver.NewEncoder(&buf)
	for _, e := range entries {
		if err := enc.Encode(&e); err != nil {
			t.Fatal(err)
		}
	}
	dec := logdriver.NewDecoder(&buf, 0)
	var got logdriver.Entry
	for _, want := range entries {
		if err := dec.Decode(&got); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
			t.Error(d)
		}
	}
	if err := dec.Decode(&got); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}

// The bytes of docs/spec/capabilities.md §6, written by hand.
func TestFraming(t *testing.T) {
	e := logdriver.Entry{Source: "stdout", TimeNano: 300, Line: []byte("hi"), Partial: true, Metadata: logdriver.PartialMetadata{Last: true, ID: "i", Ordinal: 2}, Attrs: []logdriver.Attr{{Key: "k", Value: "v"}}}
	want := "\x00\x00\x00\x22" + "\x0a\x06stdout" + "\x10\xac\x02" + "\x1a\x02hi" + "\x20\x01" + "\x2a\x07\x08\x01\x12\x01i\x18\x02" + "\x32\x06\x0a\x01k\x12\x01v"
	if got := string(logdriver.AppendEntry(nil, &e)); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestDecoderRefuses(t *testing.T) {
	frame := func(s string) string { return string(binary.BigEndian.AppendUint32(nil, uint32(len(s)))) + s }
	for _, tt := range []struct {
		name, in string
		want     error
	}{
		{"nothing", "", io.EOF},
		{"half a length", "\x00\x00", io.ErrUnexpectedEOF},
		{"length without entry", "\x00\x00\x00\x05", io.ErrUnexpectedEOF},
		{"half a long entry", "\x00\x08\x00\x00xxx", io.ErrUnexpectedEOF},
		{"4 GiB", "\xff\xff\xff\xff", logdriver.ErrEntryTooLarge},
		{"one more than the limit", "\x00\x10\x00\x01", logdriver.ErrEntryTooLarge},
		{"field 0", frame("\x00\x01"), logdriver.ErrMalformed},
		{"field too long", frame("\x1a\x05abc"), logdriver.ErrMalformed},
		{"length overflows", frame("\x1a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), logdriver.ErrMalformed},
		{"number without end", frame("\x10\xff"), logdriver.ErrMalformed},
		{"group", frame("\x0b\x0c"), logdriver.ErrMalformed},
		{"broken metadata", frame("\x2a\x02\x12\x09"), logdriver.ErrMalformed},
		{"end in fixed 32", frame("\x3d\x01"), logdriver.ErrMalformed},
		{"unknown fields", frame("\x38\x01\x3d1234\x399876abcd\x42\x01x\x1a\x01y"), nil},
		{"known field of another type", frame("\x08\x01\x1a\x01y"), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var e logdriver.Entry
			err := logdriver.NewDecoder(strings.NewReader(tt.in), 0).Decode(&e)
			if !errors.Is(err, tt.want) || tt.want == nil && string(e.Line) != "y" {
				t.Errorf("%+v, %v, want %v", e, err, tt.want)
			}
		})
	}
}

func TestFragments(t *testing.T) {
	for size, want := range map[int]string{
		0:               "[0:false:0:false]",
		16 << 10:        "[16384:false:0:false]",
		16<<10 + 1:      "[16384:true:1:false 1:true:2:true]",
		2 * (16 << 10):  "[16384:true:1:false 16384:true:2:true]",
		2*(16<<10) + 10: "[16384:true:1:false 16384:true:2:false 10:true:3:true]",
	} {
		var got []string
		e := logdriver.Entry{Source: "stdout", TimeNano: 7, Line: make([]byte, size)}
		err := logdriver.Fragments(&e, "id", func(e *logdriver.Entry) error {
			if e.TimeNano != 7 || e.Partial != (e.Metadata.ID == "id") {
				t.Errorf("part %+v", e.Metadata)
			}
			got = append(got, fmt.Sprintf("%d:%v:%d:%v", len(e.Line), e.Partial, e.Metadata.Ordinal, e.Metadata.Last))
			return nil
		})
		if err != nil || fmt.Sprint(got) != want {
			t.Errorf("%d bytes: %v, %v, want %s", size, got, err, want)
		}
	}
}

func TestNoAllocationPerEntry(t *testing.T) {
	e := entries[2]
	buf := logdriver.AppendEntry(nil, &e)
	if n := testing.AllocsPerRun(100, func() { buf = logdriver.AppendEntry(buf[:0], &e) }); n != 0 {
		t.Errorf("%v allocations to write an entry", n)
	}
	enc := logdriver.NewEncoder(io.Discard)
	if err := enc.Encode(&e); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { _ = enc.Encode(&e) }); n != 0 {
		t.Errorf("%v allocations to encode an entry", n)
	}
	dec := logdriver.NewDecoder(&again{frame: buf}, 0)
	var got logdriver.Entry
	if err := dec.Decode(&got); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { _ = dec.Decode(&got) }); n != 0 {
		t.Errorf("%v allocations to read an entry", n)
	}
}

// again is the same frame again and again.
type again struct {
	frame []byte
	at    int
}

func (a *again) Read(p []byte) (int, error) {
	n := copy(p, a.frame[a.at:])
	a.at = (a.at + n) % len(a.frame)
	return n, nil
}

func FuzzDecode(f *testing.F) {
	var all []byte
	for _, e := range entries {
		all = logdriver.AppendEntry(all, &e)
		f.Add(logdriver.AppendEntry(nil, &e))
	}
	f.Add(all)
	f.Fuzz(func(t *testing.T, in []byte) {
		dec := logdriver.NewDecoder(bytes.NewReader(in), 1<<16)
		var e logdriver.Entry
		for dec.Decode(&e) == nil {
			// What could be read is written in a form that reads the same.
			out := logdriver.AppendEntry(nil, &e)
			var back logdriver.Entry
			if err := logdriver.NewDecoder(bytes.NewReader(out), 1<<20).Decode(&back); err != nil {
				t.Fatalf("%+v does not come back: %v", e, err)
			}
			if d := cmp.Diff(e, back, cmpopts.EquateEmpty()); d != "" {
				t.Fatal(d)
			}
		}
	})
}

// Two million entries over a socket, beside their bytes just copied from one.
func BenchmarkStream(b *testing.B) {
	e := logdriver.Entry{Source: "stdout", TimeNano: 1700000000_000000000, Line: bytes.Repeat([]byte("x"), 200)}
	batch := bytes.Repeat(logdriver.AppendEntry(nil, &e), 1000)
	const batches = 2000
	l, err := net.Listen("unix", b.TempDir()+"/s")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			for range batches {
				if _, err := c.Write(batch); err != nil {
					break
				}
			}
			_ = c.Close()
		}
	}()
	round := func(read func(io.Reader) error) time.Duration {
		began := time.Now()
		c, err := net.Dial("unix", l.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		if err := read(c); err != nil {
			b.Fatal(err)
		}
		return time.Since(began)
	}
	var decoded, copied []time.Duration
	for b.Loop() {
		copied = append(copied, round(func(r io.Reader) error {
			_, err := io.Copy(struct{ io.Writer }{io.Discard}, bufio.NewReaderSize(struct{ io.Reader }{r}, 64<<10))
			return err
		}))
		decoded = append(decoded, round(func(r io.Reader) error {
			dec := logdriver.NewDecoder(r, 0)
			var e logdriver.Entry
			for {
				if err := dec.Decode(&e); errors.Is(err, io.EOF) {
					return nil
				} else if err != nil {
					return err
				}
			}
		}))
	}
	slices.Sort(decoded)
	slices.Sort(copied)
	ours, limit := decoded[len(decoded)/2], copied[len(copied)/2]
	b.ReportMetric(0, "ns/op") // the sum of both says nothing
	b.ReportMetric(float64(ours.Microseconds())/1000, "outlet-ms")
	b.ReportMetric(float64(limit.Microseconds())/1000, "limit-ms")
	b.ReportMetric(float64(ours)/float64(limit), "ratio")
}
