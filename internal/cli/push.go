package cli

import (
	"context"
	"fmt"

	"github.com/distribution/reference"
	"github.com/spf13/cobra"

	"github.com/outletd/outlet"
)

func newPushCmd(env *Env, conn *connection) *cobra.Command {
	var platform string
	cmd := &cobra.Command{
		Use:   "push [OPTIONS] PLUGIN",
		Short: "Push a plugin to a registry",
		Long: `Upload a plugin to the registry that its name names. A plugin that was pulled is
uploaded as it came, byte for byte; its settings and what it wrote are not part
of it.

With --platform the tag names an index, in which the plugin is the one for that
platform. What the index has for others stays, so that each platform can be pushed
from a machine of its own, one after the other.

Credentials are those that "outlet login" or "docker login" stored.`,
		Example: `  outlet push registry.example.org/dirvol:v2
  outlet push --platform linux/arm64 registry.example.org/dirvol:v2`,
		Args:                  exactArgs(1),
		DisableFlagsInUseLine: true,
		ValidArgsFunction:     completePlugins(conn, anyPlugin, false),
		RunE: func(cmd *cobra.Command, args []string) error {
			return runPush(cmd.Context(), env, conn, args[0], platform)
		},
	}
	cmd.Flags().StringVar(&platform, "platform", "", "Be the one for this `platform` in an index, for example linux/arm64")
	return cmd
}

func runPush(ctx context.Context, env *Env, conn *connection, name, platform string) error {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return err
	}
	if _, ok := ref.(reference.Canonical); ok {
		return fmt.Errorf("invalid name: %s", name)
	}
	c, err := conn.open()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // never fails
	ref = reference.TagNameOnly(ref)
	auth, err := authFor(ctx, env, ref)
	if err != nil {
		return err
	}
	_, err = c.Push(ctx, reference.FamiliarString(ref), outlet.RemoteOptions{Auth: auth, Platform: platform}, transferLines(env.Out))
	return withLogin(err, ref)
}
