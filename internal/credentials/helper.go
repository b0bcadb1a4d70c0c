package credentials

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"

	"github.com/outletd/outlet"
)

const (
	// helperTimeout bounds one call of a helper, which may ask its user for a
	// password.
	helperTimeout = 2 * time.Minute
	// maxAnswer bounds what a helper may print, in bytes.
	maxAnswer = 1 << 20
)

// What helpers print when they have nothing; a convention, not a status.
const notFoundText = "credentials not found in native keychain"

// secret is what helpers are given and give.
type secret struct {
	ServerURL string
	Username  string
	Secret    string
}

// ask gets credentials from a helper; none is no error.
func (f *File) ask(ctx context.Context, helper, server string) (outlet.RegistryAuth, error) {
	out, err := f.run(ctx, helper, "get", strings.NewReader(server))
	if isNotFound(err) {
		return outlet.RegistryAuth{}, nil
	}
	if err != nil {
		return outlet.RegistryAuth{}, err
	}
	var s secret
	if err := json.Unmarshal(out, &s); err != nil {
		return outlet.RegistryAuth{}, fmt.Errorf("the credential helper %s answered with something else than credentials: %w", helper, err)
	}
	a := outlet.RegistryAuth{ServerAddress: server}
	switch {
	case s.Username == "" && s.Secret == "":
		return outlet.RegistryAuth{}, nil
	case s.Username == tokenUser:
		a.IdentityToken = s.Secret
	default:
		a.Username, a.Password = s.Username, s.Secret
	}
	return a, nil
}

// keep gives credentials to a helper.
func (f *File) keep(ctx context.Context, helper, server string, a outlet.RegistryAuth) error {
	s := secret{ServerURL: server, Username: a.Username, Secret: a.Password}
	if a.IdentityToken != "" {
		s.Username, s.Secret = tokenUser, a.IdentityToken
	}
	in, err := json.Marshal(s)
	if err != nil {
		return err
	}
	_, err = f.run(ctx, helper, "store", bytes.NewReader(in))
	return err
}

// forget makes a helper forget credentials.
func (f *File) forget(ctx context.Context, helper, server string) (had bool, err error) {
	a, err := f.ask(ctx, helper, server)
	if err != nil || a == (outlet.RegistryAuth{}) {
		return false, err
	}
	_, err = f.run(ctx, helper, "erase", strings.NewReader(server))
	if isNotFound(err) {
		return false, nil
	}
	return err == nil, err
}

// helperError is what a helper said when it failed.
type helperError struct {
	helper, action, said string
	err                  error
}

func (e *helperError) Error() string {
	text := e.said
	if text == "" {
		text = e.err.Error()
	}
	return fmt.Sprintf("the credential helper docker-credential-%s failed to %s: %s", e.helper, e.action, text)
}

func (e *helperError) Unwrap() error { return e.err }

func isNotFound(err error) bool {
	var e *helperError
	return errors.As(err, &e) && strings.Contains(e.said, notFoundText)
}

// run runs a helper. Helpers say what is wrong on their standard output.
func (f *File) run(ctx context.Context, helper, action string, in io.Reader) ([]byte, error) {
	if helper != strings.TrimLeft(helper, "-") || strings.ContainsAny(helper, "/\\") {
		return nil, fmt.Errorf("%s: %.64q is not the name of a credential helper", f.path, helper)
	}
	ctx, cancel := context.WithTimeout(ctx, helperTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker-credential-"+helper, action)
	cmd.Stdin, cmd.Env = in, f.env
	var out bounded
	cmd.Stdout = &out
	cmd.WaitDelay = time.Second // what it started may hold its output open
	if err := cmd.Run(); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, &helperError{helper: helper, action: action, said: strings.TrimSpace(out.b.String()), err: err}
	}
	return out.b.Bytes(), nil
}

// bounded is a buffer that takes no more than maxAnswer bytes.
type bounded struct{ b bytes.Buffer }

func (o *bounded) Write(p []byte) (int, error) {
	if o.b.Len()+len(p) > maxAnswer {
		return 0, errors.New("it printed too much")
	}
	return o.b.Write(p)
}
