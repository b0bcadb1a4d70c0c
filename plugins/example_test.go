package plugins_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"time"

	"github.com/outletd/outlet/plugins"
)

// examplePlugin serves a small volume plugin and returns the configuration of a
// registry that finds it as "example".
func examplePlugin() (cfg plugins.Config, stop func()) {
	mux := http.NewServeMux()
	mux.HandleFunc("/Plugin.Activate", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"Implements":["VolumeDriver"]}`)
	})
	mux.HandleFunc("/VolumeDriver.Path", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"Mountpoint":"/mnt/data"}`)
	})
	srv := httptest.NewServer(mux)
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "example.spec"), []byte(srv.URL), 0o644); err != nil {
		log.Fatal(err)
	}
	return plugins.Config{SocketDir: dir, SpecDirs: []string{dir}}, func() {
		srv.Close()
		os.RemoveAll(dir)
	}
}

func Example() {
	cfg, stop := examplePlugin()
	defer stop()
	r, err := plugins.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	p, err := r.Get(ctx, "example", "VolumeDriver")
	if err != nil {
		log.Fatal(err)
	}
	var answer struct{ Mountpoint, Err string }
	err = p.Client().CallContext(ctx, "VolumeDriver.Path", map[string]string{"Name": "data"}, &answer)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(p.Name(), answer.Mountpoint)
	// Output: example /mnt/data
}

func ExampleRegistry_Get() {
	cfg, stop := examplePlugin()
	defer stop()
	r, err := plugins.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()

	// Somebody at a terminal does not want to wait for a typing error.
	_, err = r.Get(context.Background(), "sample", "VolumeDriver", plugins.WithBudget(0))
	fmt.Println(errors.Is(err, plugins.ErrNotFound), err)
	_, err = r.Get(context.Background(), "example", "NetworkDriver")
	fmt.Println(errors.Is(err, plugins.ErrNotImplements), err)
	// Output:
	// true could not find plugin sample in v1 plugin registry: plugin not found
	// true Plugin does not implement the requested driver: plugin="example", requested implementation="NetworkDriver"
}

func ExampleRegistry_GetAll() {
	cfg, stop := examplePlugin()
	defer stop()
	r, err := plugins.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()

	all, err := r.GetAll(context.Background(), "VolumeDriver")
	if err != nil {
		log.Print("some plugins cannot be used: ", err) // the others can
	}
	for _, p := range all {
		fmt.Println(p.Name())
	}
	// Output: example
}

func ExampleRegistry_Handle() {
	cfg, stop := examplePlugin()
	defer stop()
	r, err := plugins.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()

	ctx := context.Background()
	err = r.Handle(ctx, "VolumeDriver", func(_ context.Context, name string, _ *plugins.Client) error {
		fmt.Println(name, "became active")
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	for range 2 {
		if _, err := r.Get(ctx, "example", "VolumeDriver"); err != nil {
			log.Fatal(err)
		}
	}
	// Output: example became active
}

func ExampleNewClientWithOptions() {
	c, err := plugins.NewClientWithOptions("unix:///run/docker/plugins/example.sock", plugins.ClientOptions{
		RetryBudget: -1, // the caller knows that it runs
		Timeout:     30 * time.Second,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	fmt.Println(c.Address())
	// Output: unix:///run/docker/plugins/example.sock
}

// The functions of Moby's package, as programs use them that come from there.
func ExampleGet() {
	plugins.OnPartialError(func(err error) { log.Print(err) })
	plugins.Handle("VolumeDriver", func(name string, _ *plugins.Client) { log.Print(name, " became active") })
	p, err := plugins.Get("example", "VolumeDriver")
	if err != nil {
		log.Fatal(err)
	}
	var answer struct{ Err string }
	if err := p.Client().Call("VolumeDriver.List", struct{}{}, &answer); err != nil {
		log.Fatal(err)
	}
}
