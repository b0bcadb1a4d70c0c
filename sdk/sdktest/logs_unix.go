//go:build unix

package sdktest

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// logs follows a container's output as dockerd does: a FIFO that the host holds
// open for reading and writing, so that there never is an end of file.
func (s *suite) logs(t *testing.T) {
	file := filepath.Join(t.TempDir(), token())
	if err := syscall.Mkfifo(file, 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(file, os.O_RDWR|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var c struct{ Cap struct{ ReadLogs bool } }
	s.call(t, dockerHeader, "LogDriver.Capabilities", nil).into(t, &c)
	info := args{
		"Config": s.LogOpts, "ContainerID": token(), "ContainerName": "/sdktest", "ContainerEntrypoint": "/bin/sh",
		"ContainerArgs": []string{"-c", "true"}, "ContainerCreated": time.Now().UTC(), "DaemonName": "docker",
		"ContainerEnv": []string{"A=b"}, "ContainerLabels": map[string]string{"a": "b"}, "LogPath": "",
	}
	s.call(t, dockerHeader, "LogDriver.StartLogging", args{"File": file, "Info": info}).ok(t)
	begin := time.Now()
	var want []string
	for i := range 2000 { // more than the pipe holds
		line := fmt.Sprintf("line %d %s", i, strings.Repeat("x", 64))
		want = append(want, line)
		s.write(t, f, frame("stdout", begin.Add(time.Duration(i)*time.Microsecond), []byte(line), 0, false))
	}
	long := strings.Repeat("a", 16<<10) + "the end"
	s.write(t, f, frame("stderr", time.Now(), []byte(long[:16<<10]), 1, false))
	s.write(t, f, frame("stderr", time.Now(), []byte(long[16<<10:]), 2, true))
	want = append(want, long)
	// Nothing may be lost that was written before.
	s.call(t, dockerHeader, "LogDriver.StopLogging", args{"File": file}).ok(t)
	if left := make([]byte, 1); true {
		if n, err := syscall.Read(int(f.Fd()), left); n > 0 {
			t.Errorf("the plugin has answered StopLogging and left something in the pipe (%v)", err)
		}
	}
	if !c.Cap.ReadLogs {
		if a := s.call(t, dockerHeader, "LogDriver.ReadLogs", args{"Info": info, "Config": args{"Tail": -1}}); a.status != http.StatusNotFound {
			t.Errorf("ReadLogs is not announced, but answers with status %d", a.status)
		}
		return
	}
	s.readBack(t, info, want)
}

func (s *suite) write(t *testing.T, f *os.File, b []byte) {
	t.Helper()
	if err := f.SetWriteDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(b); err != nil {
		t.Fatalf("the plugin does not read: %v", err)
	}
}

// readBack reads what was logged, as docker logs does.
func (s *suite) readBack(t *testing.T, info args, want []string) {
	read := func(config args) []string {
		t.Helper()
		a := s.call(t, dockerHeader, "LogDriver.ReadLogs", args{"Info": info, "Config": config})
		if a.status != http.StatusOK {
			t.Fatalf("ReadLogs: status %d: %s", a.status, a.body)
		}
		text, err := lines(bytes.NewReader(a.body))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	}
	never := time.Time{}
	if got := read(args{"Since": never, "Until": never, "Tail": -1, "Follow": false}); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("read %d lines back, %d were written, or they differ", len(got), len(want))
	}
	if got := read(args{"Since": never, "Until": never, "Tail": 2, "Follow": false}); strings.Join(got, "\n") != strings.Join(want[len(want)-2:], "\n") {
		t.Errorf("the last two lines are %d lines", len(got))
	}
	// A follower that goes away ends the stream.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	body, err := json.Marshal(args{"Info": info, "Config": args{"Since": never, "Until": never, "Tail": 1, "Follow": true}})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://plugin/LogDriver.ReadLogs", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := readFrame(resp.Body); err != nil {
		t.Errorf("follow the last line: %v", err)
	}
	cancel()
}

// lines is the text of a stream of entries.
func lines(r io.Reader) (string, error) {
	var b strings.Builder
	for {
		line, err := readFrame(r)
		if errors.Is(err, io.EOF) {
			return b.String(), nil
		}
		if err != nil {
			return "", err
		}
		b.Write(line)
	}
}

// readFrame reads an entry and returns its line. It fails unless hosts would
// print it.
func readFrame(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > 1<<20 {
		return nil, fmt.Errorf("an entry of %d bytes", size)
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	var line []byte
	var source string
	for len(b) > 0 {
		tag, n := binary.Uvarint(b)
		v, m := binary.Uvarint(b[max(n, 0):])
		if n <= 0 || m <= 0 {
			return nil, fmt.Errorf("an entry is no protobuf message")
		}
		b = b[n+m:]
		if tag&7 != 2 {
			continue
		}
		if v > uint64(len(b)) {
			return nil, fmt.Errorf("a field is longer than its entry")
		}
		switch tag >> 3 {
		case 1:
			source = string(b[:v])
		case 3:
			line = b[:v]
		}
		b = b[v:]
	}
	if source != "stdout" && source != "stderr" {
		return nil, fmt.Errorf("source %q: hosts drop such entries", source)
	}
	return line, nil
}

// frame is an entry as dockerd writes it; ordinal is 0 for a whole line.
func frame(source string, at time.Time, line []byte, ordinal byte, last bool) []byte {
	b := []byte{0, 0, 0, 0, 1<<3 | 2, byte(len(source))}
	b = append(b, source...)
	b = binary.AppendUvarint(append(b, 2<<3), uint64(at.UnixNano()))
	b = binary.AppendUvarint(append(b, 3<<3|2), uint64(len(line)))
	b = append(b, line...)
	if ordinal > 0 {
		b = append(b, 4<<3, 1)
		meta := []byte{2<<3 | 2, 2, 'i', 'd', 3 << 3, ordinal}
		if last {
			meta = append([]byte{1 << 3, 1}, meta...)
		}
		b = append(b, 5<<3|2, byte(len(meta)))
		b = append(b, meta...)
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}
