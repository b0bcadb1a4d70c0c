package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/client"
	"github.com/outletd/outlet/internal/credentials"
)

// maxPassword bounds a password on standard input, in bytes.
const maxPassword = 64 << 10

type loginOptions struct {
	server             string
	username, password string
	passwordStdin      bool
	passwordGiven      bool
}

func newLoginCmd(env *Env, conn *connection) *cobra.Command {
	var o loginOptions
	cmd := &cobra.Command{
		Use:   "login [OPTIONS] [SERVER]",
		Short: "Log in to a registry",
		Long: `Log in to a registry, Docker Hub if none is named. The daemon asks the registry
whether it takes the credentials; they are stored where docker stores its own
(DOCKER_CONFIG, else ~/.docker/config.json, or the credential helper that this
names), and used by both.`,
		Example: `  outlet login registry.example.org
  outlet login -u ana --password-stdin registry.example.org <password.txt`,
		Args:                  maxArgs(1),
		DisableFlagsInUseLine: true,
		ValidArgsFunction:     cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				o.server = args[0]
			}
			o.passwordGiven = cmd.Flags().Changed("password")
			return runLogin(cmd.Context(), env, conn, o)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&o.username, "username", "u", "", "Username")
	f.StringVarP(&o.password, "password", "p", "", "Password or Personal Access Token (PAT)")
	f.BoolVar(&o.passwordStdin, "password-stdin", false, "Take the Password or Personal Access Token (PAT) from stdin")
	return cmd
}

func runLogin(ctx context.Context, env *Env, conn *connection, o loginOptions) error {
	if err := o.check(env); err != nil {
		return err
	}
	file, path, err := openCredentials(env)
	if err != nil {
		return err
	}
	c, err := conn.open()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // never fails
	server := credentials.Server(o.server)
	auth := outlet.RegistryAuth{Username: o.username, Password: o.password, ServerAddress: server}
	if o.username == "" && o.password == "" {
		done, err := loginAgain(ctx, env, c, file, server)
		if done || err != nil {
			return err
		}
	}
	if err := askCredentials(ctx, env, &auth); err != nil {
		return err
	}
	token, err := c.Login(ctx, auth)
	if err != nil {
		return err
	}
	if token != "" {
		auth.IdentityToken, auth.Password = token, ""
	}
	encrypted, err := file.Put(ctx, auth)
	if err != nil {
		return fmt.Errorf("error saving credentials: %w", err)
	}
	if !encrypted {
		fmt.Fprintf(env.Err, "WARNING! Your credentials are stored unencrypted in '%s'.\nConfigure a credential helper to remove this warning.\n\n", path)
	}
	fmt.Fprintln(env.Out, "Login Succeeded")
	return nil
}

// check reads a password from standard input, and refuses what contradicts
// itself.
func (o *loginOptions) check(env *Env) error {
	if o.passwordGiven {
		fmt.Fprintln(env.Err, "WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
		if o.passwordStdin {
			return errors.New("--password and --password-stdin are mutually exclusive")
		}
	}
	if !o.passwordStdin {
		return nil
	}
	if o.username == "" {
		return errors.New("Must provide --username with --password-stdin") //nolint:staticcheck // docker's text
	}
	b, err := io.ReadAll(io.LimitReader(env.In, maxPassword+1))
	if err != nil {
		return err
	}
	if len(b) > maxPassword {
		return fmt.Errorf("the password on standard input is longer than %d bytes", maxPassword)
	}
	o.password = strings.TrimRight(string(b), "\r\n")
	return nil
}

// loginAgain tries the credentials that are stored.
func loginAgain(ctx context.Context, env *Env, c *client.Client, file *credentials.File, server string) (done bool, err error) {
	auth, err := file.Get(ctx, server)
	if err != nil || auth == (outlet.RegistryAuth{}) {
		return false, err
	}
	fmt.Fprintln(env.Out, "Authenticating with existing credentials...")
	if _, err := c.Login(ctx, auth); err != nil {
		if _, ok := terminal(env.In); !ok || unreachable(err) {
			return false, err
		}
		fmt.Fprintf(env.Err, "Login did not succeed, error: %v\n", err)
		return false, nil
	}
	fmt.Fprintln(env.Out, "Login Succeeded")
	return true, nil
}

// askCredentials asks for what was not given. A password is read from a terminal
// only, where it is not shown.
func askCredentials(ctx context.Context, env *Env, auth *outlet.RegistryAuth) error {
	if auth.Username != "" && auth.Password != "" {
		return nil
	}
	fd, ok := terminal(env.In)
	if !ok {
		return errors.New("Cannot perform an interactive login from a non TTY device") //nolint:staticcheck // docker's text
	}
	if auth.Username == "" {
		name, err := ask(ctx, env, "Username: ", func() (string, error) { return readAnswer(env.In), nil })
		if err != nil {
			return err
		}
		if auth.Username = strings.TrimSpace(name); auth.Username == "" {
			return errors.New("username is required")
		}
	}
	if auth.Password == "" {
		state, err := term.GetState(fd)
		if err != nil {
			return err
		}
		password, err := ask(ctx, env, "Password: ", func() (string, error) {
			b, err := term.ReadPassword(fd)
			return string(b), err
		})
		if err != nil {
			return errors.Join(err, term.Restore(fd, state))
		}
		fmt.Fprintln(env.Err)
		if auth.Password = password; password == "" {
			return errors.New("password is required")
		}
	}
	return nil
}

// ask reads one answer of a person, or ends with ctx.
func ask(ctx context.Context, env *Env, question string, read func() (string, error)) (string, error) {
	fmt.Fprint(env.Err, question)
	type answer struct {
		text string
		err  error
	}
	answers := make(chan answer, 1)
	go func() { // waits for a person; ends with the input or the program
		text, err := read()
		answers <- answer{text, err}
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(env.Err)
		return "", errInterrupted
	case a := <-answers:
		if errors.Is(a.err, io.EOF) {
			fmt.Fprintln(env.Err)
			a.err = errors.New("nothing was entered")
		}
		return a.text, a.err
	}
}
