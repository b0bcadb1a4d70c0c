// Command benchreport reads what `go test -bench` prints from standard input,
// passes it on, and ends with one table, as Markdown: the ratios that were
// measured beside their aims, and what else was reported. It judges nothing: the
// exit status says only whether the benchmarks ran.
package main

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
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
	var pkg string
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		text := lines.Text()
		fmt.Fprintln(out, text)
		if strings.HasPrefix(text, "FAIL") || strings.HasPrefix(text, "--- FAIL") {
			failed = true
		}
		if path, ok := strings.CutPrefix(text, "pkg: "); ok {
			pkg = prefix(path)
		}
		if r, ok := parse(text); ok {
			r.name = pkg + r.name
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

// prefix tells the benchmarks of a package from those of others. Those of
// test/bench are about the whole and need none.
func prefix(path string) string {
	path = strings.TrimPrefix(path, "github.com/outletd/outlet/")
	if path == "test/bench" {
		return ""
	}
	return path + ": "
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

// table makes the rows of all results. What has neither a ratio nor an aim is
// shown with what it reported, so that nothing that ran is missing.
func table(results []result) []string {
	var rows []string
	for _, r := range results {
		rows = append(rows, r.rows()...)
	}
	return rows
}

// rows makes a row of what the result is about, and one of each thing that was
// measured in passing.
func (r result) rows() []string {
	v := r.values
	var rows []string
	row := func(name, ours, beside, ratio, aim string, held bool) {
		mark := ""
		if aim != "" && !held {
			mark = "**missed**"
		}
		rows = append(rows, fmt.Sprintf("| %s | %s | %s | %s | %s | %s |", name, ours, beside, ratio, aim, mark))
	}
	for _, more := range []string{"attached", "stop"} { // times with an aim
		if aim := more + "-aim-ms"; has(v, aim) {
			row(r.name+": "+more, r.unit(more, "ms"), "", "", "≤ "+r.unit(more+"-aim", "ms"), v[more+"-ms"] <= v[aim])
		}
	}
	for _, more := range []string{"upgrade", "disk"} { // ratios with an aim
		if aim := more + "-aim"; has(v, aim) {
			row(r.name+": "+more, "", "", number(v[more+"-ratio"]), "≤ "+number(v[aim]), v[more+"-ratio"] <= v[aim])
		}
	}
	passing := rows
	rows = nil
	switch {
	case has(v, "times-faster"):
		row(r.name, r.unit("outlet", "ms"), r.unit("dockerd", "ms")+" (dockerd)", number(v["times-faster"])+" × faster",
			"≥ "+number(v["times-aim"])+" ×", v["times-faster"] >= v["times-aim"])
	case has(v, "ratio"):
		aim := ""
		if has(v, "aim") {
			aim = "≤ " + number(v["aim"])
		}
		row(r.name, r.any("outlet"), r.any("limit"), number(v["ratio"]), aim, v["ratio"] <= v["aim"])
	case has(v, "×plain"):
		row(r.name, number(v["µs/request"])+" µs", "plain net/http", number(v["×plain"])+" × its throughput", "≥ 0.5 ×", v["×plain"] >= 0.5)
	case has(v, "aim-ms"), has(v, "aim-MB"):
		ours, aim := r.any("outlet"), r.any("aim")
		row(r.name, ours, "", "", "≤ "+aim, v["outlet-ms"] <= v["aim-ms"] && v["outlet-MB"] <= v["aim-MB"])
	case len(passing) == 0:
		var all []string
		for _, unit := range slices.Sorted(maps.Keys(v)) {
			all = append(all, number(v[unit])+" "+unit)
		}
		row(r.name, strings.Join(all, ", "), "", "", "", true)
	}
	return append(rows, passing...)
}

// unit shows what was reported as name in the unit, or nothing.
func (r result) unit(name, unit string) string {
	if x, ok := r.values[name+"-"+unit]; ok {
		return number(x) + " " + unit
	}
	return ""
}

// any is unit with whatever unit it was that was reported.
func (r result) any(name string) string {
	for _, unit := range []string{"ms", "MB", "allocs"} {
		if s := r.unit(name, unit); s != "" {
			return s
		}
	}
	return ""
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
