// Package registrytest runs real registries for tests, with and without TLS,
// passwords and tokens, and puts a proxy in front of them that makes the faults
// that networks and registries make. Only files named _test.go import it.
package registrytest

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outletd/outlet/internal/testutil"
)

// Options say what a registry asks of its clients.
type Options struct {
	// Listen is the address without the port; "" is 127.0.0.1.
	Listen string
	// TLS serves with a certificate of [Registry.CA].
	TLS bool
	// Password has it ask for [User] and [Password].
	Password bool
	// Tokens, if not nil, is the token server it sends clients to.
	Tokens *TokenServer
}

// User and Password are whom a registry with [Options.Password] lets in.
const (
	User     = "me"
	Password = "secret"
	htpasswd = "me:$2y$05$3nNBjneIzjJlOqQQ4ejIEuSt/HZ4hfDIcbAK0DoW/.BxQ.cyg1Cl2\n"
)

// Registry is a registry that runs until its test ends.
type Registry struct {
	// Host is its address with the port, as references begin.
	Host string
	// CA is the certificate it can be verified with, in PEM; nil without TLS.
	CA []byte

	mu  sync.Mutex
	log bytes.Buffer
}

var listening = regexp.MustCompile(`listening on ([^ ",]+)`)

// Start starts Debian's docker-registry with an empty storage.
func Start(t testing.TB, o Options) *Registry {
	t.Helper()
	program := testutil.Program(t, testutil.Registry)
	dir := testutil.TempDir(t)
	if o.Listen == "" {
		o.Listen = "127.0.0.1"
	}
	r := &Registry{}
	var cfg strings.Builder
	fmt.Fprintf(&cfg, "version: 0.1\nlog: {level: info, formatter: text}\nstorage:\n  filesystem: {rootdirectory: %s}\n  delete: {enabled: true}\nhttp:\n  addr: %s\n",
		filepath.Join(dir, "data"), net.JoinHostPort(o.Listen, "0"))
	if o.TLS {
		cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
		var keyPEM []byte
		r.CA, keyPEM = Certificate(t, o.Listen)
		write(t, cert, r.CA)
		write(t, key, keyPEM)
		fmt.Fprintf(&cfg, "  tls: {certificate: %s, key: %s}\n", cert, key)
	}
	switch {
	case o.Password:
		write(t, filepath.Join(dir, "htpasswd"), []byte(htpasswd))
		fmt.Fprintf(&cfg, "auth:\n  htpasswd: {realm: test, path: %s}\n", filepath.Join(dir, "htpasswd"))
	case o.Tokens != nil:
		write(t, filepath.Join(dir, "tokens.pem"), o.Tokens.Certificate)
		fmt.Fprintf(&cfg, "auth:\n  token: {realm: %s/token, service: test, issuer: test, rootcertbundle: %s}\n", o.Tokens.URL, filepath.Join(dir, "tokens.pem"))
	}
	config := filepath.Join(dir, "config.yml")
	write(t, config, []byte(cfg.String()))
	r.serve(t, exec.Command(program, "serve", config))
	return r
}

func (r *Registry) serve(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = in, in
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in.Close()
	found := make(chan string, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer out.Close()
		for lines := bufio.NewReader(out); ; {
			line, err := lines.ReadString('\n')
			r.mu.Lock()
			r.log.WriteString(line)
			r.mu.Unlock()
			if m := listening.FindStringSubmatch(line); m != nil {
				select {
				case found <- m[1]:
				default:
				}
			}
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		<-done
	})
	select {
	case r.Host = <-found:
	case <-done:
		t.Fatalf("docker-registry ended:\n%s", r.Log())
	case <-time.After(time.Minute):
		t.Fatalf("docker-registry does not listen:\n%s", r.Log())
	}
}

// Log is what the registry printed.
func (r *Registry) Log() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.String()
}

// Requests counts the requests the registry answered whose log line matches the
// expression.
func (r *Registry) Requests(expr string) int {
	return len(regexp.MustCompile(expr).FindAllString(r.Log(), -1))
}

func write(t testing.TB, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Certificate makes a certificate for an address that signs itself, and its key.
func Certificate(t testing.TB, address string) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, DNSNames: []string{"localhost"},
	}
	if ip := net.ParseIP(address); ip != nil {
		tmpl.IPAddresses = []net.IP{ip}
	} else {
		tmpl.DNSNames = append(tmpl.DNSNames, address)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}

// PutBlob uploads a blob past all clients of ours.
func (r *Registry) PutBlob(t testing.TB, repo string, mediaType string, b []byte) Descriptor {
	t.Helper()
	d := Describe(mediaType, b)
	h := r.do(t, http.MethodPost, "/v2/"+repo+"/blobs/uploads/", "", nil, http.StatusAccepted)
	loc := h.Get("Location")
	if strings.Contains(loc, "?") {
		loc += "&digest=" + d.Digest
	} else {
		loc += "?digest=" + d.Digest
	}
	r.do(t, http.MethodPut, strings.TrimPrefix(loc, "http://"+r.Host), "application/octet-stream", b, http.StatusCreated)
	return d
}

// PutManifest uploads a document under a tag.
func (r *Registry) PutManifest(t testing.TB, repo, tag, mediaType string, b []byte) Descriptor {
	t.Helper()
	r.do(t, http.MethodPut, "/v2/"+repo+"/manifests/"+tag, mediaType, b, http.StatusCreated)
	return Describe(mediaType, b)
}

func (r *Registry) do(t testing.TB, method, path, contentType string, body []byte, want int) http.Header {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+r.Host+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != want {
		t.Fatalf("%s %s: %s\n%s", method, path, resp.Status, text)
	}
	http.DefaultClient.CloseIdleConnections()
	return resp.Header
}
