package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httptest"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/client"
)

// A program asks a daemon which plugins it has, and tells "no such plugin" from
// other errors.
func Example() {
	host, stop := daemon()
	defer stop()

	ctx := context.Background()
	c, err := client.New(client.Options{Host: host}) // the zero value is the daemon of this machine
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close() // never fails

	plugins, err := c.List(ctx, outlet.ListFilter{})
	if err != nil {
		log.Fatal(err)
	}
	for _, p := range plugins {
		fmt.Println(p.Name, p.Enabled)
	}
	if err := c.Enable(ctx, "gone", outlet.EnableOptions{}); errors.Is(err, errdefs.ErrNotFound) {
		fmt.Println(err)
	}
	// Output:
	// example/dirvol:latest true
	// plugin "gone" not found
}

// ExampleNew_nobody shows what a user reads when no daemon runs.
func ExampleNew_nobody() {
	c, err := client.New(client.Options{Host: "unix:///nowhere/outlet.sock"})
	if err != nil {
		log.Fatal(err)
	}
	_, err = c.Ping(context.Background())
	fmt.Println(err)
	// Output:
	// no daemon answers at /nowhere/outlet.sock: start one with "outlet daemon", or name another with -H or OUTLET_HOST
}

// daemon stands in for a real one.
func daemon() (host string, stop func()) {
	mux := http.NewServeMux()
	mux.HandleFunc("/_ping", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Api-Version", "1.51") })
	mux.HandleFunc("GET /v1.51/plugins", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `[{"Name":"example/dirvol:latest","Enabled":true}]`)
	})
	mux.HandleFunc("POST /v1.51/plugins/gone/enable", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		fmt.Fprintln(w, `{"message":"plugin \"gone\" not found"}`)
	})
	srv := httptest.NewServer(mux)
	addr, ok := srv.Listener.Addr().(*net.TCPAddr)
	if !ok {
		log.Fatal("not a TCP listener")
	}
	return "tcp://" + addr.String(), srv.Close
}
