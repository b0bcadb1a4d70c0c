package cli

import (
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/outletd/outlet/client"
)

// connection holds the options that say which daemon to talk to.
type connection struct {
	env *Env

	host           string
	tls, tlsVerify bool
	ca, cert, key  string
	flags          *pflag.FlagSet
}

func (c *connection) addFlags(f *pflag.FlagSet) {
	c.flags = f
	f.StringVarP(&c.host, "host", "H", "", "Daemon to talk to: unix:///path or tcp://host:port (default OUTLET_HOST, else the socket of this machine)")
	f.BoolVar(&c.tls, "tls", false, "Use TLS without checking the daemon's certificate")
	f.BoolVar(&c.tlsVerify, "tlsverify", false, "Use TLS and check the daemon's certificate (default OUTLET_TLS_VERIFY)")
	f.StringVar(&c.ca, "tlscacert", "", "Trust certificates signed only by this CA (default ca.pem in OUTLET_CERT_PATH)")
	f.StringVar(&c.cert, "tlscert", "", "Path to the TLS certificate (default cert.pem in OUTLET_CERT_PATH)")
	f.StringVar(&c.key, "tlskey", "", "Path to the TLS key (default key.pem in OUTLET_CERT_PATH)")
}

// open makes the client; it dials nothing yet.
func (c *connection) open() (*client.Client, error) {
	o := client.Options{
		Host:       c.env.Getenv("OUTLET_HOST"),
		APIVersion: c.env.Getenv("OUTLET_API_VERSION"),
		UserAgent:  "outlet/" + c.env.Build.Version,
	}
	if c.host != "" {
		o.Host = c.host
	}
	verify := c.tlsVerify || !c.flags.Changed("tlsverify") && c.env.Getenv("OUTLET_TLS_VERIFY") != ""
	if verify || c.tls || c.ca != "" || c.cert != "" || c.key != "" {
		cfg, err := c.tlsFiles(verify).Config()
		if err != nil {
			return nil, err
		}
		o.TLS = cfg
	}
	return client.New(o)
}

// tlsFiles fills in the files nobody named: those in OUTLET_CERT_PATH, or in
// the user's configuration, as far as they are there.
func (c *connection) tlsFiles(verify bool) client.TLSFiles {
	dir := c.env.Getenv("OUTLET_CERT_PATH")
	if dir == "" {
		if base, err := os.UserConfigDir(); err == nil {
			dir = filepath.Join(base, "outlet")
		}
	}
	pick := func(named, name string) string {
		path := filepath.Join(dir, name)
		if named == "" && dir != "" && (exists(path) || c.env.Getenv("OUTLET_CERT_PATH") != "") {
			return path
		}
		return named
	}
	return client.TLSFiles{
		CA:         pick(c.ca, "ca.pem"),
		Cert:       pick(c.cert, "cert.pem"),
		Key:        pick(c.key, "key.pem"),
		SkipVerify: !verify && c.ca == "",
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
