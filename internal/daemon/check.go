package daemon

import (
	"context"

	"github.com/outletd/outlet"
)

// Check compares what is kept with what is there, plugins first, then volumes.
func (s system) Check(ctx context.Context, repair bool) (outlet.CheckReport, error) {
	report, err := s.d.manager.Check(ctx, repair)
	if err != nil {
		return outlet.CheckReport{}, err
	}
	held := func(plugin string) ([]outlet.Holder, bool) {
		p, err := s.d.manager.Inspect(ctx, plugin)
		if err != nil { // it was removed just now
			return nil, false
		}
		return p.Status.Holders, true
	}
	volumes, err := s.d.volumes.Check(ctx, held, repair)
	report.Problems = append(report.Problems, volumes...)
	return report, err
}
