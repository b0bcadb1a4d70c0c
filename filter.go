package outlet

import (
	"regexp"

	"github.com/containerd/errdefs"
)

// Match says whether f selects p. A plugin without types is selected by no
// capability. A capability that is no regular expression is
// errdefs.ErrInvalidArgument.
func (f ListFilter) Match(p Plugin) (bool, error) {
	if f.Enabled != nil && *f.Enabled != p.Enabled {
		return false, nil
	}
	if len(f.Capabilities) == 0 {
		return true, nil
	}
	found := false
	for _, want := range f.Capabilities {
		re, err := regexp.Compile(want)
		if err != nil {
			return false, Errorf(errdefs.ErrInvalidArgument, "invalid filter 'capability=[%s]': %w", want, err)
		}
		for _, t := range p.Config.Interface.Types {
			found = found || t.Capability == want || re.MatchString(t.Capability)
		}
	}
	return found, nil
}
