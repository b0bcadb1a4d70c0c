package capability_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/outletd/outlet/capability"
	"github.com/outletd/outlet/plugins"
)

// A capability of one's own: its answers embed capability.Refusal.
func ExampleDo() {
	client, err := plugins.NewClientWithOptions("unix:///run/docker/plugins/backup.sock", plugins.ClientOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	var answer struct {
		Snapshot string
		capability.Refusal
	}
	args := map[string]string{"Volume": "data"}
	err = capability.Do(context.Background(), client.Caller(), time.Minute, "BackupDriver.Snapshot", args, &answer)
	var refused *capability.Error
	switch {
	case capability.IsNotImplemented(err):
		log.Print("the plugin makes no snapshots")
	case errors.As(err, &refused):
		log.Print("the plugin refuses: ", refused.Message)
	case err != nil:
		log.Fatal(err) // it cannot be reached
	default:
		fmt.Println(answer.Snapshot)
	}
}
