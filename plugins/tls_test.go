package plugins_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/outletd/outlet/plugins"
	"github.com/outletd/outlet/plugins/pluginstest"
	"github.com/outletd/outlet/plugins/tlsconfig"
)

// authority makes certificates for 127.0.0.1 in a directory: ca.pem, and for
// each name a name.pem and a name.key.
func authority(t testing.TB, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := func(serial int64, name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}
	}
	ca := template(1, "authority")
	ca.IsCA, ca.BasicConstraintsValid, ca.KeyUsage = true, true, x509.KeyUsageCertSign
	save := func(name, kind string, der []byte) {
		must(t, os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	}
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, &key.PublicKey, key)
	must(t, err)
	save("ca.pem", "CERTIFICATE", der)
	for i, name := range names {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		must(t, err)
		der, err := x509.CreateCertificate(rand.Reader, template(int64(i+2), name), ca, &k.PublicKey, key)
		must(t, err)
		save(name+".pem", "CERTIFICATE", der)
		pk, err := x509.MarshalPKCS8PrivateKey(k)
		must(t, err)
		save(name+".key", "PRIVATE KEY", pk)
	}
	return dir
}

// secure is a plugin on TLS whose certificate the system does not know.
func secure(t testing.TB, dir string, clientCert bool) *pluginstest.Plugin {
	t.Helper()
	o := tlsconfig.Options{CAFile: filepath.Join(dir, "ca.pem"), CertFile: filepath.Join(dir, "server.pem"), KeyFile: filepath.Join(dir, "server.key")}
	if clientCert {
		o.ClientAuth = tls.RequireAndVerifyClientCert
	}
	c, err := tlsconfig.Server(o)
	must(t, err)
	return pluginstest.StartTCP(t, c, volumeDriver)
}

// The table of docs/spec/v1-plugins.md §2.5, and the one of Docker behind the
// switch.
func TestD09PluginsAreVerified(t *testing.T) {
	dir := authority(t, "server", "client")
	p := secure(t, dir, false)
	mutual := secure(t, dir, true)
	file := func(name string) string { return filepath.ToSlash(filepath.Join(dir, name)) }
	for _, tt := range []struct {
		name, file, content string
		ours, legacy        bool
	}{
		{"spec", "p.spec", p.Addr, false, true},
		{"json without TLSConfig", "p.json", fmt.Sprintf(`{"Addr":%q}`, p.Addr), false, false},
		{"json without CAFile", "p.json", fmt.Sprintf(`{"Addr":%q,"TLSConfig":{}}`, p.Addr), false, true},
		{"json that wants verification", "p.json", fmt.Sprintf(`{"Addr":%q,"TLSConfig":{"InsecureSkipVerify":false}}`, p.Addr), false, true},
		{"json that wants none", "p.json", fmt.Sprintf(`{"Addr":%q,"TLSConfig":{"InsecureSkipVerify":true}}`, p.Addr), true, true},
		{"json with CAFile", "p.json", fmt.Sprintf(`{"Addr":%q,"TLSConfig":{"CAFile":%q}}`, p.Addr, file("ca.pem")), true, true},
		{"json with CAFile alone", "p.json", fmt.Sprintf(`{"Addr":%q,"tlsconfig":{"cafile":%q,"ExclusiveRootPools":true}}`, p.Addr, file("ca.pem")), true, true},
		{"CAFile of somebody else", "p.json", fmt.Sprintf(`{"Addr":%q,"TLSConfig":{"CAFile":%q}}`, p.Addr, file("client.pem")), false, false},
		{"CAFile of somebody else, and no verification", "p.json", fmt.Sprintf(`{"Addr":%q,"TLSConfig":{"CAFile":%q,"InsecureSkipVerify":true}}`, p.Addr, file("client.pem")), true, true},
		{"missing CAFile", "p.json", fmt.Sprintf(`{"Addr":%q,"TLSConfig":{"CAFile":"/nowhere.pem"}}`, p.Addr), false, false},
		{"TLS 1.3", "p.json", fmt.Sprintf(`{"Addr":%q,"TLSConfig":{"CAFile":%q,"MinVersion":772}}`, p.Addr, file("ca.pem")), true, true},
		{"TLS 1.1", "p.json", fmt.Sprintf(`{"Addr":%q,"TLSConfig":{"CAFile":%q,"MinVersion":770}}`, p.Addr, file("ca.pem")), false, false},
		{"tcp means TLS with a TLSConfig", "p.json", fmt.Sprintf(`{"Addr":%q,"TLSConfig":{"CAFile":%q}}`, strings.Replace(p.Addr, "https", "tcp", 1), file("ca.pem")), true, true},
		{"client certificate", "p.json", fmt.Sprintf(`{"Addr":%q,"TLSConfig":{"CAFile":%q,"CertFile":%q,"KeyFile":%q}}`, mutual.Addr, file("ca.pem"), file("client.pem"), file("client.key")), true, true},
		{"client certificate that is missing", "p.json", fmt.Sprintf(`{"Addr":%q,"TLSConfig":{"CAFile":%q}}`, mutual.Addr, file("ca.pem")), false, false},
		{"certificate without key", "p.json", fmt.Sprintf(`{"Addr":%q,"TLSConfig":{"CAFile":%q,"CertFile":%q}}`, mutual.Addr, file("ca.pem"), file("client.pem")), false, false},
		{"key without certificate", "p.json", fmt.Sprintf(`{"Addr":%q,"TLSConfig":{"CAFile":%q,"KeyFile":%q}}`, mutual.Addr, file("ca.pem"), file("client.key")), false, false},
	} {
		for _, legacy := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/legacy=%v", tt.name, legacy), func(t *testing.T) {
				tr := newTree(t)
				tr.write(filepath.Join(tr.a, tt.file), tt.content)
				var log bytes.Buffer
				r := tr.registry(func(c *plugins.Config) {
					c.LegacyTLS, c.Logger = legacy, slog.New(slog.NewTextHandler(&log, nil))
				})
				_, err := r.Get(t.Context(), "p", volumeDriver, plugins.WithBudget(0))
				want := tt.ours
				if legacy {
					want = tt.legacy
				}
				if (err == nil) != want {
					t.Errorf("error %v, want success %v", err, want)
				}
				warned := strings.Contains(log.String(), "not verified")
				if skips := strings.Contains(tt.content, `"InsecureSkipVerify":true`); warned != (legacy && (tt.legacy != tt.ours || skips)) {
					t.Errorf("logged %q", log.String())
				}
			})
		}
	}
}

