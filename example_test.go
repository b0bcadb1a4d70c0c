package outlet_test

import (
	"fmt"

	"github.com/outletd/outlet"
)

func ExampleParseConfig() {
	cfg, warnings, err := outlet.ParseConfig([]byte(`{
		"description": "volumes over ssh",
		"interface": {"socket": "sshfs.sock", "types": ["docker.volumedriver/1.0"]},
		"mount": []
	}`))
	fmt.Println(cfg.Interface.Types[0], cfg.Interface.Socket, err)
	fmt.Println(warnings)
	// Output:
	// docker.volumedriver/1.0 sshfs.sock <nil>
	// [mount: unknown key, ignored; did you mean Mounts?]
}

func ExampleSettings_Set() {
	level := "0"
	cfg := outlet.Config{Env: []outlet.Env{{Name: "DEBUG", Value: &level, Settable: []string{"value"}}}}
	settings := outlet.NewSettings(cfg)
	changed, err := settings.Set(cfg, []string{"DEBUG=1"})
	fmt.Println(settings.Env, changed.Env, err)
	_, err = settings.Set(cfg, []string{"DEBUG=1", "VERBOSE=1"})
	fmt.Println(err)
	// Output:
	// [DEBUG=0] [DEBUG=1] <nil>
	// setting "VERBOSE" not found in the plugin configuration
}

func ExampleRequiredPrivileges() {
	source := "/dev"
	cfg := outlet.Config{
		Network: outlet.Network{Type: "host"},
		Mounts:  []outlet.Mount{{Source: &source, Destination: "/dev"}},
	}
	for _, p := range outlet.RequiredPrivileges(cfg) {
		fmt.Printf("%s: %v: it %s\n", p.Name, p.Value, outlet.Words(p))
	}
	// Output:
	// network: [host]: it may use the network of the host
	// mount: [/dev]: it may mount this directory of the host into the plugin
}
