package api

import (
	"net/http"
	"net/url"
	"time"
)

// Info is what a [SystemBackend] tells of the daemon and its host
// (docs/spec/engine-api.md §7.3). The rest of the Engine's object says that
// there are no containers, no images and no swarm, and is added here.
type Info struct {
	ID              string // of this daemon, the same after a restart
	Name            string // of the host
	ServerVersion   string
	KernelVersion   string
	OperatingSystem string
	Architecture    string // as uname tells it, for example x86_64
	NCPU            int
	MemTotal        int64 // bytes
	DataRoot        string
	CgroupDriver    string
	CgroupVersion   string // "1" or "2"
	LiveRestore     bool
	Debug           bool
	// Proxies may hold a user and password; they are masked.
	HTTPProxy, HTTPSProxy, NoProxy string
	Labels                         []string
	SecurityOptions                []string // each of the form name=x[,k=v]
	Warnings                       []string
	// What the daemon's process has of these now.
	Descriptors, Goroutines, EventListeners int
	// Plugins are the names of enabled managed plugins and of v1 plugins found.
	Plugins InfoPlugins
	// Runtime is the name of what runs plugins and RuntimePath its program;
	// empty stands for runc.
	Runtime, RuntimePath string
	RuntimeCommit        string
}

// InfoPlugins are names of plugins by what they do.
type InfoPlugins struct {
	Volume        []string
	Network       []string
	Authorization []string
	Log           []string
}

type commit struct {
	ID       string
	Expected *string `json:",omitempty"` // what older clients compare ID with
}

type indexConfig struct {
	Name             string
	Mirrors          []string
	Secure, Official bool
}

type runtimePath struct {
	Path string `json:"path"`
}

// infoAnswer is the wire form of docs/spec/engine-api.md §7.3.
type infoAnswer struct {
	ID                string
	Containers        int
	ContainersRunning int
	ContainersPaused  int
	ContainersStopped int
	Images            int
	Driver            string
	DriverStatus      [][2]string
	Plugins           InfoPlugins
	SystemTime        string
	LoggingDriver     string
	CgroupDriver      string
	CgroupVersion     string
	KernelVersion     string
	OperatingSystem   string
	OSType            string
	Architecture      string
	NCPU              int
	MemTotal          int64
	// IndexServerAddress is where clients log in by default.
	IndexServerAddress string
	RegistryConfig     struct {
		InsecureRegistryCIDRs []string
		IndexConfigs          map[string]indexConfig
		Mirrors               []string
	}
	DockerRootDir      string
	HTTPProxy          string `json:"HttpProxy"`
	HTTPSProxy         string `json:"HttpsProxy"`
	NoProxy            string
	Name               string
	Labels             []string
	ExperimentalBuild  bool
	ServerVersion      string
	Runtimes           map[string]runtimePath
	DefaultRuntime     string
	Swarm              struct{ LocalNodeState string }
	LiveRestoreEnabled bool
	Debug              bool
	NFd                int
	NGoroutines        int
	NEventsListener    int
	ContainerdCommit   commit
	RuncCommit         commit
	InitCommit         commit
	SecurityOptions    []string
	Warnings           []string
	hostAbilities
}

// hostAbilities are what Engine says that containers could be given. Clients up
// to 20.10 print a warning for each that is missing, about containers that
// there are none of here: so all are there.
type hostAbilities struct {
	MemoryLimit       bool
	SwapLimit         bool
	CPUCfsPeriod      bool `json:"CpuCfsPeriod"`
	CPUCfsQuota       bool `json:"CpuCfsQuota"`
	CPUShares         bool
	CPUSet            bool
	PidsLimit         bool
	OomKillDisable    bool
	IPv4Forwarding    bool
	BridgeNfIptables  bool
	BridgeNfIP6tables bool `json:"BridgeNfIp6tables"`
}

func (s *Server) info(w http.ResponseWriter, r *http.Request) error {
	in, err := s.cfg.System.Info(r.Context())
	if err != nil {
		return err
	}
	a := newInfoAnswer(in, time.Now())
	if a.ServerVersion == "" {
		a.ServerVersion = s.cfg.Version
	}
	if before(r, "1.49") {
		for _, c := range []*commit{&a.ContainerdCommit, &a.RuncCommit, &a.InitCommit} {
			c.Expected = &c.ID
		}
	}
	return writeJSON(w, http.StatusOK, a)
}

func newInfoAnswer(in Info, now time.Time) infoAnswer {
	a := infoAnswer{
		ID: in.ID, Name: in.Name, ServerVersion: in.ServerVersion,
		KernelVersion: in.KernelVersion, OperatingSystem: in.OperatingSystem, OSType: "linux", Architecture: in.Architecture,
		NCPU: in.NCPU, MemTotal: in.MemTotal, DockerRootDir: in.DataRoot,
		CgroupDriver: in.CgroupDriver, CgroupVersion: in.CgroupVersion,
		LiveRestoreEnabled: in.LiveRestore, Debug: in.Debug,
		NFd: in.Descriptors, NGoroutines: in.Goroutines, NEventsListener: in.EventListeners,
		HTTPProxy: maskUser(in.HTTPProxy), HTTPSProxy: maskUser(in.HTTPSProxy), NoProxy: in.NoProxy,
		Labels: list(in.Labels), SecurityOptions: list(in.SecurityOptions), Warnings: list(in.Warnings),
		Plugins: in.Plugins, DriverStatus: [][2]string{},
		SystemTime:         now.Format(time.RFC3339Nano),
		IndexServerAddress: "https://index.docker.io/v1/",
		RuncCommit:         commit{ID: in.RuntimeCommit},
	}
	a.hostAbilities = hostAbilities{
		MemoryLimit: true, SwapLimit: true, CPUCfsPeriod: true, CPUCfsQuota: true, CPUShares: true, CPUSet: true,
		PidsLimit: true, OomKillDisable: true, IPv4Forwarding: true, BridgeNfIptables: true, BridgeNfIP6tables: true,
	}
	a.RegistryConfig.InsecureRegistryCIDRs = []string{"::1/128", "127.0.0.0/8"}
	a.RegistryConfig.IndexConfigs = map[string]indexConfig{
		"docker.io": {Name: "docker.io", Mirrors: []string{}, Secure: true, Official: true},
	}
	a.RegistryConfig.Mirrors = []string{}
	// An empty state makes clients print a block about a swarm.
	a.Swarm.LocalNodeState = "inactive"
	a.DefaultRuntime = in.Runtime
	if a.DefaultRuntime == "" {
		a.DefaultRuntime = "runc"
	}
	path := in.RuntimePath
	if path == "" {
		path = a.DefaultRuntime
	}
	a.Runtimes = map[string]runtimePath{a.DefaultRuntime: {path}}
	return a
}

// list makes nil an empty list, for clients that expect one.
func list[T any](l []T) []T {
	if l == nil {
		return []T{}
	}
	return l
}

// maskUser hides the user and password of a proxy.
func maskUser(proxy string) string {
	u, err := url.Parse(proxy)
	if err != nil || u.User == nil {
		return proxy
	}
	u.User = url.UserPassword("xxxxx", "xxxxx")
	return u.String()
}
