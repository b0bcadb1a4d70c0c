package pluginlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/outletd/outlet/internal/durable"
)

// raw is a raw file: what a plugin writes into as its standard output or error
// during one start. The log's lock guards it.
type raw struct {
	stream byte // kindStdout or kindStderr
	start  uint64
	file   *os.File
	// off is how far it has been picked up, according to the log.
	off int64
	// punched is up to where its beginning has been made a hole.
	punched int64
	// exempt is up to where the rate does not apply: what was printed while
	// nobody could pick it up.
	exempt int64
	// dropping says that the plugin exceeded the rate; dropped is how many
	// bytes were dropped since and not told of.
	dropping bool
	dropped  int64
	// watch is the descriptor of the kernel's watch, negative: there is none.
	watch int32
	// noHoles says that the filesystem makes no holes.
	noHoles bool
}

const (
	// punchStep is how much is picked up before it is cut out of a raw file.
	punchStep = 1 << 20
	// blockSize is what holes are aligned to.
	blockSize = 4096
	// rawMode lets a plugin that runs as another user open its output by name
	// (/dev/stderr), as many do. Nobody else reaches the file: the log's
	// directory is root's alone.
	rawMode = 0o622
)

func streamName(stream byte) string {
	if stream == kindStderr {
		return "stderr"
	}
	return "stdout"
}

func rawName(start uint64, stream byte) string {
	return fmt.Sprintf("start-%08d.%s", start, streamName(stream))
}

// rawNumber returns the start a raw file is of.
func rawNumber(name string) (start uint64, ok bool) {
	digits, _, _ := strings.Cut(strings.TrimPrefix(name, "start-"), ".")
	start, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || start == 0 {
		return 0, false
	}
	return start, name == rawName(start, kindStdout) || name == rawName(start, kindStderr)
}

// rawStarts returns the starts of which there are raw files in dir, in order.
func rawStarts(dir string) ([]uint64, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var starts []uint64
	for _, e := range entries {
		if start, ok := rawNumber(e.Name()); ok && !slices.Contains(starts, start) {
			starts = append(starts, start)
		}
	}
	slices.Sort(starts)
	return starts, nil
}

// createRaw makes a raw file and returns it together with the file a plugin
// writes through.
func createRaw(dir string, start uint64, stream byte) (*raw, *os.File, error) {
	path := filepath.Join(dir, rawName(start, stream))
	f, err := durable.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, nil, err
	}
	if err := f.Chmod(rawMode); err != nil { // whatever the umask is
		return nil, nil, errors.Join(err, f.Close(), durable.Remove(path))
	}
	w, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return nil, nil, errors.Join(err, f.Close(), durable.Remove(path))
	}
	return &raw{stream: stream, start: start, file: f, watch: -1}, w, nil
}

// openRaw opens the raw files of a start that are there, at the positions the
// log has for them.
func openRaw(dir string, start uint64, at map[byte]progress) ([]*raw, error) {
	var raws []*raw
	for _, stream := range []byte{kindStdout, kindStderr} {
		f, err := os.OpenFile(filepath.Join(dir, rawName(start, stream)), os.O_RDWR, 0)
		if errors.Is(err, fs.ErrNotExist) { // the start was interrupted
			continue
		}
		if err != nil {
			return nil, errors.Join(err, closeRaws(raws))
		}
		r := &raw{stream: stream, start: start, file: f, watch: -1}
		if p, ok := at[stream]; ok {
			r.off, r.dropped = p.offset, p.dropped
		} else {
			r.skipHole()
		}
		r.dropping = r.dropped > 0
		raws = append(raws, r)
	}
	return raws, nil
}

// skipHole moves the position behind the hole at the beginning of the file: a
// damaged log does not know it any more.
func (r *raw) skipHole() {
	if at, err := unix.Seek(int(r.file.Fd()), 0, unix.SEEK_DATA); err == nil {
		r.off = at
	} else if errors.Is(err, unix.ENXIO) { // nothing but hole
		if info, err := r.file.Stat(); err == nil {
			r.off = info.Size()
		}
	}
}

func closeRaws(raws []*raw) error {
	var errs []error
	for _, r := range raws {
		errs = append(errs, r.file.Close())
	}
	return errors.Join(errs...)
}

func (r *raw) size() (int64, error) {
	info, err := r.file.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (r *raw) position(offset int64) position {
	return position{stream: r.stream, start: r.start, offset: offset}
}

// punch cuts what was picked up out of the file.
func (r *raw) punch() error {
	to := r.off &^ (blockSize - 1)
	if r.noHoles || to-r.punched < punchStep {
		return nil
	}
	err := unix.Fallocate(int(r.file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, r.punched, to-r.punched)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		r.noHoles = true
		return fmt.Errorf("the filesystem makes no holes: the output of the plugin stays on the disk until it ends: %w", err)
	}
	if err != nil {
		return fmt.Errorf("cut out what was picked up: %w", err)
	}
	r.punched = to
	return nil
}

// lineStart returns the offset of the first line that begins within the last
// keep bytes before size, or that offset itself if none does.
func (r *raw) lineStart(buf []byte, size, keep int64) (int64, error) {
	from := max(size-keep, r.off)
	n, err := r.file.ReadAt(buf[:min(int64(len(buf)), size-from)], from)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	if i := bytes.IndexByte(buf[:n], '\n'); i >= 0 && from > r.off {
		return from + int64(i) + 1, nil
	}
	return from, nil
}

// cutLine returns the first line of b, without its newline, and how many bytes
// it takes; 0 if there is no whole line yet. A line longer than limit is cut,
// between characters if it is text.
func cutLine(b []byte, limit int) (line []byte, size int, partial bool) {
	i := bytes.IndexByte(b[:min(len(b), limit+1)], '\n')
	if i >= 0 {
		return b[:i], i + 1, false
	}
	if len(b) <= limit {
		return nil, 0, false
	}
	n := limit
	for back := 1; back < utf8.UTFMax && !utf8.RuneStart(b[n]); back++ {
		n--
	}
	if !utf8.RuneStart(b[n]) { // not text
		n = limit
	}
	return b[:n], n, true
}
