package cli

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"text/template"

	"github.com/spf13/cobra"

	"github.com/outletd/outlet"
)

//go:embed skeleton
var skeletons embed.FS

// skeletonGo is the oldest Go the skeletons build with.
const skeletonGo = "1.22"

type initOptions struct {
	dir, name, module, capability string
}

func newInitCmd(env *Env) *cobra.Command {
	var o initOptions
	cmd := &cobra.Command{
		Use:   "init [OPTIONS] DIR",
		Short: "Write the skeleton of a plugin",
		Long: `Write the skeleton of a plugin: a program in Go that uses nothing but the
standard library, its config.json, a Makefile and a README. It works as it is.

DIR is made, or must be empty. No daemon is needed.`,
		Example: `  outlet init myplugin
  outlet init --name example/shares --module example.com/shares ./shares`,
		Args:                  exactArgs(1),
		DisableFlagsInUseLine: true,
		RunE: func(_ *cobra.Command, args []string) error {
			o.dir = args[0]
			return runInit(env, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.name, "name", "", "The plugin's `name` (default: that of DIR)")
	f.StringVar(&o.module, "module", "", "Go `module` path (default: example.com/NAME)")
	f.StringVar(&o.capability, "capability", "volume", "What the plugin does: "+strings.Join(capabilities(), ", "))
	completeFlag(cmd, "capability", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return capabilities(), cobra.ShellCompDirectiveNoFileComp
	})
	return cmd
}

// capabilities are those there is a skeleton for.
func capabilities() []string {
	entries, _ := skeletons.ReadDir("skeleton") // is part of the program
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// skeleton is what the files of a skeleton are filled with.
type skeleton struct {
	Name, Module, Socket, Description, GoVersion string
}

func runInit(env *Env, o initOptions) error {
	s, err := newSkeleton(o)
	if err != nil {
		return err
	}
	from := path.Join("skeleton", o.capability)
	if _, err := fs.Stat(skeletons, from); err != nil || o.capability == "" || strings.ContainsAny(o.capability, `/\.`) {
		return usagef("unknown capability %q: there are skeletons for %s", o.capability, strings.Join(capabilities(), ", "))
	}
	entries, err := skeletons.ReadDir(from)
	if err != nil {
		return err
	}
	contents := make(map[string][]byte)
	for _, e := range entries {
		name := strings.TrimSuffix(e.Name(), ".tmpl")
		if name == "gitignore" {
			name = ".gitignore"
		}
		if contents[name], err = s.fill(path.Join(from, e.Name())); err != nil {
			return err
		}
	}
	if err := writeNew(o.dir, contents); err != nil {
		return err
	}
	fmt.Fprintf(env.Err, "Wrote the skeleton of the %s plugin %s. Next:\n  cd %s && make create enable\n", o.capability, s.Name, o.dir)
	fmt.Fprintln(env.Out, o.dir)
	return nil
}

// newSkeleton derives what the user did not say from the directory's name.
func newSkeleton(o initOptions) (skeleton, error) {
	name := o.name
	if name == "" {
		abs, err := filepath.Abs(o.dir)
		if err != nil {
			return skeleton{}, err
		}
		name = strings.Trim(regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(strings.ToLower(filepath.Base(abs)), "-"), "-")
		if name == "" {
			return skeleton{}, usagef("no name can be made of %q: give one with --name", o.dir)
		}
	}
	full, err := outlet.ParseName(name)
	if err != nil {
		return skeleton{}, err
	}
	base, _, _ := strings.Cut(path.Base(full), ":")
	module := o.module
	if module == "" {
		module = "example.com/" + base
	}
	if !regexp.MustCompile(`^[A-Za-z0-9._~/-]+$`).MatchString(module) || path.Clean(module) != module || strings.HasPrefix(module, "/") || strings.HasPrefix(module, ".") {
		return skeleton{}, usagef("invalid module path %q", module)
	}
	return skeleton{
		Name:        name,
		Module:      module,
		Socket:      base[:min(len(base), 70)] + ".sock",
		Description: "Volumes as directories",
		GoVersion:   skeletonGo,
	}, nil
}

func (s skeleton) fill(file string) ([]byte, error) {
	text, err := skeletons.ReadFile(file)
	if err != nil {
		return nil, err
	}
	t, err := template.New(file).Funcs(templateFuncs()).Parse(string(text))
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = t.Execute(&b, s)
	return b.Bytes(), err
}

// writeNew writes files into a directory that is new or empty; if one cannot be
// written, none is left.
func writeNew(dir string, contents map[string][]byte) (err error) {
	_, statErr := os.Stat(dir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		return fmt.Errorf("%s is not empty: name a directory that is empty or not there yet", dir)
	}
	var written []string
	defer func() {
		if err == nil {
			return
		}
		for _, f := range written {
			err = errors.Join(err, os.Remove(f))
		}
		if errors.Is(statErr, fs.ErrNotExist) {
			err = errors.Join(err, os.Remove(dir))
		}
	}()
	for name, data := range contents {
		file := filepath.Join(dir, name)
		f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if err != nil {
			return err
		}
		written = append(written, file)
		_, err = f.Write(data)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}
