package host

import (
	"bufio"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// EntrypointProblem is why a program inside a root filesystem cannot be
// started.
type EntrypointProblem struct {
	// Path is the program, or what it needs, as a path inside the root
	// filesystem; or just its name if it was found nowhere.
	Path string
	// Reason says what is the matter, in words for the plugin's author.
	Reason string
}

// Error returns the reason.
func (p *EntrypointProblem) Error() string { return p.Reason }

// DiagnoseEntrypoint looks for what keeps argv0 from being started inside the
// root filesystem at the host path rootfs: it is not there, cannot be executed,
// was built for another machine, or lacks the interpreter it names. argv0 is
// looked up as the runtime does it: in pathEnv (a PATH, without the name) if it
// has no slash, else relative to cwd. Links are followed inside the root
// filesystem. It returns nil if it finds nothing, or if it cannot look.
func DiagnoseEntrypoint(rootfs, cwd, argv0, pathEnv string) *EntrypointProblem {
	root, err := unix.Open(rootfs, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer func() { _ = unix.Close(root) }() // nothing was written
	d := diagnosis{root: root}
	if strings.Contains(argv0, "/") {
		name := argv0
		if !path.IsAbs(name) {
			name = path.Join("/", cwd, name)
		}
		return d.program(argv0, name, 0)
	}
	return d.search(argv0, cwd, pathEnv)
}

// diagnosis looks at files inside one root filesystem.
type diagnosis struct {
	root int // of its directory, O_PATH
}

// maxInterpreters is how many scripts may be interpreted by scripts; the
// kernel's limit is close to it.
const maxInterpreters = 4

// search looks for a program in the directories of a PATH.
func (d diagnosis) search(name, cwd, pathEnv string) *EntrypointProblem {
	var refused *EntrypointProblem
	for dir := range strings.SplitSeq(pathEnv, ":") {
		if !path.IsAbs(dir) {
			dir = path.Join("/", cwd, dir)
		}
		full := path.Join(dir, name)
		mode, err := d.mode(full)
		if err != nil || mode&unix.S_IFMT == unix.S_IFDIR {
			continue
		}
		if mode&0o111 == 0 {
			if refused == nil {
				refused = &EntrypointProblem{Path: full, Reason: full + " is not executable: it lacks the x permission"}
			}
			continue
		}
		return d.program(full, full, 0)
	}
	if refused != nil {
		return refused
	}
	return &EntrypointProblem{Path: name, Reason: fmt.Sprintf("there is no %s in the plugin's PATH (%s)", name, pathEnv)}
}

// program looks at the file that is to be executed. shown is what it is called
// in texts, name its path inside the root filesystem, depth how many
// interpreters led here.
func (d diagnosis) program(shown, name string, depth int) *EntrypointProblem {
	problem := func(format string, args ...any) *EntrypointProblem {
		return &EntrypointProblem{Path: name, Reason: fmt.Sprintf(format, args...)}
	}
	mode, err := d.mode(name)
	switch {
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR):
		if target, ok := d.danglingLink(name); ok {
			return problem("%s is a symbolic link to %s, which is not in the plugin's root filesystem", shown, printable(target))
		}
		return problem("there is no %s in the plugin's root filesystem", shown)
	case errors.Is(err, unix.ELOOP):
		return problem("%s is a symbolic link that leads nowhere", shown)
	case err != nil:
		return nil
	case mode&unix.S_IFMT == unix.S_IFDIR:
		return problem("%s is a directory", shown)
	case mode&unix.S_IFMT != unix.S_IFREG:
		return problem("%s is not a file", shown)
	case mode&0o111 == 0:
		return problem("%s is not executable: it lacks the x permission", shown)
	}
	f, err := d.open(name)
	if err != nil {
		return nil
	}
	defer f.Close()
	var start [4]byte
	n, err := io.ReadFull(f, start[:])
	switch {
	case n == 0 && err != nil:
		return problem("%s is empty", shown)
	case bytes.HasPrefix(start[:n], []byte("#!")):
		return d.script(shown, name, f, depth)
	case bytes.Equal(start[:n], []byte(elf.ELFMAG)):
		return d.elf(shown, name, f)
	}
	return problem("%s is neither a program nor a script that begins with #!", shown)
}

// script looks at the interpreter a script names.
func (d diagnosis) script(shown, name string, f *os.File, depth int) *EntrypointProblem {
	line, err := bufio.NewReader(io.NewSectionReader(f, 2, 254)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return nil
	}
	line = strings.TrimSuffix(line, "\n")
	carriage := strings.HasSuffix(line, "\r")
	// The kernel parts words at these two only.
	fields := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' })
	if len(fields) == 0 {
		return &EntrypointProblem{Path: name, Reason: shown + " is a script that names no interpreter after #!"}
	}
	interpreter := fields[0]
	if !path.IsAbs(interpreter) || depth == maxInterpreters {
		return nil // relative to a directory that is not known, or endless
	}
	p := d.program(printable(interpreter), interpreter, depth+1)
	if p == nil {
		return nil
	}
	p.Reason = fmt.Sprintf("%s is a script for %s, but %s", shown, strings.TrimSuffix(interpreter, "\r"), p.Reason)
	if carriage {
		p.Reason += "; the script's lines end in CR LF, and the CR counts as part of the name"
	}
	return p
}

// printable returns a name as it can be shown: what a plugin's file says goes
// to somebody's terminal.
func printable(name string) string {
	if quoted := strconv.Quote(name); quoted != `"`+name+`"` {
		return quoted
	}
	return name
}

// elf looks at the machine a program was built for and at its loader.
func (d diagnosis) elf(shown, name string, f *os.File) *EntrypointProblem {
	problem := func(format string, args ...any) *EntrypointProblem {
		return &EntrypointProblem{Path: name, Reason: fmt.Sprintf(format, args...)}
	}
	p, err := readProgram(f)
	if err != nil {
		return problem("%s is a damaged program: %v", shown, err)
	}
	if p.kind != elf.ET_EXEC && p.kind != elf.ET_DYN {
		return problem("%s is no program: it is an object file", shown)
	}
	if arch := p.arch(); !runsOn(arch, runtime.GOARCH) {
		return problem("%s is built for %s, this host is %s", shown, arch, runtime.GOARCH)
	}
	if p.loader == "" {
		return nil
	}
	if _, err := d.mode(p.loader); errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return &EntrypointProblem{Path: p.loader, Reason: fmt.Sprintf(
			"%s is linked dynamically and needs the loader %s, which is not in the plugin's root filesystem: link it statically, or add the loader and its libraries",
			shown, printable(p.loader))}
	}
	return nil
}

// mode returns the mode of the file a path leads to inside the root filesystem.
func (d diagnosis) mode(name string) (uint32, error) {
	fd, err := d.path(name, 0)
	if err != nil {
		return 0, err
	}
	defer func() { _ = unix.Close(fd) }() // nothing was written
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return 0, err
	}
	return st.Mode, nil
}

// open opens for reading the regular file that mode found.
func (d diagnosis) open(name string) (*os.File, error) {
	// A file that was replaced meanwhile must not block.
	fd, err := unix.Openat2(d.root, name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// path finds a path inside the root filesystem without opening what is there.
func (d diagnosis) path(name string, flags uint64) (int, error) {
	return unix.Openat2(d.root, name, &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC | flags,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
}

// danglingLink returns where the link called name leads.
func (d diagnosis) danglingLink(name string) (string, bool) {
	fd, err := d.path(name, unix.O_NOFOLLOW)
	if err != nil {
		return "", false
	}
	defer func() { _ = unix.Close(fd) }() // nothing was written
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return "", false
	}
	return string(buf[:n]), true
}
