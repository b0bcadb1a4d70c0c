package daemon

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/durable"
)

// host is an address the daemon listens on.
type hostAddr struct {
	network string // "unix" or "tcp"
	address string
}

const defaultTLSPort = "2376"

// parseHost reads unix:///path or tcp://host:port. TCP without verified client
// certificates is refused: whoever reaches the API is root on this host.
func parseHost(s string, tlsVerify bool) (hostAddr, error) {
	u, err := url.Parse(s)
	if err != nil {
		return hostAddr{}, invalid("hosts: %q: %v", s, err)
	}
	switch u.Scheme {
	case "unix":
		if u.Host != "" || !filepath.IsAbs(u.Path) {
			return hostAddr{}, invalid("hosts: %q: a unix socket is written with three slashes and an absolute path, as unix:///run/outlet/outlet.sock", s)
		}
		if len(u.Path) > maxSocketPath {
			return hostAddr{}, invalid("hosts: %q: the path of a socket has at most %d bytes, this has %d", s, maxSocketPath, len(u.Path))
		}
		return hostAddr{"unix", u.Path}, nil
	case "tcp":
		if !tlsVerify {
			return hostAddr{}, invalid("hosts: %q: TCP needs --tlsverify with --tlscacert, --tlscert and --tlskey: whoever reaches the API is root on this host", s)
		}
		name, port := u.Hostname(), u.Port()
		if port == "" {
			port = defaultTLSPort
		}
		if name == "" {
			return hostAddr{}, invalid("hosts: %q: the address to listen on is missing, as in tcp://127.0.0.1:%s", s, port)
		}
		return hostAddr{"tcp", net.JoinHostPort(name, port)}, nil
	default:
		return hostAddr{}, invalid("hosts: %q: must begin with unix:// or tcp://", s)
	}
}

// maxSocketPath is what fits the kernel's struct sockaddr_un with its NUL.
const maxSocketPath = 107

// listen opens a listener. A unix socket that nobody serves any more is
// replaced; one that somebody serves is errdefs.ErrUnavailable.
func listen(ctx context.Context, h hostAddr, group string, tlsConf *tls.Config) (net.Listener, error) {
	if h.network == "tcp" {
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", h.address)
		if err != nil {
			return nil, fmt.Errorf("listen on tcp://%s: %w", h.address, err)
		}
		return tls.NewListener(l, tlsConf), nil
	}
	if err := removeStale(ctx, h.address); err != nil {
		return nil, err
	}
	if err := durable.MkdirAll(filepath.Dir(h.address), 0o755); err != nil { // searchable: its users are a group
		return nil, fmt.Errorf("listen on unix://%s: %w", h.address, err)
	}
	l, err := bindClosed(ctx, h.address)
	if err != nil {
		return nil, fmt.Errorf("listen on unix://%s: %w", h.address, err)
	}
	if err := giveSocket(h.address, group); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// bindClosed makes a socket that nobody may connect to until its mode is set.
// The umask would do it too, but is that of the whole process, and plugins that
// start meanwhile would inherit it.
func bindClosed(ctx context.Context, path string) (net.Listener, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var cerr error
		if err := c.Control(func(fd uintptr) { cerr = syscall.Fchmod(int(fd), 0) }); err != nil {
			return err
		}
		return cerr
	}}
	return lc.Listen(ctx, "unix", path)
}

func removeStale(ctx context.Context, path string) error {
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("listen on unix://%s: %w", path, err)
	}
	if st.Mode().Type() != fs.ModeSocket {
		return outlet.Errorf(errdefs.ErrConflict, "listen on unix://%s: there is a file of another kind, which is not removed", path)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var d net.Dialer
	if c, err := d.DialContext(ctx, "unix", path); err == nil {
		_ = c.Close() // only knocked
		return outlet.Errorf(errdefs.ErrUnavailable, "listen on unix://%s: another process serves this socket", path)
	} else if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("listen on unix://%s: is it in use? %w", path, err)
	}
	if err := durable.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("listen on unix://%s: remove the stale socket: %w", path, err)
	}
	return nil
}

// defaultGroup may use the socket where it exists and no other was asked for.
const defaultGroup = "outlet"

// giveSocket makes the socket usable for its owner and the group, 0660.
func giveSocket(path, group string) error {
	if group == "" && os.Geteuid() == 0 {
		if _, err := user.LookupGroup(defaultGroup); err == nil {
			group = defaultGroup
		}
	}
	if group != "" {
		gid, err := strconv.Atoi(group)
		if err != nil {
			g, lerr := user.LookupGroup(group)
			if lerr != nil {
				return invalid("group: %v", lerr)
			}
			if gid, err = strconv.Atoi(g.Gid); err != nil {
				return invalid("group: %q has no numeric id", group)
			}
		}
		if err := durable.Chown(path, -1, gid); err != nil {
			return fmt.Errorf("give the socket to group %s: %w", group, err)
		}
	}
	if err := durable.Chmod(path, 0o660); err != nil {
		return fmt.Errorf("set the mode of the socket: %w", err)
	}
	return nil
}

// tlsConfig is for TCP listeners: the client must show a certificate that the
// CA signed.
func (c Config) tlsConfig() (*tls.Config, error) {
	if !c.TLSVerify {
		return nil, nil
	}
	var missing []string
	for key, v := range map[string]string{"tlscacert": c.TLSCACert, "tlscert": c.TLSCert, "tlskey": c.TLSKey} {
		if v == "" {
			missing = append(missing, key)
		}
	}
	if len(missing) > 0 {
		return nil, invalid("tlsverify needs %s", strings.Join(missing, ", "))
	}
	pem, err := os.ReadFile(c.TLSCACert)
	if err != nil {
		return nil, fmt.Errorf("tlscacert: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, invalid("tlscacert: %s holds no PEM certificate", c.TLSCACert)
	}
	cert, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
	if err != nil {
		return nil, invalid("tlscert, tlskey: %v", err)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{cert},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    pool,
		MinVersion:   tls.VersionTLS12,
	}, nil
}
