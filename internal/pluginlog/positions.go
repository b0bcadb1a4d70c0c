package pluginlog

import (
	"errors"
	"io/fs"
	"os"
)

// progress is what a log says of a raw file.
type progress struct {
	position
	// dropped is how many bytes were dropped and not told of.
	dropped int64
}

// positionWindow is how far from the end of a file its positions are looked for
// first: more than the distance of two checkpoints.
const positionWindow = 2 * checkpointEvery

// positions returns how far the raw files of a start were picked up, by stream.
// A stream of which the log knows nothing is missing.
func (s *files) positions(start uint64) (map[byte]progress, error) {
	found := make(map[byte]progress)
	for seq := s.seq; seq > 0 && seq >= s.first && len(found) < 2; seq-- {
		newer := found
		found = make(map[byte]progress)
		err := s.records(seq, []int64{positionWindow}, func(r record) {
			if r.pos.start != start {
				return
			}
			p := progress{position: r.pos}
			if n, ok := decimal(r.text); ok && r.kind == kindPosition {
				p.dropped = int64(n)
			}
			found[r.pos.stream] = p
		}, func() bool { return len(found) == 2 })
		if err != nil {
			return nil, err
		}
		for stream, p := range newer {
			found[stream] = p
		}
	}
	return found, nil
}

// lastStart returns the number of the latest start the log knows of.
func (s *files) lastStart() (uint64, error) {
	var last uint64
	for seq := s.seq; seq > 0 && seq >= s.first && last == 0; seq-- {
		// All but notes tell it, so that the last few lines do as a rule.
		windows := []int64{4 << 10, positionWindow}
		err := s.records(seq, windows, func(r record) { last = max(last, r.pos.start) }, func() bool { return last > 0 })
		if err != nil {
			return 0, err
		}
	}
	return last, nil
}

// records calls fn with the records at the end of a file, in windows of which
// each is larger, until they suffice, and else with all of them. It calls fn
// with some more than once.
func (s *files) records(seq uint64, windows []int64, fn func(record), enough func() bool) error {
	f, err := os.Open(s.path(seq))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	size := info.Size()
	each := func(_ int64, r record) bool { fn(r); return true }
	for _, window := range windows {
		if size <= window {
			break
		}
		from, err := nextRecord(f, size-window, size)
		if err != nil {
			return err
		}
		if err := scanRecords(f, s.table, from, size, each); err != nil || enough() {
			return err
		}
	}
	return scanRecords(f, s.table, 0, size, each)
}
