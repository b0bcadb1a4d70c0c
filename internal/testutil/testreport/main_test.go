package main

import (
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     []string
		not      []string
		failed   bool
		skipped  bool
	}{
		{
			name: "names a skipped test with the reason and hides the output of one that passed",
			in: `{"Action":"output","Package":"github.com/outletd/outlet/a","Test":"TestA","Output":"    a_test.go:5: seed 7\n"}
{"Action":"output","Package":"github.com/outletd/outlet/a","Test":"TestA","Output":"    a_test.go:7: needs fuse: load it\n"}
{"Action":"skip","Package":"github.com/outletd/outlet/a","Test":"TestA"}
{"Action":"output","Package":"github.com/outletd/outlet/a","Test":"TestB","Output":"noise\n"}
{"Action":"pass","Package":"github.com/outletd/outlet/a","Test":"TestB"}
{"Action":"output","Package":"github.com/outletd/outlet/a","Output":"ok  \tgithub.com/outletd/outlet/a\t0.1s\n"}
{"Action":"pass","Package":"github.com/outletd/outlet/a"}
`,
			want: []string{"ok  \tgithub.com/outletd/outlet/a\t0.1s\n", "1 tests passed, 1 skipped", "skipped: needs fuse: load it\n    a.TestA\n"},
			not:  []string{"noise"},

			skipped: true,
		},
		{
			name: "prints the output of a test that failed",
			in: `{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:7: broken\n"}
{"Action":"fail","Package":"p","Test":"TestA"}
`,
			want:   []string{"a_test.go:7: broken"},
			failed: true,
		},
		{
			name:   "a test that never ended is a failure",
			in:     `{"Action":"output","Package":"p","Test":"TestA","Output":"panic: no\n"}` + "\n",
			want:   []string{"panic: no"},
			failed: true,
		},
		{
			name:   "a package that does not build is a failure",
			in:     `{"ImportPath":"p","Action":"build-output","Output":"a.go:1: no\n"}` + "\n" + `{"ImportPath":"p","Action":"build-fail"}` + "\n",
			want:   []string{"a.go:1: no"},
			failed: true,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out strings.Builder
			failed, skipped, err := report(strings.NewReader(tt.in), &out)
			if err != nil {
				t.Fatal(err)
			}
			if failed != tt.failed {
				t.Errorf("failed: %v", failed)
			}
			if skipped != tt.skipped {
				t.Errorf("skipped: %v", skipped)
			}
			for _, want := range tt.want {
				if !strings.Contains(out.String(), want) {
					t.Errorf("%q is missing in:\n%s", want, out.String())
				}
			}
			for _, not := range tt.not {
				if strings.Contains(out.String(), not) {
					t.Errorf("%q is in:\n%s", not, out.String())
				}
			}
		})
	}
}
