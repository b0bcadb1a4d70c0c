package cli

import (
	"context"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/outletd/outlet/client"
)

// versions is what "outlet version" formats.
type versions struct {
	Client clientVersion
	Server *client.Version
}

// clientVersion describes this program.
type clientVersion struct {
	Version           string
	APIVersion        string `json:"ApiVersion"`
	DefaultAPIVersion string
	GitCommit         string
	GoVersion         string
	Os                string
	Arch              string
	BuildTime         string
}

func newVersionCmd(env *Env, conn *connection) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "version [OPTIONS]",
		Short: "Show the version of this program and of the daemon",
		Long: `Show the version of this program and of the daemon. When no daemon answers, the
client's part is printed all the same, and the exit code is 1.`,
		Example: `  outlet version
  outlet version --format '{{.Server.Version}}'`,
		Args:                  noArgs,
		DisableFlagsInUseLine: true,
		ValidArgsFunction:     cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runVersion(cmd.Context(), env, conn, format)
		},
	}
	cmd.Flags().StringVarP(&format, "format", "f", "", formatUsageObject)
	return cmd
}

func runVersion(ctx context.Context, env *Env, conn *connection, format string) error {
	v := versions{Client: clientVersion{
		Version:           env.Build.Version,
		APIVersion:        client.MaxAPIVersion,
		DefaultAPIVersion: client.MaxAPIVersion,
		GitCommit:         env.Build.GitCommit,
		GoVersion:         env.Build.GoVersion,
		Os:                runtime.GOOS,
		Arch:              runtime.GOARCH,
		BuildTime:         env.Build.BuildTime,
	}}
	if format != "" && format != formatJSON {
		if _, err := parseTemplate(format); err != nil {
			return err
		}
	}
	c, err := conn.open()
	if err == nil {
		defer c.Close() //nolint:errcheck // never fails
		var server client.Version
		if server, err = c.Version(ctx); err == nil {
			v.Server = &server
			if api, aerr := c.APIVersion(ctx); aerr == nil {
				v.Client.APIVersion = api
			}
		}
	}
	if format != "" {
		if perr := printObjects(env.Out, format, []any{v}); err == nil {
			return perr
		}
		return err
	}
	printVersions(env.Out, v)
	return err
}

func printVersions(w io.Writer, v versions) {
	c := v.Client
	fmt.Fprintln(w, "Client:")
	field := func(name, value string) { fmt.Fprintf(w, "%-20s%s\n", name, value) }
	api := c.APIVersion
	if api != c.DefaultAPIVersion {
		api += " (downgraded from " + c.DefaultAPIVersion + ")"
	}
	field(" Version:", c.Version)
	field(" API version:", api)
	field(" Go version:", c.GoVersion)
	field(" Git commit:", c.GitCommit)
	field(" Built:", readableTime(c.BuildTime))
	field(" OS/Arch:", c.Os+"/"+c.Arch)
	if v.Server == nil {
		return
	}
	fmt.Fprintf(w, "\nServer: %s\n", v.Server.Platform.Name)
	for _, part := range v.Server.Components {
		d := part.Details
		fmt.Fprintf(w, " %s:\n", part.Name)
		field("  Version:", part.Version)
		if part.Name != "Engine" {
			for _, k := range slices.Sorted(maps.Keys(d)) {
				field("  "+k+":", d[k])
			}
			continue
		}
		field("  API version:", d["ApiVersion"]+" (minimum version "+d["MinAPIVersion"]+")")
		field("  Go version:", d["GoVersion"])
		field("  Git commit:", d["GitCommit"])
		field("  Built:", readableTime(d["BuildTime"]))
		field("  OS/Arch:", d["Os"]+"/"+d["Arch"])
		field("  Experimental:", d["Experimental"])
	}
}

// readableTime writes a time of RFC 3339 as people read it, and leaves others
// as they are.
func readableTime(s string) string {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return s
	}
	return t.Format(time.ANSIC)
}
