package outlet

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// Capability is a plugin type of the form prefix.capability/version, for
// example docker.volumedriver/1.0. Its JSON form is that string.
type Capability struct {
	Prefix     string
	Capability string
	Version    string
}

// ParseCapability splits s as docs/spec/managed-plugins.md §2.3 says: at the
// first slash, and before it at the last dot. Every string is a capability,
// though one without the middle part is of no use: see [Capability.Check].
func ParseCapability(s string) Capability {
	var c Capability
	name, version, _ := strings.Cut(s, "/")
	c.Version = version
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		c.Prefix, name = name[:i], name[i+1:]
	}
	c.Capability = name
	return c
}

// Check says why c has no string that parses as c again. It is
// errdefs.ErrInvalidArgument.
func (c Capability) Check() error {
	switch {
	case strings.Contains(c.Capability, "."):
		return Errorf(errdefs.ErrInvalidArgument, "capability %q cannot contain a dot", c.Capability)
	case strings.Contains(c.Prefix, "/"):
		return Errorf(errdefs.ErrInvalidArgument, "prefix %q cannot contain a slash", c.Prefix)
	case strings.Contains(c.Capability, "/"):
		return Errorf(errdefs.ErrInvalidArgument, "capability %q cannot contain a slash", c.Capability)
	}
	return nil
}

// String returns prefix.capability/version. A part that is empty is left out
// together with what separates it.
func (c Capability) String() string {
	s := c.Capability
	if c.Prefix != "" {
		s = c.Prefix + "." + s
	}
	if c.Version != "" {
		s += "/" + c.Version
	}
	return s
}

// MarshalJSON returns the string of c as JSON. What [Capability.Check] refuses
// is an error.
func (c Capability) MarshalJSON() ([]byte, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	return json.Marshal(c.String())
}

// UnmarshalJSON reads a capability from a JSON string. Everything else, null
// too, is errdefs.ErrInvalidArgument.
func (c *Capability) UnmarshalJSON(data []byte) error {
	var s *string
	if err := json.Unmarshal(data, &s); err != nil || s == nil {
		return Errorf(errdefs.ErrInvalidArgument, "a plugin type must be a string such as \"docker.volumedriver/1.0\", not %.40s", data)
	}
	*c = ParseCapability(*s)
	return nil
}

// Matches says whether a plugin of type c is one that a consumer means by
// capability, for example "VolumeDriver": the prefix is docker, and the words
// are equal without regard to case. The version does not count.
func (c Capability) Matches(capability string) bool {
	return c.Prefix == "docker" && c.Capability == strings.ToLower(capability)
}

// Major is the number before the first dot of the version, and 0 if there is
// none. What the host does for plugins of a capability by itself it does for
// those of major version 1.
func (c Capability) Major() int {
	major, _, _ := strings.Cut(c.Version, ".")
	n, err := strconv.ParseUint(major, 10, 31)
	if err != nil {
		return 0
	}
	return int(n)
}
