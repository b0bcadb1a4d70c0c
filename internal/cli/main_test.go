package cli

import (
	"context"
	"flag"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

var update = flag.Bool("update", false, "rewrite golden files and the expectations of scripts")

// TestMain makes the test binary the program too, so that scripts run the real
// main in a process of its own.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"outlet": func() { os.Exit(testMain()) }})
}

// scriptNow is the time in scripts.
var scriptNow = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func testMain() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return Run(ctx, os.Args[1:], Env{
		In:     os.Stdin,
		Out:    os.Stdout,
		Err:    os.Stderr,
		Getenv: os.Getenv,
		Now:    func() time.Time { return scriptNow },
		Build:  BuildInfo{Version: "1.2.3", GitCommit: "0123456789abcdef", BuildTime: "2026-01-02T03:04:05Z", GoVersion: "go1.26"},
		RunDaemon: func(_ context.Context, f DaemonFlags) error {
			return printJSON(os.Stdout, f.Directives())
		},
	})
}

// TestScripts runs testdata/*.txt, each against a fake daemon of its own at
// $OUTLET_HOST. Scripts for a real daemon are in testdata/daemon; whoever has
// one runs them in the same way, with OUTLET_HOST set.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			d, err := startFakeDaemon()
			if err != nil {
				return err
			}
			env.Defer(d.close)
			env.Values["daemon"] = d
			env.Setenv("OUTLET_HOST", "unix://"+d.socket)
			env.Setenv("SOCKET", d.socket)
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("GOCACHE", goCache())
			env.Setenv("TZ", "UTC")
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			// requests compares what the daemon was asked for since the last
			// time with a file, a line each.
			"requests": func(ts *testscript.TestScript, _ bool, args []string) {
				d, ok := ts.Value("daemon").(*fakeDaemon)
				if !ok || len(args) != 1 {
					ts.Fatalf("usage: requests file")
				}
				got := strings.Join(d.takeRequests(), "\n") + "\n"
				if want := ts.ReadFile(args[0]); got != want {
					ts.Fatalf("the daemon was asked for\n%swant\n%s", got, want)
				}
			},
		},
	})
}

// goCache keeps builds in scripts from starting with nothing.
func goCache() string {
	if dir := os.Getenv("GOCACHE"); dir != "" {
		return dir
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return filepath.Join(os.TempDir(), "go-build")
	}
	return filepath.Join(dir, "go-build")
}
