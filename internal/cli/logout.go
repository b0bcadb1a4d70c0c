package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/outletd/outlet/internal/credentials"
)

func newLogoutCmd(env *Env) *cobra.Command {
	return &cobra.Command{
		Use:   "logout [SERVER]",
		Short: "Log out from a registry",
		Long: `Forget the credentials for a registry, Docker Hub if none is named, where docker
stores its own. Neither the daemon nor the registry is asked.`,
		Example:               `  outlet logout registry.example.org`,
		Args:                  maxArgs(1),
		DisableFlagsInUseLine: true,
		ValidArgsFunction:     cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			server := ""
			if len(args) == 1 {
				server = args[0]
			}
			return runLogout(cmd.Context(), env, server)
		},
	}
}

func runLogout(ctx context.Context, env *Env, server string) error {
	file, _, err := openCredentials(env)
	if err != nil {
		return err
	}
	server = credentials.Server(server)
	had, err := file.Erase(ctx, server)
	if err != nil {
		return fmt.Errorf("could not erase credentials: %w", err)
	}
	if !had {
		fmt.Fprintf(env.Out, "Not logged in to %s\n", server)
		return nil
	}
	fmt.Fprintf(env.Out, "Removing login credentials for %s\n", server)
	return nil
}
