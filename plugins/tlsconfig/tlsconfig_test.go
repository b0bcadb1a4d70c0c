package tlsconfig_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/outletd/outlet/plugins/tlsconfig"
)

func pair(t *testing.T) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	pk, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return file(t, "cert.pem", "CERTIFICATE", nil, der), file(t, "key.pem", "EC PRIVATE KEY", nil, pk)
}

func file(t *testing.T, name, kind string, headers map[string]string, der []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Headers: headers, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestClient(t *testing.T) {
	cert, key := pair(t)
	legacy := file(t, "k", "RSA PRIVATE KEY", map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"}, []byte("x"))
	pkcs8 := file(t, "k", "ENCRYPTED PRIVATE KEY", nil, []byte("x"))
	for _, tt := range []struct {
		name string
		o    tlsconfig.Options
		why  string
	}{
		{"zero", tlsconfig.Options{}, ""},
		{"pair", tlsconfig.Options{CertFile: cert, KeyFile: key}, ""},
		{"certificate without key", tlsconfig.Options{CertFile: cert}, "no key"},
		{"key without certificate", tlsconfig.Options{KeyFile: key}, "no certificate"},
		{"encrypted key", tlsconfig.Options{CertFile: cert, KeyFile: legacy}, "is encrypted"},
		{"encrypted PKCS 8 key", tlsconfig.Options{CertFile: cert, KeyFile: pkcs8}, "is encrypted"},
		{"missing CA", tlsconfig.Options{CAFile: "/nowhere"}, "could not read CA certificate"},
		{"CA that is none", tlsconfig.Options{CAFile: key}, "no certificate in PEM file"},
		{"CA that is not needed", tlsconfig.Options{CAFile: "/nowhere", InsecureSkipVerify: true}, ""},
		{"TLS 1.1", tlsconfig.Options{MinVersion: tls.VersionTLS11}, "too low. Should be at-least: 303"},
		{"TLS 1.3", tlsconfig.Options{MinVersion: tls.VersionTLS13}, ""},
		{"no version", tlsconfig.Options{MinVersion: 7}, "invalid minimum TLS version: 7"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := tlsconfig.Client(tt.o)
			if (err != nil) != (tt.why != "") || err != nil && !strings.Contains(err.Error(), tt.why) {
				t.Fatalf("error %v, want %q", err, tt.why)
			}
			if err == nil && (c.MinVersion < tls.VersionTLS12 || c.MinVersion < tt.o.MinVersion || c.InsecureSkipVerify != tt.o.InsecureSkipVerify || len(c.Certificates) > 0 != (tt.o.CertFile != "")) {
				t.Errorf("configuration %+v", c)
			}
		})
	}
}

func TestExclusiveRootsAreExclusive(t *testing.T) {
	cert, _ := pair(t)
	c, err := tlsconfig.Client(tlsconfig.Options{CAFile: cert, ExclusiveRootPools: true})
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	want := x509.NewCertPool()
	want.AppendCertsFromPEM(text)
	if !c.RootCAs.Equal(want) {
		t.Error("there are other roots beside the file's")
	}
}

func TestServer(t *testing.T) {
	cert, key := pair(t)
	if _, err := tlsconfig.Server(tlsconfig.Options{}); err == nil {
		t.Error("a server without a certificate")
	}
	c, err := tlsconfig.Server(tlsconfig.Options{CAFile: cert, CertFile: cert, KeyFile: key, ClientAuth: tls.RequireAndVerifyClientCert})
	if err != nil || c.ClientCAs == nil || c.ClientAuth != tls.RequireAndVerifyClientCert {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err := tlsconfig.Server(tlsconfig.Options{CAFile: "/nowhere", CertFile: cert, KeyFile: key}); err != nil || c.ClientCAs != nil {
		t.Errorf("a CA that is of no use is read: %v", err)
	}
	tightened := tlsconfig.ServerDefault(func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 })
	if tightened.MinVersion != tls.VersionTLS13 || tlsconfig.ClientDefault().MinVersion != tls.VersionTLS12 {
		t.Error("defaults are shared or ignore their options")
	}
}

// Definitions name files; a pipe must not hold an activation up, nor a device
// fill the memory.
func TestFilesThatNeverEndAreRefused(t *testing.T) {
	for _, name := range []string{"/dev/zero", os.DevNull, t.TempDir()} {
		if _, err := os.Stat(name); err != nil {
			continue // of another system
		}
		if _, err := tlsconfig.Client(tlsconfig.Options{CAFile: name}); err == nil {
			t.Errorf("%s is accepted as CAFile", name)
		}
		if _, err := tlsconfig.Client(tlsconfig.Options{CertFile: name, KeyFile: name}); err == nil {
			t.Errorf("%s is accepted as CertFile", name)
		}
	}
}
