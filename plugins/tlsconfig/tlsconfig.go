// Package tlsconfig makes [crypto/tls] configurations from the paths and
// switches that plugin definitions hold. It stands in for the package of the
// same name of go-connections, whose Options have the same exported fields, and
// needs nothing but the standard library.
//
// It is not a general TLS helper: what a plugin definition cannot say is not
// here.
package tlsconfig

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"syscall"
)

// Options says how to talk TLS to a plugin, or how to serve it. The zero value
// verifies the peer with the roots of the system.
type Options struct {
	// CAFile is a PEM bundle that is trusted beside the roots of the system,
	// or instead of them with ExclusiveRootPools.
	CAFile string
	// CertFile is the certificate to show, in PEM. It needs KeyFile.
	CertFile string
	// KeyFile is the certificate's key, in PEM and not encrypted.
	KeyFile string
	// InsecureSkipVerify accepts whatever certificate the server shows.
	// Only for clients.
	InsecureSkipVerify bool
	// ClientAuth says what to demand of clients. Only for servers.
	ClientAuth tls.ClientAuthType
	// ExclusiveRootPools trusts CAFile only, and not the system's roots.
	// Without a CAFile it has no effect.
	ExclusiveRootPools bool
	// MinVersion is the lowest TLS version to accept, as in [crypto/tls];
	// zero and everything else below TLS 1.2 means 1.2 or is refused.
	MinVersion uint16
}

// suites are the cipher suites for TLS 1.2, authenticated and with forward
// secrecy. TLS 1.3 chooses its own.
func suites() []uint16 {
	return []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
		tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	}
}

// ClientDefault returns the configuration that Client starts from, changed by
// ops: TLS 1.2 or later, no weak cipher suites.
func ClientDefault(ops ...func(*tls.Config)) *tls.Config { return base(ops) }

// ServerDefault returns the configuration that Server starts from, changed by
// ops: TLS 1.2 or later, no weak cipher suites.
func ServerDefault(ops ...func(*tls.Config)) *tls.Config { return base(ops) }

func base(ops []func(*tls.Config)) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12, CipherSuites: suites()}
	for _, op := range ops {
		op(c)
	}
	return c
}

// SystemCertPool returns a copy of the roots that the system trusts. On Windows
// it is an empty pool where they cannot be listed.
func SystemCertPool() (*x509.CertPool, error) {
	pool, err := x509.SystemCertPool()
	if err != nil && runtime.GOOS == "windows" {
		return x509.NewCertPool(), nil
	}
	return pool, err
}

// Client reads the files that options name and returns the configuration for a
// client. Only one of CertFile and KeyFile is an error, and so is a MinVersion
// below TLS 1.2.
func Client(options Options) (*tls.Config, error) {
	c := base(nil)
	c.InsecureSkipVerify = options.InsecureSkipVerify
	if !options.InsecureSkipVerify && options.CAFile != "" {
		pool, err := rootPool(options.CAFile, options.ExclusiveRootPools)
		if err != nil {
			return nil, err
		}
		c.RootCAs = pool
	}
	if options.CertFile != "" || options.KeyFile != "" {
		cert, err := keyPair(options.CertFile, options.KeyFile)
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{cert}
	}
	return c, raiseMinimum(c, options.MinVersion)
}

// Server reads the files that options name and returns the configuration for a
// server. CertFile and KeyFile are required; CAFile verifies clients where
// ClientAuth asks for that.
func Server(options Options) (*tls.Config, error) {
	c := base(nil)
	c.ClientAuth = options.ClientAuth
	cert, err := keyPair(options.CertFile, options.KeyFile)
	if err != nil {
		return nil, err
	}
	c.Certificates = []tls.Certificate{cert}
	if options.ClientAuth >= tls.VerifyClientCertIfGiven && options.CAFile != "" {
		pool, err := rootPool(options.CAFile, options.ExclusiveRootPools)
		if err != nil {
			return nil, err
		}
		c.ClientCAs = pool
	}
	return c, raiseMinimum(c, options.MinVersion)
}

// raiseMinimum sets the lowest version of c, which can only go up.
func raiseMinimum(c *tls.Config, version uint16) error {
	switch {
	case version == 0:
		return nil
	case version < tls.VersionTLS10 || version > tls.VersionTLS13:
		return fmt.Errorf("invalid minimum TLS version: %x", version)
	case version < c.MinVersion:
		return fmt.Errorf("requested minimum TLS version is too low. Should be at-least: %x", c.MinVersion)
	}
	c.MinVersion = version
	return nil
}

// maxFile is the longest PEM file that is read, in bytes; the roots of a system
// are a quarter of a MiB.
const maxFile = 16 << 20

// readFile reads a file that a definition names: no device or pipe that never
// ends.
func readFile(name string) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: name, Err: errors.New("not a regular file")}
	}
	content, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(content) > maxFile {
		err = &fs.PathError{Op: "read", Path: name, Err: fmt.Errorf("longer than %d bytes", maxFile)}
	}
	return content, err
}

// rootPool reads the certificates of file, beside the system's unless exclusive.
func rootPool(file string, exclusive bool) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !exclusive {
		var err error
		if pool, err = SystemCertPool(); err != nil {
			return nil, fmt.Errorf("read system certificates: %w", err)
		}
	}
	content, err := readFile(file)
	if err != nil {
		return nil, fmt.Errorf("could not read CA certificate %q: %w", file, err)
	}
	if !pool.AppendCertsFromPEM(content) {
		return nil, fmt.Errorf("no certificate in PEM file %q", file)
	}
	return pool, nil
}

// keyPair reads a certificate and its key.
func keyPair(certFile, keyFile string) (tls.Certificate, error) {
	switch {
	case certFile == "":
		return tls.Certificate{}, errors.New("could not load X509 key pair: there is a key but no certificate")
	case keyFile == "":
		return tls.Certificate{}, errors.New("could not load X509 key pair: there is a certificate but no key")
	}
	cert, err := readFile(certFile)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("could not load X509 key pair: %w", err)
	}
	key, err := readFile(keyFile)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("could not load X509 key pair: %w", err)
	}
	if encrypted(key) {
		return tls.Certificate{}, fmt.Errorf("could not load X509 key pair: the key in %q is encrypted; decrypt it first", keyFile)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("could not load X509 key pair: %w", err)
	}
	return pair, nil
}

// encrypted says whether the first block of a PEM file is an encrypted key, in
// either of the two ways there are.
func encrypted(key []byte) bool {
	block, _ := pem.Decode(key)
	return block != nil && (block.Headers["DEK-Info"] != "" || block.Type == "ENCRYPTED PRIVATE KEY")
}
