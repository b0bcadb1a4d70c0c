// Plugin is the program inside the plugins that these tests make: it serves a
// socket, or fails to, as it is told. It is no example of a plugin.
package main

import (
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	wait := flag.String("wait", "", "`path` of a named pipe: nothing is done until it is opened for writing")
	listen := flag.String("listen", "", "`path` of a socket to serve")
	say := flag.String("say", "", "a `line` for standard error")
	exit := flag.Int("exit", -1, "`status` to exit with at once")
	flag.Parse()
	if *wait != "" {
		pipe, err := os.OpenFile(*wait, os.O_RDONLY, 0)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		_ = pipe.Close() // nothing is read
	}
	if *say != "" {
		fmt.Fprintln(os.Stderr, *say)
	}
	if *exit >= 0 {
		os.Exit(*exit)
	}
	if *listen != "" {
		l, err := net.Listen("unix", *listen)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		// A managed plugin may answer everything with 404 and is valid.
		go func() { _ = http.Serve(l, http.NotFoundHandler()) }()
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	<-ended
}