func TestD10TLSConfigIsNeverPlainText(t *testing.T) {
	for _, scheme := range []string{"tcp", "http", "https"} {
		for _, legacy := range []bool{false, true} {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			must(t, err)
			first := make(chan []byte, 8)
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						close(first)
						return
					}
					b := make([]byte, 1024)
					n, _ := c.Read(b)
					first <- b[:n]
					c.Close()
				}
			}()
			tr := newTree(t)
			tr.write(filepath.Join(tr.a, "p.json"), fmt.Sprintf(`{"Addr":"%s://%s","TLSConfig":{}}`, scheme, l.Addr()))
			r := tr.registry(func(c *plugins.Config) { c.LegacyTLS = legacy })
			if _, err := r.Get(t.Context(), "p", volumeDriver, plugins.WithBudget(0)); err == nil {
				t.Error("a plugin that speaks no TLS is active")
			}
			l.Close()
			for b := range first {
				if len(b) > 0 && b[0] != 22 || bytes.Contains(b, []byte("POST")) {
					t.Errorf("%s: the first bytes are %q", scheme, b)
				}
			}
		}
	}
}

func TestD11PathOfTheAddress(t *testing.T) {
	tr := newTree(t)
	p := pluginstest.StartTCP(t, nil)
	addr := strings.Replace(p.Addr, "tcp", "http", 1) + "/docker/plugin"
	tr.write(filepath.Join(tr.a, "p.spec"), addr)
	p.Handle("Plugin.Activate", func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) })
	p.Handle("/docker/plugin/Plugin.Activate", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, `{"Implements":["VolumeDriver"]}`)
	})
	p.Handle("/docker/plugin/VolumeDriver.List", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "{}") })
	got, err := tr.registry().Get(t.Context(), "p", volumeDriver)
	must(t, err)
	must(t, got.Client().CallContext(t.Context(), "VolumeDriver.List", nil, nil))
	var paths []string
	for _, r := range p.Requests("") {
		paths = append(paths, r.Path)
	}
	if want := []string{"/docker/plugin/Plugin.Activate", "/docker/plugin/VolumeDriver.List"}; !slices.Equal(paths, want) {
		t.Errorf("asked for %q, want %q", paths, want)
	}

	// A plugin that serves the root only, as Docker's hosts made it do.
	root := pluginstest.StartTCP(t, nil, volumeDriver)
	root.Reply("VolumeDriver.List", struct{}{})
	tr.write(filepath.Join(tr.a, "root.spec"), strings.Replace(root.Addr, "tcp", "http", 1)+"/docker/plugin")
	root.Handle("/docker/plugin/Plugin.Activate", func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) })
	var log bytes.Buffer
	got, err = tr.registry(func(c *plugins.Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) }).Get(t.Context(), "root", volumeDriver)
	must(t, err)
	must(t, got.Client().CallContext(t.Context(), "VolumeDriver.List", nil, nil))
	if !strings.Contains(log.String(), "level=WARN") {
		t.Errorf("logged %q, want a warning", log.String())
	}
}
