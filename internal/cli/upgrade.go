package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/distribution/reference"
	"github.com/spf13/cobra"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/client"
)

type upgradeOptions struct {
	name, remote    string
	grantAll        bool
	skipRemoteCheck bool
	whenIdle        bool
}

func newUpgradeCmd(env *Env, conn *connection) *cobra.Command {
	var o upgradeOptions
	cmd := &cobra.Command{
		Use:   "upgrade [OPTIONS] PLUGIN [REMOTE]",
		Short: "Upgrade an existing plugin",
		Long: `Replace a plugin by what a registry has, REMOTE or where it came from. Its id, its
name, its data and those of its settings that still fit stay.

What it asks for beyond what was granted is shown, and asked for. A plugin that is
enabled goes on while the new version is downloaded and is then started with it;
if that does not become ready, the old version is put back and started. A plugin
that is in use is not upgraded, unless --when-idle waits until it is not.`,
		Example: `  outlet upgrade example/dirvol
  outlet upgrade example/dirvol example/dirvol:v2
  outlet upgrade --when-idle example/dirvol`,
		Args:                  rangeArgs(1, 2),
		DisableFlagsInUseLine: true,
		ValidArgsFunction:     completePlugins(conn, anyPlugin, false),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.name = args[0]
			if len(args) == 2 {
				o.remote = args[1]
			}
			return runUpgrade(cmd.Context(), env, conn, o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.grantAll, "grant-all-permissions", false, "Grant all permissions necessary to run the plugin")
	f.BoolVar(&o.skipRemoteCheck, "skip-remote-check", false, "Do not check if specified remote plugin matches existing plugin image")
	f.BoolVar(&o.whenIdle, "when-idle", false, "Wait until nobody uses the plugin")
	return cmd
}

var errUpgradeCancelled = errors.New("plugin upgrade has been cancelled")

func runUpgrade(ctx context.Context, env *Env, conn *connection, o upgradeOptions) error {
	c, err := conn.open()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // never fails
	p, err := c.Inspect(ctx, o.name)
	if err != nil {
		return fmt.Errorf("error reading plugin data: %w", err)
	}
	if p.Enabled && p.Status != nil && len(p.Status.Holders) > 0 && !o.whenIdle {
		return errors.New("the plugin must be disabled before upgrading")
	}
	if o.remote == "" {
		o.remote = p.PluginReference
	}
	remote, err := reference.ParseNormalizedNamed(o.remote)
	if err != nil {
		return fmt.Errorf("error parsing remote upgrade image reference: %w", err)
	}
	remote = reference.TagNameOnly(remote)
	old, err := reference.ParseNormalizedNamed(p.PluginReference)
	if err != nil {
		return fmt.Errorf("error parsing current image reference: %w", err)
	}
	old = reference.TagNameOnly(old)
	fmt.Fprintf(env.Out, "Upgrading plugin %s from %s to %s\n", p.Name, reference.FamiliarString(old), reference.FamiliarString(remote))
	if !o.skipRemoteCheck && remote.String() != old.String() {
		yes, err := confirm(ctx, env, "Plugin images do not match, are you sure? [y/N] ")
		if err != nil {
			return err
		}
		if !yes {
			return errUpgradeCancelled
		}
	}
	if err := pullUpgrade(ctx, env, c, p, remote, o); err != nil {
		return err
	}
	fmt.Fprintf(env.Out, "Upgraded plugin %s to %s\n", p.Name, reference.FamiliarString(remote))
	return nil
}

func pullUpgrade(ctx context.Context, env *Env, c *client.Client, p outlet.Plugin, ref reference.Named, o upgradeOptions) error {
	auth, err := authFor(ctx, env, ref)
	if err != nil {
		return err
	}
	remote := outlet.RemoteOptions{Auth: auth}
	found, err := c.Remote(ctx, ref.String(), remote)
	if err != nil {
		return withLogin(err, ref)
	}
	if !o.grantAll {
		had, err := c.Privileges(ctx, p.ID)
		if err != nil {
			return err
		}
		yes, err := privileges{plugin: p.Name, had: granted(had), wants: found.Privileges, notes: outlet.Notes(found.Config)}.ask(ctx, env)
		if err != nil {
			return err
		}
		if !yes {
			return fmt.Errorf("permission denied while installing plugin %s", ref)
		}
	}
	return c.Upgrade(ctx, p.ID, ref.String(), outlet.UpgradeOptions{
		RemoteOptions: remote, Granted: found.Privileges, Digest: found.Digest,
		Running: true, WhenIdle: o.whenIdle,
	}, transferLines(env.Out))
}
