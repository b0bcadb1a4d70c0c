package cli

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/client"
	"github.com/outletd/outlet/internal/progress"
)

type createOptions struct {
	name, source string
	compress     bool
	quiet        bool

	// Of an image:
	image, config, platform string
}

func newCreateCmd(env *Env, conn *connection) *cobra.Command {
	var o createOptions
	cmd := &cobra.Command{
		Use:   "create [OPTIONS] PLUGIN PLUGIN-DATA-DIR|TAR|-|--image IMAGE",
		Short: "Create a plugin from a rootfs and configuration",
		Long: `Create a plugin from a rootfs and configuration.

The plugin data directory must contain config.json and a directory rootfs;
nothing else of it is sent. A tar archive of such a directory does as well, plain
or compressed with gzip or zstd; - reads one from standard input.

With --image an ordinary image is the rootfs: oci:DIR[:TAG], oci-archive:FILE[:TAG],
or a reference in a registry; --config says what the plugin is. What that leaves
out of entry point (the image's, followed by its command), environment and working
directory is the image's; the image's user is not taken over.

The plugin's name is printed. What it will be able to do once it is enabled, and
what is doubtful in its configuration, is said on standard error.`,
		Example: `  outlet create example/dirvol ./dirvol
  outlet create --compress example/dirvol:v2 ./dirvol
  tar -C ./dirvol -c config.json rootfs | outlet create example/dirvol -
  outlet create example/dirvol --config config.json --image oci-archive:dirvol.tar`,
		Args: func(cmd *cobra.Command, args []string) error {
			if o.image != "" {
				return exactArgs(1)(cmd, args)
			}
			return exactArgs(2)(cmd, args)
		},
		DisableFlagsInUseLine: true,
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return nil, cobra.ShellCompDirectiveDefault
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.name = args[0]
			if o.image != "" {
				return runCreateImage(cmd.Context(), env, conn, o)
			}
			if o.config != "" || o.platform != "" {
				return usagef("--config and --platform go with --image")
			}
			o.source = args[1]
			return runCreate(cmd.Context(), env, conn, o)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.compress, "compress", false, "Compress the context using gzip")
	f.StringVar(&o.image, "image", "", "Make the plugin of an `image`: oci:DIR, oci-archive:FILE, or a reference")
	f.StringVar(&o.config, "config", "", "The config.json of a plugin that is made of an image, a `file`")
	f.StringVar(&o.platform, "platform", "", "Take this `platform` of an image that has several, for example linux/arm64")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Say nothing of privileges and progress")
	return cmd
}

func runCreate(ctx context.Context, env *Env, conn *connection, o createOptions) error {
	if _, err := outlet.ParseName(o.name); err != nil { // what the daemon would say, before anything is sent
		return err
	}
	src, err := openContext(env, o)
	if err != nil {
		return err
	}
	defer src.close()
	c, err := conn.open()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // never fails

	bar := newBar(env, o, src)
	body := src.Reader
	if bar != nil {
		body = io.TeeReader(body, bar)
	}
	_, warnings, err := c.Create(ctx, o.name, body, outlet.CreateOptions{})
	if bar != nil {
		src.close() // the bar is written to until the body ends
		bar.Clear()
	}
	if err != nil {
		return err
	}
	return created(ctx, env, c, o, warnings)
}

// created says what was created.
func created(ctx context.Context, env *Env, c *client.Client, o createOptions, warnings []string) error {
	for _, w := range warnings {
		fmt.Fprintf(env.Err, "Warning: %s\n", w)
	}
	if !o.quiet {
		printPrivileges(ctx, env, c, o.name)
	}
	fmt.Fprintln(env.Out, o.name)
	return nil
}

// printPrivileges tells who created a plugin what it asks for. Failing to is
// worth a warning, not an error: the plugin is there.
func printPrivileges(ctx context.Context, env *Env, c *client.Client, name string) {
	list, err := c.Privileges(ctx, name)
	if err != nil {
		fmt.Fprintf(env.Err, "Warning: the plugin's privileges could not be read: %v\n", err)
		return
	}
	if len(list) == 0 {
		return
	}
	fmt.Fprintf(env.Err, "Plugin %q has the following privileges once it is enabled:\n", name)
	for _, p := range list {
		printPrivilege(env.Err, p.Name, p.Value, p.Words)
	}
}

func newBar(env *Env, o createOptions, src *pluginContext) *progress.Bar {
	fd, ok := terminal(env.Err)
	if !ok || o.quiet || src == nil {
		return nil
	}
	width, _, err := term.GetSize(fd)
	if err != nil || width <= 0 {
		width = 80
	}
	return progress.New(env.Err, "Sending "+o.name, src.size, width)
}

// pluginContext is what a plugin is created from, as a stream.
type pluginContext struct {
	io.Reader
	size  int64 // 0 if it is not known
	close func()
}

// openContext checks what the user named in Docker's order, and opens it.
func openContext(env *Env, o createOptions) (*pluginContext, error) {
	if o.source == "-" {
		return &pluginContext{Reader: env.In, close: func() {}}, nil
	}
	st, err := os.Stat(o.source)
	if err != nil {
		return nil, err
	}
	if !st.IsDir() {
		return openTar(o.source, st)
	}
	if err := checkConfig(filepath.Join(o.source, "config.json")); err != nil {
		return nil, err
	}
	p := &packer{dir: o.source, warn: func(text string) { fmt.Fprintf(env.Err, "Warning: %s\n", text) }}
	size, err := p.size()
	if err != nil {
		return nil, err
	}
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.CloseWithError(pack(p, w, o.compress)) // always nil
	}()
	if o.compress {
		size = 0
	}
	return &pluginContext{Reader: r, size: size, close: func() {
		r.Close() //nolint:errcheck // always nil
		<-done
	}}, nil
}

func pack(p *packer, w io.Writer, compress bool) error {
	if !compress {
		return p.pack(w)
	}
	zw := gzip.NewWriter(w)
	return errors.Join(p.pack(zw), zw.Close())
}

// openTar opens a file that begins as a tar does, or as one compressed.
func openTar(path string, st os.FileInfo) (*pluginContext, error) {
	neither := fmt.Errorf("context must be a directory: %s is neither that nor a tar archive (plain, gzip or zstd)", path)
	if !st.Mode().IsRegular() {
		return nil, neither
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	in := bufio.NewReaderSize(f, 64<<10)
	head, _ := in.Peek(512) // a short file is no tar
	isTar := len(head) >= 262 && string(head[257:262]) == "ustar"
	isGzip := bytes.HasPrefix(head, []byte{0x1f, 0x8b})
	isZstd := bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd})
	if !isTar && !isGzip && !isZstd {
		f.Close() // only read from
		return nil, neither
	}
	return &pluginContext{Reader: in, size: st.Size(), close: func() { f.Close() }}, nil // only read from
}

// checkConfig only sees whether the file decodes; what is in it is the daemon's
// to judge.
func checkConfig(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s holds no config.json: it says what the plugin is (see \"outlet init --help\")", filepath.Dir(path))
	}
	if err != nil {
		return err
	}
	defer f.Close() // only read from
	data, err := readBounded(f, path)
	if err != nil {
		return err
	}
	if _, _, err := outlet.ParseConfig(data); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
