package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"golang.org/x/term"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/client"
	"github.com/outletd/outlet/internal/credentials"
	"github.com/outletd/outlet/internal/progress"
)

// What the commands that talk to registries share.

// openCredentials reads docker's config.json of this user.
func openCredentials(env *Env) (*credentials.File, string, error) {
	path, err := credentials.Path(env.Getenv)
	if err != nil {
		return nil, "", err
	}
	f, err := credentials.Open(path, nil)
	return f, path, err
}

// authFor is what this user logged in with to the registry of a reference. Who
// never logged in anywhere needs no file.
func authFor(ctx context.Context, env *Env, ref reference.Named) (outlet.RegistryAuth, error) {
	if _, err := credentials.Path(env.Getenv); err != nil {
		return outlet.RegistryAuth{}, nil //nolint:nilerr // nobody, then
	}
	f, _, err := openCredentials(env)
	if err != nil {
		return outlet.RegistryAuth{}, err
	}
	return f.Get(ctx, reference.Domain(ref))
}

// withLogin says what helps against a registry that knows nobody.
func withLogin(err error, ref reference.Named) error {
	if !errors.Is(err, errdefs.ErrUnauthenticated) {
		return err
	}
	server := " " + reference.Domain(ref)
	if credentials.Server(reference.Domain(ref)) == credentials.Hub {
		server = ""
	}
	return fmt.Errorf("%w\nIf you have an account there, log in: outlet login%s", err, server)
}

// transferLines shows how far a transfer is. The lines are data: docker's
// clients print them to standard output too.
func transferLines(w io.Writer) func(outlet.Progress) {
	width := 0
	if fd, ok := terminal(w); ok {
		width = 80
		if columns, _, err := term.GetSize(fd); err == nil && columns > 0 {
			width = columns
		}
	}
	l := progress.NewLines(w, width)
	return func(p outlet.Progress) {
		if p.Pushed != nil {
			l.Update("", fmt.Sprintf("%s: digest: %s size: %d", oneLine(p.Pushed.Tag), oneLine(p.Pushed.Digest), p.Pushed.Size), 0, 0)
			return
		}
		l.Update(oneLine(p.ID), oneLine(p.Status), p.Current, p.Total)
	}
}

// privileges are shown to whoever is asked to grant them.
type privileges struct {
	plugin string
	// had are those that were granted already, nil if there is no such plugin.
	had   outlet.Privileges
	wants outlet.Privileges
	notes []string
}

// ask shows what a plugin asks for and whether that is granted. What was granted
// before is not asked for again.
func (p privileges) ask(ctx context.Context, env *Env) (bool, error) {
	added, gone := difference(p.wants, p.had), difference(p.had, p.wants)
	if len(added) == 0 && len(gone) == 0 {
		return true, nil
	}
	if len(added) > 0 {
		fmt.Fprintf(env.Err, "Plugin %q is requesting the following privileges:\n", p.plugin)
		for _, w := range p.wants {
			words := outlet.Words(w)
			if p.had != nil && !slices.ContainsFunc(added, func(a outlet.Privilege) bool { return same(a, w) }) {
				words = strings.TrimPrefix(words+", as before", ", ")
			}
			printPrivilege(env.Err, w.Name, w.Value, words)
		}
		for _, n := range p.notes {
			fmt.Fprintf(env.Err, "Note: %s\n", oneLine(n))
		}
	}
	if len(gone) > 0 {
		fmt.Fprintf(env.Err, "Plugin %q does not request any more:\n", p.plugin)
		for _, g := range gone {
			printPrivilege(env.Err, g.Name, g.Value, outlet.Words(g))
		}
	}
	if len(added) == 0 {
		return true, nil
	}
	return confirm(ctx, env, "Do you grant the above permissions? [y/N] ")
}

// printPrivilege prints docker's line, and what it means below it.
func printPrivilege(w io.Writer, name string, value []string, words string) {
	fmt.Fprintf(w, " - %s: %s\n", oneLine(name), oneLine(fmt.Sprint(value)))
	if words != "" {
		fmt.Fprintf(w, "     %s\n", oneLine(words))
	}
}

// difference are the entries of a that are not in b, each as often as it is
// missing.
func difference(a, b outlet.Privileges) outlet.Privileges {
	b = b.Clone()
	var d outlet.Privileges
	for _, p := range a {
		if i := slices.IndexFunc(b, func(q outlet.Privilege) bool { return same(p, q) }); i >= 0 {
			b = slices.Delete(b, i, i+1)
		} else {
			d = append(d, p)
		}
	}
	return d
}

func same(a, b outlet.Privilege) bool {
	return outlet.Privileges{a}.Equal(outlet.Privileges{b})
}

// granted are the privileges of a plugin that is here.
func granted(list []client.Privilege) outlet.Privileges {
	p := outlet.Privileges{}
	for _, e := range list {
		p = append(p, outlet.Privilege{Name: e.Name, Description: e.Description, Value: e.Value})
	}
	return p
}
