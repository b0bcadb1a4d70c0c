package daemon

import (
	"context"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/policy"
	"github.com/outletd/outlet/manager"
)

// admitter asks the policy file of the daemon, which is read anew each time: a
// rule holds from when it is written, and a file that cannot be read allows
// nothing.
type admitter struct{ path string }

func (a admitter) plugin(ctx context.Context, p outlet.RemotePlugin, signatures manager.FindSignatures) error {
	rules, err := policy.Load(a.path)
	if err != nil {
		return err
	}
	return rules.Check(ctx, p, signatures)
}

func (a admitter) source(reference string) error {
	rules, err := policy.Load(a.path)
	if err != nil {
		return err
	}
	return rules.CheckSource(reference)
}

func (a admitter) settings(reference string, p outlet.Privileges) error {
	rules, err := policy.Load(a.path)
	if err != nil {
		return err
	}
	return rules.CheckPrivileges(reference, p)
}

// withPolicy makes a manager ask the policy, if there is one.
func (c Config) withPolicy(m manager.Config) manager.Config {
	if c.Policy != "" {
		a := admitter{c.Policy}
		m.Admit, m.AdmitSource, m.AdmitSettings = a.plugin, a.source, a.settings
	}
	return m
}

// checkPolicy reads the policy, so that its faults are known at once.
func (c *Config) checkPolicy() error {
	if c.Policy == "" {
		return nil
	}
	_, err := policy.Load(c.Policy)
	return err
}
