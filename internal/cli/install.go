package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/spf13/cobra"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/client"
)

type installOptions struct {
	remote   string
	alias    string
	settings []string
	disable  bool
	grantAll bool
	platform string
	timeout  int
}

func newInstallCmd(env *Env, conn *connection) *cobra.Command {
	var o installOptions
	cmd := &cobra.Command{
		Use:   "install [OPTIONS] PLUGIN [KEY=VALUE...]",
		Short: "Install a plugin from a registry",
		Long: `Install a plugin from a registry: show what it asks of this machine, download it,
change its settings, and enable it.

What is downloaded is exactly what was shown: if the registry has something else
by then, it is refused. When the settings do not fit the plugin, nothing is
installed. When the plugin is there but does not start, it stays, disabled.

Credentials are those that "outlet login" or "docker login" stored.`,
		Example: `  outlet install example/dirvol
  outlet install --alias cache --disable registry.example.org/dirvol:v2
  outlet install --grant-all-permissions example/dirvol DEBUG=1`,
		Args:                  minArgs(1),
		DisableFlagsInUseLine: true,
		ValidArgsFunction:     cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.remote, o.settings = args[0], args[1:]
			return runInstall(cmd.Context(), env, conn, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.alias, "alias", "", "Local `name` for the plugin")
	f.BoolVar(&o.disable, "disable", false, "Do not enable the plugin on install")
	f.BoolVar(&o.grantAll, "grant-all-permissions", false, "Grant all permissions necessary to run the plugin")
	f.StringVar(&o.platform, "platform", "", "Take this `platform` of a plugin that has several, for example linux/arm64")
	f.IntVar(&o.timeout, "timeout", 0, "Limit of each later call to the plugin, in `seconds`; 0 is none")
	return cmd
}

func runInstall(ctx context.Context, env *Env, conn *connection, o installOptions) error {
	if o.timeout < 0 {
		return fmt.Errorf("negative timeout %d is invalid", o.timeout)
	}
	ref, err := reference.ParseNormalizedNamed(o.remote)
	if err != nil {
		return err
	}
	if o.alias != "" {
		alias, err := reference.ParseNormalizedNamed(o.alias)
		if err != nil {
			return err
		}
		if _, ok := alias.(reference.Canonical); ok {
			return fmt.Errorf("invalid name: %s", o.alias)
		}
	}
	auth, err := authFor(ctx, env, ref)
	if err != nil {
		return err
	}
	c, err := conn.open()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // never fails
	remote := outlet.RemoteOptions{Auth: auth, Platform: o.platform}
	found, err := c.Remote(ctx, ref.String(), remote)
	if err != nil {
		return withLogin(err, ref)
	}
	// What would only fail after the download fails now.
	if _, err := outlet.NewSettings(found.Config).Set(found.Config, o.settings); err != nil {
		return err
	}
	if !o.grantAll {
		yes, err := privileges{plugin: o.remote, wants: found.Privileges, notes: outlet.Notes(found.Config)}.ask(ctx, env)
		if err != nil {
			return err
		}
		if !yes {
			return fmt.Errorf("permission denied while installing plugin %s", ref)
		}
	}
	name, err := c.Pull(ctx, ref.String(), outlet.PullOptions{
		RemoteOptions: remote, Name: o.alias, Granted: found.Privileges, Digest: found.Digest,
	}, transferLines(env.Out))
	if err != nil {
		return err
	}
	if err := finishInstall(ctx, c, name, o); err != nil {
		return err
	}
	fmt.Fprintf(env.Out, "Installed plugin %s\n", o.remote)
	return nil
}

// finishInstall makes a plugin that was pulled what its user wants. If what they
// want is not possible, the plugin goes, so that they can try again.
func finishInstall(ctx context.Context, c *client.Client, name string, o installOptions) error {
	if len(o.settings) > 0 {
		if err := c.Set(ctx, name, outlet.SetOptions{Set: o.settings}); err != nil {
			return rollBack(ctx, c, name, err)
		}
	}
	if o.disable {
		return nil
	}
	err := c.Enable(ctx, name, outlet.EnableOptions{Timeout: time.Duration(o.timeout) * time.Second})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errdefs.ErrInvalidArgument):
		return rollBack(ctx, c, name, err)
	}
	return fmt.Errorf("%w\nThe plugin is installed and disabled: \"outlet enable %s\" tries again, \"outlet rm %s\" removes it", err, name, name)
}

// rollBackTimeout bounds the removal of a plugin that nobody waits for.
const rollBackTimeout = 30 * time.Second

func rollBack(ctx context.Context, c *client.Client, name string, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollBackTimeout)
	defer cancel()
	if err := c.Remove(ctx, name, false); err != nil {
		return join(cause, fmt.Errorf("the plugin stays installed: %w", err))
	}
	return fmt.Errorf("%w\nThe plugin is not installed: it was removed again", cause)
}
