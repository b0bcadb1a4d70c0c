package runc

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet/internal/testutil"
)

func TestARuntimeThatCannotBeRunIsNotThePluginsFault(t *testing.T) {
	dir := testutil.TempDir(t)
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte("text"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{filepath.Join(dir, "none"), "outlet-no-such-runtime", text} {
		err := explain("start", "x", filepath.Join(dir, "log"), exec.Command(program).Run())
		if !errdefs.IsUnavailable(err) {
			t.Errorf("%s: %v", program, err)
		}
	}
	log := filepath.Join(dir, "log")
	for text, is := range map[string]func(error) bool{
		"exec: /x: no such file or directory":   errdefs.IsInvalidArgument,
		"write /run/x: input/output error":      errdefs.IsUnavailable,
		"write /run/x: disk quota exceeded":     errdefs.IsUnavailable,
		"write /run/x: no space left on device": errdefs.IsUnavailable,
	} {
		if err := os.WriteFile(log, []byte(`{"level":"error","msg":"`+text+`"}`), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := explain("start", "x", log, exec.Command("false").Run()); !is(err) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
