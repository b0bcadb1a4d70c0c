package outlet_test

import (
	"testing"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
)

func TestListFilter(t *testing.T) {
	yes, no := true, false
	plugin := func(enabled bool, types ...string) outlet.Plugin {
		p := outlet.Plugin{Enabled: enabled}
		for _, s := range types {
			p.Config.Interface.Types = append(p.Config.Interface.Types, outlet.ParseCapability(s))
		}
		return p
	}
	volume := plugin(true, "docker.volumedriver/1.0")
	both := plugin(true, "docker.networkdriver/1.0", "docker.volumedriver/1.0")
	typeless := plugin(true)
	tests := map[string]struct {
		filter outlet.ListFilter
		plugin outlet.Plugin
		want   bool
	}{
		"no filter selects all":      {outlet.ListFilter{}, typeless, true},
		"enabled":                    {outlet.ListFilter{Enabled: &yes}, volume, true},
		"not enabled":                {outlet.ListFilter{Enabled: &no}, volume, false},
		"disabled":                   {outlet.ListFilter{Enabled: &no}, plugin(false), true},
		"an exact capability":        {outlet.ListFilter{Capabilities: []string{"volumedriver"}}, volume, true},
		"one of two types is enough": {outlet.ListFilter{Capabilities: []string{"volumedriver"}}, both, true},
		"another capability":         {outlet.ListFilter{Capabilities: []string{"networkdriver"}}, volume, false},
		"a plugin without types has no capability": {outlet.ListFilter{Capabilities: []string{".*"}}, typeless, false},
		"a regular expression":                     {outlet.ListFilter{Capabilities: []string{"^vol"}}, volume, true},
		"a regular expression for something else":  {outlet.ListFilter{Capabilities: []string{"^driver"}}, volume, false},
		"values are alternatives":                  {outlet.ListFilter{Capabilities: []string{"authz", "volumedriver"}}, volume, true},
		"the whole type is not compared":           {outlet.ListFilter{Capabilities: []string{"docker.volumedriver/1.0"}}, volume, false},
		"fields are joined by and":                 {outlet.ListFilter{Enabled: &no, Capabilities: []string{"volumedriver"}}, volume, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got, err := tt.filter.Match(tt.plugin); err != nil || got != tt.want {
				t.Errorf("got %v, %v; want %v", got, err, tt.want)
			}
		})
	}
	_, err := outlet.ListFilter{Capabilities: []string{"["}}.Match(volume)
	if !errdefs.IsInvalidArgument(err) {
		t.Errorf("a broken regular expression: %v", err)
	}
}
