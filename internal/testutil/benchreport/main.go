// Command benchreport reads what `go test -bench` prints from standard input,
// passes it on, and ends with one table of the ratios that were measured beside
// their aims, as Markdown. It judges nothing: the exit status says only whether
// the benchmarks ran.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
)

func main() {
	failed, err := run(os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchreport:", err)
		os.Exit(1)
	}
	if failed {
		os.Exit(1)
	}
}

// result is what a benchmark reported, by unit.
type result struct {
	name   string
	values map[string]float64
}

var line = regexp.MustCompile(`^Benchmark(\S+?)(?:-\d+)?\s+\d+\s+(.*)$`)

func run(in io.Reader, out io.Writer) (failed bool, err error) {
	var results []result
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		text := lines.Text()
		fmt.Fprintln(out, text)
		if strings.HasPrefix(text, "FAIL") || strings.HasPrefix(text, "--- FAIL") {
			failed = true
		}
		if r, ok := parse(text); ok {
			results = append(results, r)
		}
	}
	if err := lines.Err(); err != nil {
		return failed, err
	}
	rows := table(results)
	if len(rows) == 0 {
		return failed, nil
	}
	fmt.Fprint(out, "\n| What | Outlet | Beside it | Ratio | Aim | |\n|---|---|---|---|---|---|\n")
	for _, r := range rows {
		fmt.Fprintln(out, r)
	}
	return failed, nil
}

// parse reads a line of a benchmark's result.
func parse(text string) (result, bool) {
	m := line.FindStringSubmatch(text)
	if m == nil {
		return result{}, false
	}
	r := result{name: m[1], values: make(map[string]float64)}
	fields := strings.Fields(m[2])
	for i := 0; i+1 < len(fields); i += 2 {
		v, err := strconv.ParseFloat(fields[i], 64)
		if err != nil {
			return result{}, false
		}
		r.values[fields[i+1]] = v
	}
	return r, true
}

// table makes the rows of all results that have a ratio or an aim.
func table(results []result) []string {
	var rows []string
	for _, r := range results {
		v := r.values
		row := func(name, ours, beside, ratio, aim string, held bool) {
			mark := ""
			if aim != "" && !held {
				mark = "**missed**"
			}
			rows = append(rows, fmt.Sprintf("| %s | %s | %s | %s | %s | %s |", name, ours, beside, ratio, aim, mark))
		}
		unit := func(name, unit string) string {
			if x, ok := v[name]; ok {
				return number(x) + " " + unit
			}
			return ""
		}
		switch {
		case has(v, "times-faster"):
			row(r.name, unit("outlet-ms", "ms"), unit("dockerd-ms", "ms")+" (dockerd)", number(v["times-faster"])+" × faster",
				"≥ "+number(v["times-aim"])+" ×", v["times-faster"] >= v["times-aim"])
		case has(v, "ratio"):
			ours, beside := unit("outlet-ms", "ms"), unit("limit-ms", "ms")
			if ours == "" { // of a package that counts otherwise
				ours, beside = unit("ms/create", "ms"), unit("ms/limit", "ms")
			}
			aim := ""
			if has(v, "aim") {
				aim = "≤ " + number(v["aim"])
			}
			row(r.name, ours, beside, number(v["ratio"]), aim, v["ratio"] <= v["aim"])
		case has(v, "start/plain"):
			row(r.name, unit("start-ms", "ms"), unit("plain-ms", "ms"), number(v["start/plain"]), "", true)
		case has(v, "×plain"):
			row(r.name, unit("µs/request", "µs"), "plain net/http", number(v["×plain"])+" × its throughput", "≥ 0.5 ×", v["×plain"] >= 0.5)
		case has(v, "aim-ms"):
			row(r.name, unit("outlet-ms", "ms"), "", "", "≤ "+unit("aim-ms", "ms"), v["outlet-ms"] <= v["aim-ms"])
		case has(v, "aim-MB"):
			row(r.name, unit("outlet-MB", "MB"), "", "", "≤ "+unit("aim-MB", "MB"), v["outlet-MB"] <= v["aim-MB"])
		}
		for _, more := range []string{"attached", "stop"} { // what was measured in passing
			if aim := more + "-aim-ms"; has(v, aim) {
				row(r.name+": "+more, unit(more+"-ms", "ms"), "", "", "≤ "+unit(aim, "ms"), v[more+"-ms"] <= v[aim])
			}
		}
	}
	return append(rows, calls(results)...)
}

// calls puts the client of plugins beside net/http: they are two benchmarks.
func calls(results []result) []string {
	var rows []string
	for _, r := range results {
		callers, ok := strings.CutPrefix(r.name, "Call/outlet/")
		if !ok {
			continue
		}
		for _, other := range results {
			if other.name != "Call/nethttp/"+callers || other.values["calls/s"] == 0 {
				continue
			}
			rows = append(rows, fmt.Sprintf("| Call, %s | %.0f calls/s | %.0f calls/s | %s × its throughput |  |  |", callers,
				r.values["calls/s"], other.values["calls/s"], number(r.values["calls/s"]/other.values["calls/s"])))
		}
	}
	return rows
}

func has(v map[string]float64, unit string) bool { _, ok := v[unit]; return ok }

// number shows three digits, and no more than there are.
func number(x float64) string {
	switch {
	case x >= 100:
		return strconv.FormatFloat(x, 'f', 0, 64)
	case x >= 10:
		return strings.TrimSuffix(strconv.FormatFloat(x, 'f', 1, 64), ".0")
	}
	return strings.TrimRight(strings.TrimRight(strconv.FormatFloat(x, 'f', 2, 64), "0"), ".")
}
