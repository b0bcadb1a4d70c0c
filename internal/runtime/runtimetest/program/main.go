// Program runs in the containers of runtime tests. What it does is its first
// argument; it prints "ready" once it does it. It is not part of Outlet's
// binaries.
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if len(os.Args) < 2 {
		os.Exit(64)
	}
	args := os.Args[2:]
	switch os.Args[1] {
	case "exit": // N
		os.Exit(number(args))
	case "raise": // signal
		signal.Reset()
		check(syscall.Kill(os.Getpid(), syscall.Signal(number(args))))
		select {}
	case "term": // exit 5 on SIGTERM
		wait(syscall.SIGTERM)
		os.Exit(5)
	case "hup": // print "hup" on SIGHUP, end on SIGTERM
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGHUP, syscall.SIGTERM)
		fmt.Println("ready")
		for s := range c {
			if s == syscall.SIGTERM {
				return
			}
			fmt.Println("hup")
		}
	case "ignore":
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT)
		fmt.Println("ready")
		forever()
	case "idle": // like ignore, and silent
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT)
		forever()
	case "fork": // N children that ignore signals
		fork(number(args), false)
		fmt.Println("ready")
		forever()
	case "doublefork": // N grandchildren in sessions of their own; their parents end
		fork(number(args), true)
		fmt.Println("ready")
		forever()
	case "abandon": // like doublefork, then end
		fork(number(args), true)
		fmt.Println("ready")
	case "middle": // start a grandchild and end
		fork(1, false)
	case "bomb": // fork as fast as the children die, for ever
		fmt.Println("ready")
		for {
			_ = command("bomb1").Start()
			<-time.After(time.Millisecond)
		}
	case "bomb1":
		for {
			_ = command("idle").Start()
			<-time.After(20 * time.Millisecond)
		}
	case "count": // print numbers until SIGTERM
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM)
		for i := 0; ; i++ {
			fmt.Println(i)
			select {
			case <-c:
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
	case "show": // what the process sees
		fmt.Println("args", args)
		fmt.Println("uid", os.Getuid(), "gid", os.Getgid())
		dir, _ := os.Getwd()
		fmt.Println("cwd", dir)
		for _, e := range os.Environ() {
			fmt.Println("env", e)
		}
		n, err := os.Stdin.Read(make([]byte, 1))
		fmt.Println("stdin", n, err)
		fmt.Fprintln(os.Stderr, "to stderr")
	case "cat":
		_, err := io.Copy(os.Stdout, os.Stdin)
		check(err)
		fmt.Fprint(os.Stderr, "end")
	case "tty": // print the size for each line read, until "exit"
		for in := bufio.NewScanner(os.Stdin); in.Scan() && in.Text() != "exit"; {
			ws, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
			check(err)
			fmt.Printf("size %dx%d\n", ws.Row, ws.Col)
		}
		os.Exit(9)
	case "listen": // a socket that accepts
		l, err := new(net.ListenConfig).Listen(context.Background(), "unix", args[0])
		check(err)
		for {
			c, err := l.Accept()
			check(err)
			_ = c.Close()
		}
	case "eat": // memory, until it is killed
		for all := []byte{1}; ; {
			all = append(all, all...)
			runtime.KeepAlive(all)
		}
	default:
		os.Exit(64)
	}
}

func number(args []string) int {
	if len(args) == 0 {
		os.Exit(64)
	}
	n, err := strconv.Atoi(args[0])
	check(err)
	return n
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(65)
	}
}

func wait(s os.Signal) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, s)
	fmt.Println("ready")
	<-c
}

func forever() {
	for {
		<-time.After(time.Hour)
	}
}

// command is this program with other arguments; the last one only marks it for
// the test.
func command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(context.Background(), os.Args[0], append(args, os.Args[len(os.Args)-1])...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd
}

func fork(n int, double bool) {
	for range n {
		what := "idle"
		if double {
			what = "middle"
		}
		cmd := command(what)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: double || os.Args[1] == "middle"}
		check(cmd.Start())
		if double {
			check(cmd.Wait())
		}
	}
}
