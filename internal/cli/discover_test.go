package cli

import (
	"net/http"

	"github.com/outletd/outlet"
)

func (d *fakeDaemon) discover(w http.ResponseWriter, _ *http.Request) error {
	return answer(w, outlet.V1Plugins{
		Plugins: []outlet.V1Plugin{
			{
				Name: "dead", Address: "unix:///run/docker/plugins/dead.sock", Origin: "/run/docker/plugins/dead.sock",
				Error: "dial unix /run/docker/plugins/dead.sock: connect: connection\nrefused",
			},
			{
				Name: "nfs10", Address: "tcp://127.0.0.1:9", Origin: "/etc/docker/plugins/nfs10.spec",
				Capabilities: []string{"VolumeDriver", "NetworkDriver"}, Reachable: true,
			},
			{Name: "nfs9", Address: "https://n:9", Origin: "/etc/docker/plugins/nfs9.json", Reachable: true},
		},
		Warnings: []string{"plugin odd: /etc/docker/plugins/odd.spec: Unknown protocol"},
	})
}
