package sdk_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/outletd/outlet/internal/testutil"
	"github.com/outletd/outlet/plugins"
	"github.com/outletd/outlet/plugins/tlsconfig"
	"github.com/outletd/outlet/sdk"
)

// hostOf looks for plugins where the test's plugins make themselves known.
func hostOf(t *testing.T, dir string) *plugins.Registry {
	t.Helper()
	r, err := plugins.New(plugins.Config{SocketDir: filepath.Join(dir, "s"), SpecDirs: []string{filepath.Join(dir, "e")}, RetryBudget: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func TestHostsFindWhatIsServed(t *testing.T) {
	for _, tt := range []struct {
		name   string
		config func(t *testing.T, o *sdk.Options)
		origin string // below the directory
		prefix string
	}{
		{"on a socket", func(*testing.T, *sdk.Options) {}, "s/p.sock", "unix:///"},
		{"on TCP", func(_ *testing.T, o *sdk.Options) { o.Address = "tcp://127.0.0.1:0" }, "e/p.spec", "tcp://127.0.0.1:"},
		{"on all addresses", func(_ *testing.T, o *sdk.Options) { o.Address = "tcp://0.0.0.0:0" }, "e/p.spec", "tcp://"},
		{"with TLS", withTLS, "e/p.json", "https://127.0.0.1:"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := testutil.TempDir(t)
			o := inDir(dir)
			tt.config(t, &o)
			r := start(t, sdk.Plugin{Volume: new(volumes)}, o)
			p, err := hostOf(t, dir).Get(t.Context(), "p", "VolumeDriver")
			if err != nil {
				t.Fatal(err)
			}
			if p.Origin() != filepath.Join(dir, tt.origin) || !strings.HasPrefix(p.Addr, tt.prefix) || p.Addr != r.addr {
				t.Errorf("found as %s by %s, served at %s", p.Addr, p.Origin(), r.addr)
			}
			info, err := os.Stat(p.Origin())
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(tt.origin, "e/") && info.Mode().Perm() != 0o644 {
				t.Errorf("the definition has mode %o", info.Mode().Perm())
			}
			if err := r.end(); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(filepath.Join(dir, tt.origin)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s is left", tt.origin)
			}
		})
	}
}

func TestTLSNeedsToBeKnownToHosts(t *testing.T) {
	o := inDir(testutil.TempDir(t))
	withTLS(t, &o)
	o.HostTLS = nil
	if err := sdk.Serve(t.Context(), sdk.Plugin{Volume: new(volumes)}, o); err == nil {
		t.Error("TLS without HostTLS is accepted: hosts would not verify the plugin")
	}
	withTLS(t, &o)
	o.Address = ""
	if err := sdk.Serve(t.Context(), sdk.Plugin{Volume: new(volumes)}, o); err == nil {
		t.Error("TLS on a socket is accepted")
	}
}

// withTLS serves with a certificate of its own, which is all that hosts trust.
func withTLS(t *testing.T, o *sdk.Options) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "p"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	o.Address = "tcp://127.0.0.1:0"
	o.TLS = tlsconfig.ServerDefault(func(c *tls.Config) {
		c.Certificates = []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}
	})
	o.HostTLS = &tlsconfig.Options{CAFile: ca, ExclusiveRootPools: true}
}

// mainProgram is this test's own program as a plugin.
func mainProgram(env ...string) *exec.Cmd {
	// The shell becomes the program, so that LISTEN_PID is its id.
	cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0"`, os.Args[0])
	cmd.Env = append(os.Environ(), append(env, "SDK_TEST_MAIN=1")...)
	return cmd
}

func TestInheritedSocket(t *testing.T) {
	dir := testutil.TempDir(t)
	path := filepath.Join(dir, "given.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var log strings.Builder
	cmd := mainProgram("LISTEN_FDS=1")
	cmd.ExtraFiles, cmd.Stderr = []*os.File{f}, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	status, answer := post(t, "unix://"+path, "Plugin.Activate", "") // the socket waits for the program
	if status != 200 || answer != `{"Implements":["VolumeDriver"]}` {
		t.Errorf("%d %s", status, answer)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v\n%s", err, log.String())
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the socket belongs to whoever made it: %v", err)
	}
}

func TestTwoInheritedSocketsAreTooMany(t *testing.T) {
	cmd := mainProgram("LISTEN_FDS=2")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "the plugin was given 2 sockets and serves one") {
		t.Errorf("%v: %s", err, out)
	}
}
