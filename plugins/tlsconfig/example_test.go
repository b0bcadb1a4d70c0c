package tlsconfig_test

import (
	"crypto/tls"
	"fmt"

	"github.com/outletd/outlet/plugins/tlsconfig"
)

func ExampleClient() {
	c, err := tlsconfig.Client(tlsconfig.Options{MinVersion: tls.VersionTLS13})
	fmt.Println(c.MinVersion == tls.VersionTLS13, c.InsecureSkipVerify, err)
	_, err = tlsconfig.Client(tlsconfig.Options{MinVersion: tls.VersionTLS11})
	fmt.Println(err)
	// Output:
	// true false <nil>
	// requested minimum TLS version is too low. Should be at-least: 303
}
