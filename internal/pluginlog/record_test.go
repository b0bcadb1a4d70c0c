package pluginlog

import (
	"bytes"
	"hash/crc32"
	"strings"
	"testing"
)

var table = crc32.MakeTable(crc32.Castagnoli)

func TestRecordsComeBackAsTheyWere(t *testing.T) {
	for name, r := range map[string]record{
		"a line":           {kind: 'o', time: 1764038854000000001, pos: position{'o', 7, 1234}, text: []byte("hello world")},
		"a part":           {kind: 'e', partial: true, time: 1, pos: position{'e', 1, 0}, text: []byte("x")},
		"an empty note":    {kind: 'n', text: []byte{}},
		"a note of a drop": {kind: 'n', pos: position{'e', 1 << 40, 1 << 62}, text: []byte("dropped")},
		"any bytes":        {kind: 'o', text: []byte("\x00\xff \r\t")},
	} {
		line := appendRecord(nil, table, r)
		got, err := parseRecord(bytes.TrimSuffix(line, []byte("\n")), table)
		if err != nil || got.kind != r.kind || got.partial != r.partial || got.time != r.time || got.pos != r.pos || !bytes.Equal(got.text, r.text) {
			t.Errorf("%s: %q is read as %+v, %v", name, line, got, err)
		}
		if head := len(line) - len(r.text); head > maxHead {
			t.Errorf("%s: %d bytes precede the text", name, head)
		}
	}
}

func TestChangedRecordsAreNone(t *testing.T) {
	line := bytes.TrimSuffix(appendRecord(nil, table, record{kind: 'o', time: 5, pos: position{'o', 1, 2}, text: []byte("text")}), []byte("\n"))
	for i := range line {
		changed := bytes.Clone(line)
		changed[i] ^= 0x01
		if r, err := parseRecord(changed, table); err == nil {
			t.Errorf("%q is read as %+v", changed, r)
		}
		if r, err := parseRecord(line[:i], table); err == nil {
			t.Errorf("%q is read as %+v", line[:i], r)
		}
	}
}

func TestNames(t *testing.T) {
	for name, ok := range map[string]bool{"00000001.log": true, "123456789.log": true, "1.log": false, "00000000.log": false, "+0000001.log": false, "0000001x.log": false, "00000001.log.1": false} {
		if _, got := fileNumber(name); got != ok {
			t.Errorf("%s is a file of a log: %v", name, got)
		}
	}
	for name, ok := range map[string]bool{"start-00000001.stdout": true, "start-00000009.stderr": true, "start-1.stdout": false, "start-00000000.stdout": false, "start-00000001.stdin": false, "start-00000001": false} {
		if _, got := rawNumber(name); got != ok {
			t.Errorf("%s is a raw file: %v", name, got)
		}
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add([]byte("o . 5 o1:2 text"))
	f.Add([]byte("n + 0 - "))
	f.Add([]byte("p . 1 e9223372036854775807:9223372036854775807 0"))
	f.Add([]byte(""))
	f.Fuzz(func(t *testing.T, rest []byte) {
		// As it is, and with the checksum that makes it count.
		_, _ = parseRecord(rest, table)
		sum := appendRecord(nil, table, record{kind: 'x'})[:9]
		line := append(bytes.Clone(sum), rest...)
		const digits = "0123456789abcdef"
		for i, c := 0, crc32.Checksum(rest, table); i < 8; i++ {
			line[i] = digits[c>>(28-4*i)&0xf]
		}
		r, err := parseRecord(line, table)
		if err != nil {
			return
		}
		if again := appendRecord(nil, table, r); !bytes.Contains(rest, []byte("\n")) && string(again) != string(line)+"\n" {
			t.Errorf("%q is written as %q", line, again)
		}
	})
}

func FuzzScan(f *testing.F) {
	whole := appendRecord(appendRecord(nil, table, record{kind: 'o', text: []byte("a")}), table, record{kind: 'e', text: []byte("b")})
	f.Add(whole, 0)
	f.Add([]byte(strings.Repeat("\x00", 300)), 3)
	f.Fuzz(func(t *testing.T, junk []byte, cut int) {
		// Whatever stands before a whole line does not hide it.
		b := append(append(bytes.Clone(junk), '\n'), whole...)
		var last []byte
		if err := scanRecords(bytes.NewReader(b), table, 0, int64(len(b)), func(off int64, r record) bool {
			if off < 0 || off >= int64(len(b)) {
				t.Errorf("a record at %d", off)
			}
			last = append(last[:0], r.text...)
			return true
		}); err != nil {
			t.Fatal(err)
		}
		if string(last) != "b" {
			t.Errorf("the last record is %q", last)
		}
	})
}
