package cli

import (
	"bufio"
	"context"
	"fmt"
	"strings"
)

// confirm asks a question and reads one line. Only y and Y agree; the end of
// the input declines; an interruption ends the command with exit code 130.
func confirm(ctx context.Context, env *Env, question string) (bool, error) {
	fmt.Fprint(env.Err, question)
	answer := make(chan string, 1)
	go func() { // waits for a person; ends with the input or the program
		line, _ := bufio.NewReader(env.In).ReadString('\n') //nolint:errcheck // the end of the input declines
		answer <- line
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(env.Err)
		return false, errInterrupted
	case line := <-answer:
		if !strings.HasSuffix(line, "\n") {
			fmt.Fprintln(env.Err)
		}
		return strings.EqualFold(strings.TrimSpace(line), "y"), nil
	}
}
