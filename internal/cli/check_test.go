package cli

import (
	"net/http"

	"github.com/outletd/outlet"
)

// check answers as a daemon with one problem, which it can mend.
func (d *fakeDaemon) check(w http.ResponseWriter, r *http.Request) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	report := outlet.CheckReport{Problems: []outlet.Problem{
		{Kind: "orphan blob", Subject: "sha256:1234", Detail: "nothing holds its 7 bytes", Repaired: r.Method == http.MethodPost},
	}}
	if len(d.plugins) == 0 {
		report.Problems = []outlet.Problem{}
	}
	return answer(w, report)
}
