package outlet

import "time"

// Plugin is a managed plugin as the Engine API shows it, and beside Docker's
// fields what Outlet observes of it.
type Plugin struct {
	Config  Config
	Enabled bool
	ID      string `json:"Id,omitempty"`
	Name    string
	// PluginReference is where the plugin came from: the full remote
	// reference if it was pulled, its own name if it was created here.
	PluginReference string `json:",omitempty"`
	Settings        Settings
	// Status is Outlet's own; Docker's clients ignore it.
	Status *Status `json:",omitempty"`
}

// State is what a plugin is observed to be doing. What its user wants is
// [Plugin.Enabled].
type State string

// The states of a plugin. The transitions between them are in package manager.
const (
	StateDisabled State = "disabled" // not running, and not meant to
	StateStarting State = "starting" // its process was or is being started, its socket does not accept yet
	StateRunning  State = "running"  // its socket accepts
	StateBackoff  State = "backoff"  // it ended or did not start; it is started again at Status.NextStart
	StateStopping State = "stopping" // it was told to end
	StateFailed   State = "failed"   // no retry mends it: Status.Error says what does
	StateRemoving State = "removing" // it is being removed
)

// Status is what Outlet observes of a plugin.
type Status struct {
	State State
	// Since is when State was entered.
	Since time.Time
	// PID is the plugin's main process on the host, 0 when there is none.
	PID int `json:",omitempty"`
	// StartedAt is when the process of PID was started.
	StartedAt *time.Time `json:",omitempty"`
	// Restarts counts how often the plugin was started again by itself since
	// its user enabled it.
	Restarts int
	// NextStart is when a plugin in backoff is started again.
	NextStart *time.Time `json:",omitempty"`
	// LastExit is how the plugin's process last ended.
	LastExit *Exit `json:",omitempty"`
	// Error says why the plugin is not running though it should be.
	Error string `json:",omitempty"`
	// UpgradeUndone says why the last upgrade was undone: the new version did
	// not become ready. It is "" again once the plugin is enabled, disabled or
	// upgraded.
	UpgradeUndone string `json:",omitempty"`
	// Socket is the host path of the plugin's socket.
	Socket string `json:",omitempty"`
	// Holders are those who use the plugin and keep it from being disabled or
	// removed without force. They go on to hold one that is disabled by force.
	Holders []Holder
}

// Exit is how a process ended.
type Exit struct {
	// Code is the exit status, or 128 + Signal. -1 when it is not known.
	Code int
	// Signal is the number of the signal that ended the process, or 0.
	Signal int `json:",omitempty"`
	// OOMKilled says that the kernel ended it for want of memory.
	OOMKilled bool `json:",omitempty"`
	// At is when the process ended, or when that was noticed.
	At time.Time
}

// Holder is a user of a plugin. Kind and Name together identify it.
type Holder struct {
	Kind  string // "volume", "client", "gateway", …
	Name  string
	Since time.Time
}
