package sdk

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"github.com/outletd/outlet/plugins"
	"github.com/outletd/outlet/plugins/tlsconfig"
)

// Config says where a plugin is served. Only Name is needed.
type Config struct {
	// Name is the plugin's name, one component of a path.
	Name string
	// Address is where to listen: an absolute path or unix:///path for a socket,
	// tcp://host:port for TCP, with port 0 for a free one. Empty means the
	// socket Name.sock in SocketDir; so does a name without slashes, for that
	// name.
	//
	// A socket that the program was started with (LISTEN_FDS) comes before all
	// of that.
	Address string
	// GID is the group that may use the socket, beside its owner. Zero means
	// the group of root; other users than root cannot give it away.
	GID int
	// TLS serves TCP with TLS. It needs HostTLS.
	TLS *tls.Config
	// HostTLS says how hosts verify the plugin; it is written into the
	// definition that they find, with the paths as they see them. A Docker host
	// verifies only if there is a CAFile.
	HostTLS *tlsconfig.Options
	// SocketDir is where hosts look for sockets. Empty means
	// plugins.DefaultSocketDir.
	SocketDir string
	// SpecDir is where hosts look for definitions, which tell of TCP
	// addresses. Empty means the first of plugins.SpecsPaths.
	SpecDir string
	// Getenv is asked for LISTEN_FDS and LISTEN_PID. Nil means os.Getenv.
	Getenv func(string) string
}

func (c Config) withDefaults() (Config, error) {
	if !plugins.ValidName(c.Name) {
		return c, fmt.Errorf("sdk: %q cannot be the name of a plugin", c.Name)
	}
	if c.SocketDir == "" {
		c.SocketDir = plugins.DefaultSocketDir
	}
	if c.SpecDir == "" {
		c.SpecDir = plugins.SpecsPaths()[0]
	}
	if c.Getenv == nil {
		c.Getenv = os.Getenv
	}
	return c, nil
}

// target is where to listen: network and address.
func (c Config) target() (network, address string, err error) {
	a := c.Address
	switch {
	case a == "":
		return "unix", filepath.Join(c.SocketDir, c.Name+".sock"), nil
	case filepath.IsAbs(a):
		return "unix", a, nil
	case !strings.Contains(a, "://") && plugins.ValidName(strings.TrimSuffix(a, ".sock")):
		return "unix", filepath.Join(c.SocketDir, strings.TrimSuffix(a, ".sock")+".sock"), nil
	}
	u, err := url.Parse(a)
	if err != nil {
		return "", "", fmt.Errorf("sdk: %w", err)
	}
	switch {
	case u.Scheme == "unix" && u.Host == "" && filepath.IsAbs(u.Path):
		return "unix", u.Path, nil
	case u.Scheme == "npipe":
		return "", "", fmt.Errorf("sdk: serve %s: %w: use tcp://127.0.0.1:0", a, plugins.ErrUnsupportedPlatform)
	case u.Scheme == "tcp" && u.Port() != "" && u.Path == "":
		return "tcp", u.Host, nil
	}
	return "", "", fmt.Errorf("sdk: %q is no address: write a name, /path/to.sock or tcp://host:port", a)
}

// Listener is where a plugin is served, and how hosts find it. Close takes both
// away.
type Listener struct {
	net.Listener
	// Addr is the address as hosts have it, unix:// or tcp:// or https://.
	addr string
	// made are the files that Close removes.
	made []madeFile
}

// madeFile is a file of ours, as long as it is still the same.
type madeFile struct {
	path string
	info fs.FileInfo
}

