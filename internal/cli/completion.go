package cli

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/spf13/cobra"

	"github.com/outletd/outlet"
)

// completionPatience bounds how long a shell waits for names.
const completionPatience = 2 * time.Second

func newCompletionCmd(env *Env) *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print the completion script of a shell",
		Long: `Print the completion script of a shell. It completes commands, options, and the
names of plugins and volumes, which it asks the daemon for.`,
		Example: `  source <(outlet completion bash)
  outlet completion bash >/etc/bash_completion.d/outlet
  outlet completion zsh >"${fpath[1]}/_outlet"
  outlet completion fish >~/.config/fish/completions/outlet.fish`,
		Args:                  exactArgs(1),
		ValidArgs:             []string{"bash", "zsh", "fish"},
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			switch args[0] {
			case "bash":
				return cmd.Root().GenBashCompletionV2(env.Out, true)
			case "zsh":
				return cmd.Root().GenZshCompletion(env.Out)
			case "fish":
				return cmd.Root().GenFishCompletion(env.Out, true)
			}
			return usagef("unknown shell %q: bash, zsh and fish are supported", args[0])
		},
	}
}

// completionFunc gives the words that may stand at a place.
type completionFunc = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

// The plugins that fit as an argument.
func anyPlugin(outlet.Plugin) bool        { return true }
func enabledPlugin(p outlet.Plugin) bool  { return p.Enabled }
func disabledPlugin(p outlet.Plugin) bool { return !p.Enabled }

func volumePlugin(p outlet.Plugin) bool {
	return p.Enabled && slices.ContainsFunc(p.Config.Interface.Types, func(c outlet.Capability) bool {
		return c.Capability == "volumedriver"
	})
}

// completePlugins gives the names of plugins that fit, for the first argument or
// for all of them.
func completePlugins(conn *connection, fits func(outlet.Plugin) bool, several bool) completionFunc {
	return completeNames(several, func(ctx context.Context) ([]string, error) {
		c, err := conn.open()
		if err != nil {
			return nil, err
		}
		defer c.Close() //nolint:errcheck // never fails
		plugins, err := c.List(ctx, outlet.ListFilter{})
		if err != nil {
			return nil, err
		}
		var names []string
		for _, p := range plugins {
			if fits(p) {
				names = append(names, p.Name)
			}
		}
		return names, nil
	})
}

func completeVolumes(conn *connection, several bool) completionFunc {
	return completeNames(several, func(ctx context.Context) ([]string, error) {
		c, err := conn.open()
		if err != nil {
			return nil, err
		}
		defer c.Close() //nolint:errcheck // never fails
		list, err := c.VolumeList(ctx, outlet.VolumeFilter{})
		if err != nil {
			return nil, err
		}
		var names []string
		for _, v := range list.Volumes {
			names = append(names, v.Name)
		}
		return names, nil
	})
}

// completeNames leaves out what is on the line already. When the daemon cannot
// be asked there is nothing to complete, and nobody to tell.
func completeNames(several bool, get func(context.Context) ([]string, error)) completionFunc {
	return func(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 && !several {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionPatience)
		defer cancel()
		names, err := get(ctx)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		names = slices.DeleteFunc(names, func(n string) bool {
			return !strings.HasPrefix(n, word) || slices.Contains(args, n)
		})
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

// completeFlag registers the completion of an option that was just declared.
func completeFlag(cmd *cobra.Command, name string, f completionFunc) {
	// The only error is that there is no such option, which a test of every
	// command would show at once.
	if err := cmd.RegisterFlagCompletionFunc(name, f); err != nil {
		panic(err)
	}
}

func isNotFound(err error) bool { return errors.Is(err, errdefs.ErrNotFound) }
