package pluginlog

import (
	"bufio"
	"errors"
	"hash/crc32"
	"io"
)

// scanBuffer is the size of the buffer records are read through; no record is
// longer.
const scanBuffer = 128 << 10

// scanRecords calls fn with the records of f between two offsets at which
// records begin, and the offset of each, until fn returns false. What is no
// record is skipped. The text of a record is only valid during the call.
func scanRecords(f io.ReaderAt, table *crc32.Table, from, to int64, fn func(offset int64, r record) bool) error {
	in := bufio.NewReaderSize(io.NewSectionReader(f, from, to-from), int(min(scanBuffer, max(to-from, 4096))))
	at := from
	tooLong := false
	for {
		line, err := in.ReadSlice('\n')
		start := at
		at += int64(len(line))
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			tooLong = true // whatever it is, it is no record
			continue
		case errors.Is(err, io.EOF): // a record without an end is none
			return nil
		case err != nil:
			return err
		case tooLong:
			tooLong = false
			continue
		}
		r, err := parseRecord(line[:len(line)-1], table)
		if err != nil {
			continue
		}
		if !fn(start, r) {
			return nil
		}
	}
}

// nextRecord returns the offset after the first newline of f at or after from,
// or to if there is none before.
func nextRecord(f io.ReaderAt, from, to int64) (int64, error) {
	in := bufio.NewReaderSize(io.NewSectionReader(f, from, to-from), 4096)
	for at := from; ; {
		line, err := in.ReadSlice('\n')
		at += int64(len(line))
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF):
			return to, nil
		default:
			return at, err
		}
	}
}
