// Plugin is the program inside the plugins of these tests: it misbehaves in the
// way it is told to. It is no example of a plugin.
package main

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	listen := flag.String("listen", "", "`path` of a socket to serve")
	answer := flag.String("answer", "json", "how requests are answered, see answers")
	path := flag.String("mountpoint", "/mnt/v", "`path` that volumes are said to be at")
	print := flag.String("print", "", "what to print without end: lines, line, or numbers with a pause")
	count := flag.String("count", "", "`path` of a file that says of each start how many numbers it printed")
	die := flag.Duration("die", 0, "`time` after which to exit with status 3, from the first connection on if there is a socket")
	unlink := flag.Bool("unlink", false, "remove the socket on SIGUSR1, and go on")
	stubborn := flag.Bool("stubborn", false, "ignore every signal that can be ignored")
	forks := flag.Int("forks", 0, "`number` of children that ignore signals too")
	orphan := flag.Bool("orphan", false, "leave a grandchild in a session of its own")
	flag.Parse()

	ended := make(chan os.Signal, 16)
	signal.Notify(ended) // and that is all that happens, if stubborn
	for range *forks {
		start("-stubborn")
	}
	if *orphan {
		start("-forks", "1", "-die", "1ms")
	}
	if *path == "endless" {
		*path = strings.Repeat("/a", 8192)
	}
	begin := func() {
		if *die > 0 {
			time.AfterFunc(*die, func() { os.Exit(3) })
		}
	}
	if *listen != "" {
		serve(*listen, *answer, *path, begin)
	} else {
		begin()
	}
	if *print != "" {
		go flood(*print, *count)
	}
	for s := range ended {
		if *unlink && s == syscall.SIGUSR1 {
			_ = os.Remove(*listen) // whoever sent the signal sees whether it is gone
		}
		if !*stubborn && (s == syscall.SIGTERM || s == syscall.SIGINT) {
			return
		}
	}
}

// start runs this program again, in a session of its own.
func start(args ...string) {
	cmd := exec.Command("/proc/self/exe", args...) //nolint:noctx // is to outlive everything
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

func flood(what, count string) {
	if what == "numbers" {
		if err := numbers(count); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	text := bytes.Repeat([]byte("all work and no play makes a plugin dull\n"), 1000)
	if what == "line" {
		text = bytes.Repeat([]byte("x"), 64<<10)
	}
	for {
		if _, err := os.Stdout.Write(text); err != nil {
			return
		}
	}
}

// numbers prints them, and if there is a file to count in, writes there after
// each how far it is: whoever reads it knows what was printed even if this
// process is killed. Each start has eight bytes, decimal, the last of them a
// newline.
func numbers(count string) error {
	keep := func(int) error { return nil }
	if count != "" {
		f, err := os.OpenFile(count, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return err
		}
		defer f.Close()
		size, err := f.Seek(0, io.SeekEnd)
		if err != nil {
			return err
		}
		keep = func(n int) error {
			_, err := fmt.Fprintf(io.NewOffsetWriter(f, size), "%7d\n", n)
			return err
		}
	}
	if err := keep(0); err != nil {
		return err
	}
	n := 0
	for range time.NewTicker(10 * time.Millisecond).C {
		n++
		if _, err := fmt.Println(n); err != nil {
			return err
		}
		if err := keep(n); err != nil {
			return err
		}
	}
	return nil
}

// answers are what may happen to a connection. All but json speak no HTTP
// server's HTTP, because a server would not do these things.
var answers = map[string]func(net.Conn){
	// Nobody reads, so the other side's writes block in the end.
	"unread":  func(net.Conn) { select {} },
	"silent":  func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
	"garbage": func(c net.Conn) { read(c); _, _ = c.Write(bytes.Repeat([]byte{0, 255, '\n'}, 1000)) },
	"not-json": func(c net.Conn) {
		read(c)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{\"a\":")
	},
	"hangup": func(c net.Conn) {
		read(c)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"Volumes\":[")
	},
	"endless": func(c net.Conn) {
		read(c)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n{\"Volumes\":[")
		repeat(c, []byte(`{"Name":"v","Mountpoint":"/mnt/v"},`))
	},
	"endless-header": func(c net.Conn) {
		read(c)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n")
		repeat(c, []byte("X-Header: yes\r\n"))
	},
	"endless-error": func(c net.Conn) {
		read(c)
		_, _ = io.WriteString(c, "HTTP/1.1 500 Internal Server Error\r\n\r\n")
		repeat(c, []byte("no "))
	},
	"big-error": func(c net.Conn) {
		read(c)
		text := bytes.Repeat([]byte("no "), 100<<10)
		fmt.Fprintf(c, "HTTP/1.1 500 Internal Server Error\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
	},
	"large-list": func(c net.Conn) { list(c, 1<<20-200) }, // as much as is accepted
	"huge-list":  func(c net.Conn) { list(c, 15<<20) },
	"late": func(c net.Conn) {
		read(c)
		for range time.NewTicker(100 * time.Millisecond).C { // a byte now and then, for ever
			if _, err := io.WriteString(c, "H"); err != nil {
				return
			}
		}
	},
}

// list answers with as many volumes as fit into size bytes.
func list(c net.Conn, size int) {
	read(c)
	var b bytes.Buffer
	b.WriteString(`{"Volumes":[{"Name":"v0"}`)
	for i := 1; b.Len() < size; i++ {
		fmt.Fprintf(&b, `,{"Name":"v%d","Mountpoint":"/mnt/v%d","Status":{"a":{"b":[1,2,3]}}}`, i, i)
	}
	b.WriteString(`]}`)
	fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", b.Len())
	_, _ = c.Write(b.Bytes())
}

// read takes a request off a connection, whatever it is.
func read(c net.Conn) {
	if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
		_, _ = io.Copy(io.Discard, r.Body)
	}
}

func repeat(c net.Conn, text []byte) {
	text = bytes.Repeat(text, 1000)
	for {
		if _, err := c.Write(text); err != nil {
			return
		}
	}
}

// beginning is a listener that tells of its first connection.
type beginning struct {
	net.Listener
	once  sync.Once
	begin func()
}

func (l *beginning) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.once.Do(l.begin)
	}
	return c, err
}

func serve(path, answer, mountpoint string, begin func()) {
	unix, err := net.Listen("unix", path) //nolint:noctx // does not wait
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	l := &beginning{Listener: unix, begin: begin}
	if answer == "json" {
		go func() { _ = http.Serve(l, volumes(mountpoint)) }()
		return
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); answers[answer](c) }()
		}
	}()
}

// volumes answers well-formed, with the one mountpoint for every volume.
func volumes(mountpoint string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/VolumeDriver.Mount", "/VolumeDriver.Path":
			fmt.Fprintf(w, `{"Mountpoint":%q}`, mountpoint)
		case "/VolumeDriver.Get":
			fmt.Fprintf(w, `{"Volume":{"Name":"v","Mountpoint":%q}}`, mountpoint)
		case "/VolumeDriver.List":
			fmt.Fprintf(w, `{"Volumes":[{"Name":"v","Mountpoint":%q}]}`, mountpoint)
		default:
			_, _ = io.WriteString(w, `{}`)
		}
	})
}
