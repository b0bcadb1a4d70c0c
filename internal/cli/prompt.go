package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
)

// confirm asks a question and reads one line. Only y and Y agree; the end of
// the input declines; an interruption ends the command with exit code 130.
func confirm(ctx context.Context, env *Env, question string) (bool, error) {
	fmt.Fprint(env.Err, question)
	answer := make(chan string, 1)
	go func() { // waits for a person; ends with the input or the program
		answer <- readAnswer(env.In)
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

// maxAnswer bounds an answer, in bytes.
const maxAnswer = 4 << 10

// readAnswer reads a line with its end and no byte more: what follows may be the
// answer to the next question. What there is at the end of the input is a line.
func readAnswer(r io.Reader) string {
	var line []byte
	for len(line) < maxAnswer {
		var b [1]byte
		n, err := r.Read(b[:])
		line = append(line, b[:n]...)
		if err != nil || n > 0 && b[0] == '\n' {
			break
		}
	}
	return string(line)
}
