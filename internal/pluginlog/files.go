package pluginlog

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/outletd/outlet/internal/durable"
)

// files are the files of a log: the one that is appended to, and older ones.
// The log's lock guards them.
type files struct {
	dir      string
	maxSize  int64
	maxFiles int
	table    *crc32.Table

	cur   *os.File // nil before the first record is appended
	seq   uint64   // number of cur, or of the newest file; 0: there is none
	first uint64   // number of the oldest file
	size  int64    // of the file seq
	// checked is the size at which positions were last written into cur.
	checked int64
}

// checkpointEvery is how many bytes of a file may pass without positions.
const checkpointEvery = 256 << 10

// fileName returns the name of the log's file with a number.
func fileName(seq uint64) string { return fmt.Sprintf("%08d.log", seq) }

// fileNumber is the reverse of fileName.
func fileNumber(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, ".log")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 63)
	return n, err == nil && n > 0 && fileName(n) == name
}

// fileNumbers returns the numbers of the files in dir, in order.
func fileNumbers(dir string) ([]uint64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var numbers []uint64
	for _, e := range entries {
		if n, ok := fileNumber(e.Name()); ok {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

func (s *files) path(seq uint64) string { return filepath.Join(s.dir, fileName(seq)) }

// open finds the files there are, removes those that are too many, and cuts off
// what an interrupted write left at the end.
func (s *files) open() error {
	numbers, err := fileNumbers(s.dir)
	if err != nil || len(numbers) == 0 {
		return err
	}
	for len(numbers) > s.maxFiles {
		if err := durable.Remove(s.path(numbers[0])); err != nil {
			return err
		}
		numbers = numbers[1:]
	}
	s.first, s.seq = numbers[0], numbers[len(numbers)-1]
	f, err := os.OpenFile(s.path(s.seq), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	s.size, err = repair(f)
	return err
}

// repairWindow is how far before its end the last newline of a file is looked
// for; no record is longer.
const repairWindow = 256 << 10

// repair makes a file end where a record ends, and returns its size.
func repair(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	size := info.Size()
	if size == 0 {
		return 0, nil
	}
	var last [1]byte
	if _, err := f.ReadAt(last[:], size-1); err == nil && last[0] == '\n' {
		return size, nil
	}
	from := max(0, size-repairWindow)
	tail := make([]byte, size-from)
	if _, err := f.ReadAt(tail, from); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	end := from + int64(bytes.LastIndexByte(tail, '\n')+1)
	if end == from && from > 0 {
		// Not ours, whatever it is: end it, so that what follows is legible.
		_, err := durable.WriteAt(f, []byte{'\n'}, size)
		return size + 1, err
	}
	return end, durable.Truncate(f, end)
}

// append writes records to the log. header returns records with the positions
// before batch, for the beginning of a new file. If append fails, nothing of
// batch is in the log.
func (s *files) append(batch []byte, header func([]byte) []byte) error {
	if s.seq == 0 || s.size > 0 && s.size+int64(len(batch)) > s.maxSize {
		if err := s.rotate(header); err != nil {
			return err
		}
	}
	if s.cur == nil {
		f, err := os.OpenFile(s.path(s.seq), os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		s.cur = f
	}
	if s.size == 0 { // made, and then interrupted
		batch = append(header(s.version(nil)), batch...)
		s.checked = 0
	}
	if _, err := durable.WriteAt(s.cur, batch, s.size); err != nil {
		return errors.Join(err, durable.Truncate(s.cur, s.size))
	}
	s.size += int64(len(batch))
	return nil
}

func (s *files) version(b []byte) []byte {
	return appendRecord(b, s.table, record{kind: kindVersion, text: []byte(formatVersion)})
}

// rotate goes on to a new file and removes the oldest if there are too many.
func (s *files) rotate(header func([]byte) []byte) error {
	next := s.path(s.seq + 1)
	f, err := durable.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	h := header(s.version(nil))
	if _, err := durable.WriteAt(f, h, 0); err != nil {
		return errors.Join(err, f.Close(), durable.Remove(next))
	}
	if s.cur != nil {
		err = s.cur.Close()
	}
	s.cur, s.seq, s.size, s.checked = f, s.seq+1, int64(len(h)), int64(len(h))
	if s.first == 0 {
		s.first = s.seq
	}
	for s.seq-s.first >= uint64(s.maxFiles) {
		if rmErr := durable.Remove(s.path(s.first)); rmErr != nil && !errors.Is(rmErr, fs.ErrNotExist) {
			return errors.Join(err, rmErr)
		}
		s.first++
	}
	return err
}

// due says whether positions should be written along with the next batch.
func (s *files) due() bool { return s.size-s.checked >= checkpointEvery }

// close closes the file that is appended to; appending opens it again.
func (s *files) close() error {
	if s.cur == nil {
		return nil
	}
	err := s.cur.Close()
	s.cur = nil
	return err
}
