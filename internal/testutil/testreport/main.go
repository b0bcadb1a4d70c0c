// Testreport reads the JSON stream of `go test -json` and prints what a person
// wants of it: the output of tests that failed, a line for each package as `go
// test` prints it, and at the end every skipped test by name with what enables
// it. It ends with status 1 if anything failed, and, where OUTLET_TEST_NEED is
// "all", if anything was skipped. It runs no tests itself.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

func main() {
	failed, skipped, err := report(os.Stdin, os.Stdout)
	if skipped && os.Getenv("OUTLET_TEST_NEED") == "all" {
		failed = true
		fmt.Println("\nFAIL: OUTLET_TEST_NEED is all, and tests were skipped")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
	}
	if err != nil || failed {
		os.Exit(1)
	}
}

type event struct {
	Action, Package, ImportPath, Test, Output, FailedBuild string
}

// report copies what matters from in to out and says whether anything failed or
// was skipped.
func report(in io.Reader, out io.Writer) (failed, skipped bool, err error) {
	var (
		output  = make(map[string][]string) // by package and test, until it is known how it ended
		reasons = make(map[string][]string) // for skipping: names of the tests
		passed  int
	)
	lines := bufio.NewReader(in)
	for {
		line, readErr := lines.ReadString('\n')
		if line != "" {
			var e event
			if json.Unmarshal([]byte(line), &e) != nil { // from the go command itself
				fmt.Fprint(out, line)
			}
			key := e.Package + " " + e.Test
			switch e.Action {
			case "build-output":
				fmt.Fprint(out, e.Output)
			case "build-fail":
				failed = true
			case "output":
				if e.Test == "" {
					printPackageLine(out, e.Output)
				} else {
					output[key] = append(output[key], e.Output)
				}
			case "fail":
				failed = true
				for _, text := range output[key] {
					fmt.Fprint(out, text)
				}
				delete(output, key)
			case "pass":
				if e.Test != "" {
					passed++
				}
				delete(output, key)
			case "skip":
				if e.Test != "" {
					why := reason(output[key])
					reasons[why] = append(reasons[why], short(e.Package)+"."+e.Test)
				}
				delete(output, key)
			}
		}
		if readErr == io.EOF {
			break
		}
		if readErr != nil {
			return failed, len(reasons) > 0, readErr
		}
	}
	// A package that died (a panic, a time-out) leaves its tests without an end.
	for _, key := range sortedKeys(output) {
		failed = true
		for _, text := range output[key] {
			fmt.Fprint(out, text)
		}
	}
	summary(out, passed, reasons)
	return failed, len(reasons) > 0, nil
}

// printPackageLine prints what a package says outside its tests, without the
// lines that only repeat how it ended.
func printPackageLine(out io.Writer, text string) {
	if text == "PASS\n" || strings.HasPrefix(text, "coverage:") || strings.HasPrefix(text, "testing: warning: no tests to run") {
		return
	}
	fmt.Fprint(out, text)
}

// reason is the text a test was skipped with: what t.Skip printed, which is the
// last of what it printed, without its place in the source.
func reason(output []string) string {
	for _, text := range slices.Backward(output) {
		text = strings.TrimSpace(text)
		at := strings.Index(text, ".go:")
		if at < 0 || strings.HasPrefix(text, "=== ") || strings.HasPrefix(text, "--- ") {
			continue
		}
		if _, after, ok := strings.Cut(text[at:], ": "); ok {
			return after
		}
	}
	return "no reason given"
}

func summary(out io.Writer, passed int, reasons map[string][]string) {
	skipped := 0
	for _, names := range reasons {
		skipped += len(names)
	}
	fmt.Fprintf(out, "\n%d tests passed, %d skipped\n", passed, skipped)
	for _, why := range sortedKeys(reasons) {
		fmt.Fprintf(out, "\nskipped: %s\n", why)
		names := reasons[why]
		slices.Sort(names)
		for _, name := range names {
			fmt.Fprintf(out, "    %s\n", name)
		}
	}
}

func short(pkg string) string {
	const module = "github.com/outletd/outlet"
	if pkg == module {
		return "outlet"
	}
	return strings.TrimPrefix(pkg, module+"/")
}

func sortedKeys(m map[string][]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
