// Noprivileged is an authorization plugin: it refuses containers and processes
// that are privileged, add capabilities which are as good, or share the host's
// namespaces. Everything else is allowed; it is no complete policy.
//
// It looks at the body of every request that has one, wherever it goes: a path
// that one side reads in another way than the other leads nowhere.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"

	"github.com/outletd/outlet/capability/authz"
	"github.com/outletd/outlet/sdk"
)

func main() {
	addr := flag.String("addr", "", "serve at this `address` instead of the usual socket")
	flag.Parse()
	err := sdk.Run(context.Background(), sdk.Plugin{AuthZ: policy{}}, sdk.Options{
		Config:         sdk.Config{Name: "noprivileged", Address: *addr},
		HandlerOptions: sdk.HandlerOptions{Logger: slog.New(slog.NewTextHandler(os.Stderr, nil))},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "noprivileged:", err)
		os.Exit(1)
	}
}

type policy struct{}

// created is what matters of the bodies that make containers and processes. It
// is decoded as the daemon does it.
type created struct {
	Privileged bool // of an exec
	HostConfig struct {
		Privileged                            bool
		CapAdd                                []string
		PidMode, IpcMode, UTSMode, UsernsMode string
		NetworkMode                           string
	}
}

// powerful are capabilities with which a container can become root of the host.
var powerful = []string{"ALL", "SYS_ADMIN", "SYS_MODULE", "SYS_PTRACE", "SYS_RAWIO", "DAC_READ_SEARCH", "BPF"}

// AuthZReq decides about a request.
func (policy) AuthZReq(_ context.Context, r authz.Request) (sdk.Decision, error) {
	if r.RequestMethod != http.MethodPost {
		return sdk.Allow(), nil
	}
	if len(r.RequestBody) == 0 {
		// Old daemons do not show all bodies.
		if strings.Contains(r.RequestURI, "containers/create") {
			return sdk.Deny("the request has no body that could be looked at"), nil
		}
		return sdk.Allow(), nil
	}
	var c created
	if err := json.Unmarshal(r.RequestBody, &c); err != nil {
		if strings.Contains(r.RequestURI, "/containers/") {
			return sdk.Deny("the body is not understood: " + err.Error()), nil
		}
		return sdk.Allow(), nil // of another kind, such as a list
	}
	if reason := c.refuse(); reason != "" {
		return sdk.Deny(reason), nil
	}
	return sdk.Allow(), nil
}

// refuse says why, or nothing.
func (c *created) refuse() string {
	h := &c.HostConfig
	if c.Privileged || h.Privileged {
		return "privileged containers are not allowed here"
	}
	for _, name := range h.CapAdd {
		name = strings.TrimPrefix(strings.ToUpper(name), "CAP_")
		for _, p := range powerful {
			if name == p {
				return fmt.Sprintf("the capability %s is not allowed here", p)
			}
		}
	}
	for kind, mode := range map[string]string{"pid": h.PidMode, "ipc": h.IpcMode, "uts": h.UTSMode, "user": h.UsernsMode, "network": h.NetworkMode} {
		if mode == "host" {
			return fmt.Sprintf("the %s namespace of the host is not allowed here", kind)
		}
	}
	return ""
}

// AuthZRes lets every answer go.
func (policy) AuthZRes(context.Context, authz.Request) (sdk.Decision, error) {
	return sdk.Allow(), nil
}
