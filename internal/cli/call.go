package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
)

// maxCallBody bounds what is sent to a plugin.
const maxCallBody = 16 << 20

type callOptions struct {
	name, method, body string
}

func newCallCmd(env *Env, conn *connection) *cobra.Command {
	var o callOptions
	cmd := &cobra.Command{
		Use:   "call PLUGIN METHOD [JSON|@FILE|-]",
		Short: "Send one request to a plugin and print its answer",
		Long: `Send one request of the plugin protocol to a plugin and print its answer.

PLUGIN is a managed plugin, or one that somebody else runs (v1). METHOD is the
path of the request, for example VolumeDriver.List. The body is JSON as an
argument, from a file, or from standard input; without one the request is empty.
On a terminal the answer is indented. What the plugin says is not translated:
paths in it are those the plugin sees.

A v1 plugin is only sent methods of what it implements, and Plugin.Activate,
which asks it for that. Managed plugins do not have to know Plugin.Activate:
what they implement is in their configuration.`,
		Example: `  outlet call example/dirvol VolumeDriver.List
  outlet call example/dirvol VolumeDriver.Create '{"Name": "v1"}'
  outlet call example/dirvol VolumeDriver.Create @create.json`,
		Args:                  rangeArgs(2, 3),
		DisableFlagsInUseLine: true,
		ValidArgsFunction:     completePlugins(conn, enabledPlugin, false),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.name, o.method = args[0], args[1]
			if len(args) == 3 {
				o.body = args[2]
			}
			return runCall(cmd.Context(), env, conn, o)
		},
	}
	return cmd
}

func runCall(ctx context.Context, env *Env, conn *connection, o callOptions) error {
	body, err := callBody(env, o.body)
	if err != nil {
		return err
	}
	c, err := conn.open()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // never fails
	status, answer, err := c.Call(ctx, o.name, o.method, body)
	if err != nil {
		return err
	}
	if status < 200 || status > 299 {
		return fmt.Errorf("%s answered %s with status %d: %s", o.name, o.method, status, pluginError(answer))
	}
	if _, ok := terminal(env.Out); ok {
		var b bytes.Buffer
		if json.Indent(&b, answer, "", "  ") == nil {
			answer = b.Bytes()
		}
		if len(answer) > 0 && answer[len(answer)-1] != '\n' {
			answer = append(answer, '\n')
		}
	}
	_, err = env.Out.Write(answer)
	return err
}

// callBody reads the body an argument names and refuses what is no JSON before
// a plugin sees it.
func callBody(env *Env, arg string) ([]byte, error) {
	var data []byte
	var err error
	switch {
	case arg == "":
		return nil, nil
	case arg == "-":
		data, err = readBounded(env.In, "standard input")
	case arg[0] == '@':
		var f *os.File
		if f, err = os.Open(arg[1:]); err == nil {
			data, err = readBounded(f, arg[1:])
			err = errors.Join(err, f.Close())
		}
	default:
		data = []byte(arg)
	}
	if err != nil {
		return nil, err
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, nil
	}
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		return nil, usagef("the body is not JSON: %w", err)
	}
	return data, nil
}

func readBounded(r io.Reader, name string) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxCallBody+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(data) > maxCallBody {
		return nil, fmt.Errorf("%s is longer than %d MiB", name, maxCallBody>>20)
	}
	return data, nil
}

// pluginError is what a plugin says went wrong, in whichever of the ways
// plugins say it.
func pluginError(answer []byte) string {
	var m struct{ Err, Error, Message string }
	if json.Unmarshal(answer, &m) == nil {
		for _, text := range []string{m.Err, m.Error, m.Message} {
			if text != "" {
				return text
			}
		}
	}
	if text := strings.TrimSpace(string(answer)); text != "" {
		return text
	}
	return "no reason given"
}
