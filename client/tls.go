package client

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
)

// TLSFiles name the files of a TLS connection to a daemon, all in PEM.
type TLSFiles struct {
	// CA holds the certificates that may have signed the daemon's. Empty takes
	// those of the system.
	CA string
	// Cert and Key are the client's own. Both or neither.
	Cert, Key string
	// SkipVerify trusts whatever certificate the daemon shows.
	SkipVerify bool
}

// Config reads the files. One that is missing or no PEM is an error that names
// it.
func (f TLSFiles) Config() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: f.SkipVerify} //nolint:gosec // chosen by the user
	if f.CA != "" && !f.SkipVerify {
		pem, err := os.ReadFile(f.CA)
		if err != nil {
			return nil, fmt.Errorf("read CA certificate: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, outlet.Errorf(errdefs.ErrInvalidArgument, "%s holds no PEM certificate", f.CA)
		}
	}
	if (f.Cert == "") != (f.Key == "") {
		return nil, outlet.Errorf(errdefs.ErrInvalidArgument, "a client certificate and its key are needed together")
	}
	if f.Cert != "" {
		pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		if err != nil {
			return nil, fmt.Errorf("load client certificate %s with key %s: %w", f.Cert, f.Key, err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// FromEnv reads OUTLET_HOST, OUTLET_API_VERSION, OUTLET_TLS_VERIFY (any value
// but the empty one turns TLS on) and OUTLET_CERT_PATH (the directory of
// ca.pem, cert.pem and key.pem). getenv is os.Getenv, or what stands in for it.
func FromEnv(getenv func(string) string) (Options, error) {
	o := Options{Host: getenv("OUTLET_HOST"), APIVersion: getenv("OUTLET_API_VERSION")}
	if getenv("OUTLET_TLS_VERIFY") == "" {
		return o, nil
	}
	dir := getenv("OUTLET_CERT_PATH")
	if dir == "" {
		return o, outlet.Errorf(errdefs.ErrInvalidArgument, "OUTLET_TLS_VERIFY is set, but OUTLET_CERT_PATH does not say where ca.pem, cert.pem and key.pem are")
	}
	cfg, err := TLSFiles{
		CA:   filepath.Join(dir, "ca.pem"),
		Cert: filepath.Join(dir, "cert.pem"),
		Key:  filepath.Join(dir, "key.pem"),
	}.Config()
	if err != nil {
		return o, err
	}
	o.TLS = cfg
	return o, nil
}
