package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/spf13/cobra"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/client"
	"github.com/outletd/outlet/internal/ocilayout"
)

type loadOptions struct {
	input    string
	alias    string
	platform string
	grantAll bool
	quiet    bool
}

func newLoadCmd(env *Env, conn *connection) *cobra.Command {
	var o loadOptions
	cmd := &cobra.Command{
		Use:   "load [OPTIONS]",
		Short: "Load plugins from an archive",
		Long: `Load plugins from an archive: one of "outlet save", or an OCI layout as a tar that
another tool wrote, plain or compressed with gzip or zstd. All plugins in it are
loaded or none; they are left disabled.

What each plugin asks of this machine is shown, and asked for. Nobody can be asked
about an archive that comes from standard input: then a plugin that asks for
anything needs --grant-all-permissions.`,
		Example: `  outlet load -i plugins.tar
  outlet load -i dirvol.tar --alias dirvol:test
  outlet load --grant-all-permissions <plugins.tar`,
		Args:                  noArgs,
		DisableFlagsInUseLine: true,
		ValidArgsFunction:     cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runLoad(cmd.Context(), env, conn, o)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.input, "input", "i", "", "Read from a `file`, instead of standard input")
	f.StringVar(&o.alias, "alias", "", "Local `name` for the plugin, if there is one in the archive")
	f.StringVar(&o.platform, "platform", "", "Take this `platform` of a plugin that has several, for example linux/arm64")
	f.BoolVar(&o.grantAll, "grant-all-permissions", false, "Grant all permissions necessary to run the plugins")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Show no progress")
	return cmd
}

func runLoad(ctx context.Context, env *Env, conn *connection, o loadOptions) error {
	c, err := conn.open()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // never fails
	load := outlet.LoadOptions{Alias: o.alias, Platform: o.platform, GrantAll: o.grantAll}
	src := &pluginContext{Reader: env.In, close: func() {}}
	if o.input == "" {
		if _, ok := terminal(env.In); ok {
			return usagef("there is no archive: use --input, or redirect standard input")
		}
	} else {
		f, err := os.Open(o.input)
		if err != nil {
			return err
		}
		defer f.Close()
		st, err := f.Stat()
		if err != nil {
			return err
		}
		if !o.grantAll {
			if o.platform == "" {
				if o.platform, err = platformOf(ctx, c); err != nil {
					return err
				}
			}
			if load.Granted, err = grantArchive(ctx, env, f, o); err != nil {
				return err
			}
		}
		src.Reader, src.size = f, st.Size()
	}
	bar := newBar(env, createOptions{name: "the archive", quiet: o.quiet}, src)
	var body io.Reader = src
	if bar != nil {
		body = io.TeeReader(src, bar)
	}
	loaded, err := c.Load(ctx, body, load)
	if bar != nil {
		bar.Clear()
	}
	if err != nil {
		if o.input == "" && !o.grantAll && errors.Is(err, errdefs.ErrInvalidArgument) && strings.Contains(err.Error(), "incorrect privileges") {
			return fmt.Errorf("%w\nThe archive comes from standard input, so nobody was asked: use --input, or --grant-all-permissions", err)
		}
		return err
	}
	for _, w := range loaded.Warnings {
		fmt.Fprintf(env.Err, "Warning: %s\n", oneLine(w))
	}
	for _, p := range loaded.Plugins {
		fmt.Fprintf(env.Out, "Loaded plugin %s\n", p.Name)
	}
	return nil
}

// platformOf is the platform of a daemon on another machine, "" of one on this.
func platformOf(ctx context.Context, c *client.Client) (string, error) {
	if c.Host().Network == "unix" {
		return "", nil
	}
	v, err := c.Version(ctx)
	return v.Os + "/" + v.Arch, err
}

// grantArchive asks for what the plugins of an archive ask for, and leaves the
// file at its beginning. The daemon compares it with what it reads itself.
func grantArchive(ctx context.Context, env *Env, f *os.File, o loadOptions) (map[string]outlet.Privileges, error) {
	plugins, err := ocilayout.Inspect(ctx, f, o.platform)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.input, err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("%s cannot be read twice, so nobody can be asked: use --grant-all-permissions: %w", o.input, err)
	}
	if o.alias != "" && len(plugins) > 1 {
		return nil, fmt.Errorf("%s holds %d plugins, of which not all can be called %s", o.input, len(plugins), o.alias)
	}
	all := make(map[string]outlet.Privileges)
	for _, p := range plugins {
		name := p.Name
		if o.alias != "" {
			name = o.alias
		}
		wants := outlet.RequiredPrivileges(p.Config)
		yes, err := privileges{plugin: name, wants: wants, notes: outlet.Notes(p.Config)}.ask(ctx, env)
		if err != nil {
			return nil, err
		}
		if !yes {
			return nil, fmt.Errorf("permission denied while loading plugin %s", name)
		}
		all[p.Digest] = wants
	}
	return all, nil
}
