package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTheTableIsLast(t *testing.T) {
	const in = `goos: linux
pkg: github.com/outletd/outlet/test/bench
BenchmarkEnable/fifty-2   	      13	         1.300 aim	        34.49 limit-ms	        48.19 outlet-ms	         1.397 ratio
BenchmarkMemory/idle-2        	       1	        25.00 aim-MB	        19.34 outlet-MB
BenchmarkStart-2   	 9	       200.0 aim-ms	       500.0 attached-aim-ms	        72.86 attached-ms	        70.76 outlet-ms
BenchmarkDockerd/enable-2   	 1	 570.0 dockerd-ms	 30.0 outlet-ms	 15.00 times-aim	 19.00 times-faster
BenchmarkList-2 	 100	 5.0 µs/request	 0.900 ×plain
pkg: github.com/outletd/outlet/plugins
BenchmarkAllocations-2  	 1000	 30.00 limit-allocs	 15.00 outlet-allocs	 0.500 ratio
pkg: github.com/outletd/outlet/test/bench
BenchmarkShared-2  	 1	 400.0 install-ms	 1.050 disk-ratio	 1.200 disk-aim	 0.160 upgrade-ratio	 0.150 upgrade-aim
BenchmarkOther-2  	 1000	 200 ns/op
PASS
`
	var out strings.Builder
	failed, err := run(strings.NewReader(in), &out)
	if err != nil || failed {
		t.Fatal(failed, err)
	}
	got, ok := strings.CutPrefix(out.String(), in)
	if !ok {
		t.Errorf("what was read is not passed on: %s", out.String())
	}
	want := `
| What | Outlet | Beside it | Ratio | Aim | |
|---|---|---|---|---|---|
| Enable/fifty | 48.2 ms | 34.5 ms | 1.4 | ≤ 1.3 | **missed** |
| Memory/idle | 19.3 MB |  |  | ≤ 25 MB |  |
| Start | 70.8 ms |  |  | ≤ 200 ms |  |
| Start: attached | 72.9 ms |  |  | ≤ 500 ms |  |
| Dockerd/enable | 30 ms | 570 ms (dockerd) | 19 × faster | ≥ 15 × |  |
| List | 5 µs | plain net/http | 0.9 × its throughput | ≥ 0.5 × |  |
| plugins: Allocations | 15 allocs | 30 allocs | 0.5 |  |  |
| Shared: upgrade |  |  | 0.16 | ≤ 0.15 | **missed** |
| Shared: disk |  |  | 1.05 | ≤ 1.2 |  |
| Other | 200 ns/op |  |  |  |  |
`
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if failed, err := run(strings.NewReader("FAIL\tpackage\n"), &out); err != nil || !failed {
		t.Error("a failure is not told", err)
	}
}
