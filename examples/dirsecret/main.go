// Dirsecret is a secret provider: a secret is a file of a directory. It keeps
// nothing, and what it gives out is what the file holds at that moment.
//
// A secret whose label outlet.reuse is "false" is asked for again for each task.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/outletd/outlet/capability/secret"
	"github.com/outletd/outlet/plugins"
	"github.com/outletd/outlet/sdk"
)

func main() {
	dir := flag.String("dir", "/secrets", "`directory` of the secrets")
	addr := flag.String("addr", "", "serve at this `address` instead of the usual socket")
	flag.Parse()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	err := sdk.Run(context.Background(), sdk.Plugin{Secret: provider{*dir}}, sdk.Options{
		Config:         sdk.Config{Name: "dirsecret", Address: *addr},
		HandlerOptions: sdk.HandlerOptions{Logger: log},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "dirsecret:", err)
		os.Exit(1)
	}
}

// provider gives out the files of a directory.
type provider struct{ dir string }

// GetSecret reads the file of the secret's name. A root keeps the name from
// leading anywhere else, by links or by dots.
func (p provider) GetSecret(_ context.Context, r secret.Request) (sdk.Secret, error) {
	if !plugins.ValidName(r.SecretName) {
		return sdk.Secret{}, fmt.Errorf("%q cannot be the name of a secret", r.SecretName)
	}
	root, err := os.OpenRoot(p.dir)
	if err != nil {
		return sdk.Secret{}, err
	}
	defer root.Close()
	info, err := root.Stat(r.SecretName)
	if err != nil || !info.Mode().IsRegular() {
		return sdk.Secret{}, fmt.Errorf("no secret %q", r.SecretName)
	}
	f, err := root.Open(r.SecretName)
	if err != nil {
		return sdk.Secret{}, fmt.Errorf("secret %q: %w", r.SecretName, err)
	}
	defer f.Close()
	value, err := io.ReadAll(io.LimitReader(f, secret.MaxSize))
	return sdk.Secret{Value: value, DoNotReuse: r.SecretLabels["outlet.reuse"] == "false"}, err
}
