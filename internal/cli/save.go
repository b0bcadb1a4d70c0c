package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/outletd/outlet/client"
)

type saveOptions struct {
	names  []string
	output string
}

func newSaveCmd(env *Env, conn *connection) *cobra.Command {
	var o saveOptions
	cmd := &cobra.Command{
		Use:   "save [OPTIONS] PLUGIN [PLUGIN...]",
		Short: "Save plugins to an archive",
		Long: `Save plugins to an archive that "outlet load" reads on a machine without a
registry: an OCI layout as a tar. Layers that several of them share are in it
once. It holds the plugins as they came, neither their settings nor what they
wrote; the same plugins always give the same bytes.

Without --output the archive goes to standard output, unless that is a terminal.`,
		Example: `  outlet save -o plugins.tar example/dirvol example/cache:v2
  outlet save example/dirvol | ssh host outlet load --grant-all-permissions`,
		Args:                  minArgs(1),
		DisableFlagsInUseLine: true,
		ValidArgsFunction:     completePlugins(conn, anyPlugin, true),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.names = args
			return runSave(cmd.Context(), env, conn, o)
		},
	}
	cmd.Flags().StringVarP(&o.output, "output", "o", "", "Write to a `file`, instead of standard output")
	return cmd
}

func runSave(ctx context.Context, env *Env, conn *connection, o saveOptions) error {
	if _, ok := terminal(env.Out); ok && o.output == "" {
		return usagef("an archive is nothing for a terminal: use --output, or redirect standard output")
	}
	c, err := conn.open()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // never fails
	if o.output == "" {
		return c.Save(ctx, o.names, env.Out)
	}
	return saveFile(ctx, c, o)
}

// saveFile writes a file that is there when it is whole, or not at all. What is
// no ordinary file is written to as it is.
func saveFile(ctx context.Context, c *client.Client, o saveOptions) (err error) {
	st, err := os.Stat(o.output)
	switch {
	case err == nil && !st.Mode().IsRegular():
		f, err := os.OpenFile(o.output, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(c.Save(ctx, o.names, f), f.Close())
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(o.output), "."+filepath.Base(o.output)+"-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = join(err, os.Remove(f.Name()))
		}
	}()
	err = c.Save(ctx, o.names, io.Writer(f))
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), o.output); err != nil {
		return fmt.Errorf("put the archive in its place: %w", err)
	}
	return nil
}
