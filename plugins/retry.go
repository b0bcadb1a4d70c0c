package plugins

import (
	"strings"
	"time"
)

const (
	// DefaultRetryBudget bounds the time in which attempts are repeated: with
	// attempts that fail at once there are five, after 0, 1, 3, 7 and 15
	// seconds.
	DefaultRetryBudget = 30 * time.Second
	// maxRetryDelay is the longest time between two attempts.
	maxRetryDelay = 30 * time.Second
)

// schedule says when to try again (docs/spec/v1-plugins.md §4.2).
type schedule struct {
	start  time.Time
	budget time.Duration
	tries  int
}

// next returns the time to wait before the next attempt, and false if there is
// none.
func (s *schedule) next() (time.Duration, bool) {
	if s.budget <= 0 {
		return 0, false
	}
	delay := maxRetryDelay
	if s.tries < 5 {
		delay = time.Second << s.tries
	}
	if time.Since(s.start)+delay >= s.budget {
		return 0, false
	}
	s.tries++
	return delay, true
}

// Replayable says whether a method of Docker's plugin protocols can be sent
// again although the plugin may have got it before: the methods marked so in
// docs/spec/capabilities.md, and Plugin.Activate. A query behind the method is
// not looked at. Methods it does not know are not replayable.
func Replayable(method string) bool {
	method = strings.TrimPrefix(method, "/")
	if i := strings.IndexByte(method, '?'); i >= 0 {
		method = method[:i]
	}
	switch method {
	case "Plugin.Activate",
		"VolumeDriver.Get", "VolumeDriver.List", "VolumeDriver.Path", "VolumeDriver.Capabilities",
		"NetworkDriver.GetCapabilities", "NetworkDriver.GwAllocCheck", "NetworkDriver.EndpointOperInfo",
		"NetworkDriver.DiscoverNew", "NetworkDriver.DiscoverDelete",
		"IpamDriver.GetCapabilities", "IpamDriver.GetDefaultAddressSpaces",
		"AuthZPlugin.AuthZReq", "AuthZPlugin.AuthZRes",
		"LogDriver.Capabilities", "LogDriver.ReadLogs",
		"MetricsCollector.StartMetrics", "MetricsCollector.StopMetrics":
		return true
	}
	return false
}