// Listen listens where c says, and makes the plugin known. A socket that nobody
// serves any more is replaced, one that is served is an error.
func Listen(ctx context.Context, c Config) (*Listener, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	inherited, err := inherit(c.Getenv)
	if err != nil {
		return nil, err
	}
	if inherited != nil {
		a := inherited.Addr()
		return &Listener{Listener: inherited, addr: a.Network() + "://" + a.String()}, nil
	}
	network, address, err := c.target()
	if err != nil {
		return nil, err
	}
	if network == "unix" {
		if c.TLS != nil {
			return nil, errors.New("sdk: TLS is for TCP, not for sockets")
		}
		return c.listenSocket(ctx, address)
	}
	return c.listenTCP(ctx, address)
}

// HostAddr is the address as hosts have it: unix:///path, tcp://host:port or
// https://host:port.
func (l *Listener) HostAddr() string { return l.addr }

// Close stops listening and removes the socket and the definition, unless they
// are somebody else's by now.
func (l *Listener) Close() error {
	err := l.Listener.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	for _, m := range l.made {
		info, serr := os.Lstat(m.path)
		if serr == nil && os.SameFile(info, m.info) {
			if rerr := os.Remove(m.path); !errors.Is(rerr, fs.ErrNotExist) {
				err = errors.Join(err, rerr)
			}
		}
	}
	return err
}

func (l *Listener) keep(path string) error {
	info, err := os.Lstat(path)
	if err == nil {
		l.made = append(l.made, madeFile{path, info})
	}
	return err
}

func (c Config) listenSocket(ctx context.Context, path string) (*Listener, error) {
	if err := makeDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	nl, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if u, ok := nl.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // by Close, which looks whose it is
	}
	l := &Listener{Listener: nl, addr: "unix://" + filepath.ToSlash(path)}
	err = l.keep(path)
	if err == nil && runtime.GOOS != "windows" {
		// In between nobody but the owner could connect: the usual umask takes
		// the write permission away.
		if c.GID != 0 || os.Geteuid() == 0 {
			err = os.Chown(path, -1, c.GID)
		}
		err = errors.Join(err, os.Chmod(path, 0o660))
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// makeDir makes a directory that hosts can look into, whatever the umask is. One
// that is there is left as it is.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.Chmod(dir, 0o755)
}

// removeStale removes a socket that nobody serves.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("%s is there and is no socket", path)
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err == nil {
		conn.Close()
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil, errors.Is(err, syscall.EAGAIN): // or somebody is, but too busy to accept
		return fmt.Errorf("%s is served by another process", path)
	}
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (c Config) listenTCP(ctx context.Context, address string) (*Listener, error) {
	if (c.TLS == nil) != (c.HostTLS == nil) {
		return nil, errors.New("sdk: TLS and HostTLS go together: hosts have to know how to verify the plugin")
	}
	var lc net.ListenConfig
	nl, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	l := &Listener{Listener: nl, addr: "tcp://" + reachable(nl.Addr())}
	ext, content := ".spec", []byte(l.addr+"\n")
	if c.TLS != nil {
		// With tcp:// in it, Docker would talk plain HTTP to a TLS port.
		l.Listener = tls.NewListener(nl, c.TLS)
		l.addr = "https://" + reachable(nl.Addr())
		ext = ".json"
		content, err = json.MarshalIndent(struct {
			Name, Addr string
			TLSConfig  *tlsconfig.Options
		}{c.Name, l.addr, c.HostTLS}, "", "  ")
		content = append(content, '\n')
	}
	path := filepath.Join(c.SpecDir, c.Name+ext)
	if err == nil {
		err = writeDefinition(path, content)
	}
	if err == nil {
		err = l.keep(path)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// reachable is the address that a host on this machine connects to.
func reachable(a net.Addr) string {
	t, ok := a.(*net.TCPAddr)
	if !ok || !t.IP.IsUnspecified() {
		return a.String()
	}
	ip := "127.0.0.1"
	if t.IP.To4() == nil {
		ip = "::1"
	}
	return net.JoinHostPort(ip, fmt.Sprint(t.Port))
}

// writeDefinition makes a definition appear as a whole.
func writeDefinition(path string, content []byte) error {
	if err := makeDir(filepath.Dir(path)); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
