package sdktest

import (
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"slices"
	"testing"
	"time"
)

type volumeObject struct {
	Name, Mountpoint string
	CreatedAt        *string
	Status           map[string]any
}

type args map[string]any

// token is 64 hex digits, as Docker makes them for mounts, containers and
// networks.
func token() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// podmanID is the mount ID that Podman sends for all volumes of all containers.
const podmanID = "2f73349cfc4630255319c6c8dfc1b46a8996ace9d14d8e07563b165915918ec2"

func (s *suite) volume(t *testing.T) {
	t.Run("as Docker", s.volumeDocker)
	t.Run("as Podman", s.volumePodman)
}

// volumeDocker follows a volume as dockerd does: looked for, created, mounted by
// two containers, one of them twice.
func (s *suite) volumeDocker(t *testing.T) {
	name := "sdktest-" + token()[:12]
	s.call(t, dockerHeader, "VolumeDriver.Get", args{"Name": name}).absent(t)
	s.call(t, dockerHeader, "VolumeDriver.Create", args{"Name": name, "Opts": s.VolumeOpts}).ok(t)
	s.call(t, dockerHeader, "VolumeDriver.Create", args{"Name": name, "Opts": s.VolumeOpts}).ok(t) // a repeated call
	s.sees(t, dockerHeader, args{}, name)
	if a := s.call(t, dockerHeader, "VolumeDriver.Capabilities", args{}); a.status != http.StatusNotFound {
		var c struct{ Capabilities struct{ Scope string } }
		a.into(t, &c)
		if c.Capabilities.Scope != "local" && c.Capabilities.Scope != "global" {
			t.Errorf("scope %q is neither local nor global", c.Capabilities.Scope)
		}
	}
	one, two := token(), token()
	path := s.mount(t, dockerHeader, name, one)
	if again := s.mount(t, dockerHeader, name, one); again != path {
		t.Errorf("mounted again at %q, before at %q", again, path)
	}
	if other := s.mount(t, dockerHeader, name, two); other != path {
		t.Errorf("mounted for another at %q, before at %q", other, path)
	}
	s.call(t, dockerHeader, "VolumeDriver.Unmount", args{"Name": name, "ID": one}).ok(t)
	var p struct{ Mountpoint string }
	s.call(t, dockerHeader, "VolumeDriver.Path", args{"Name": name}).into(t, &p)
	if p.Mountpoint != path {
		t.Errorf("Path is %q while it is mounted at %q", p.Mountpoint, path)
	}
	s.call(t, dockerHeader, "VolumeDriver.Unmount", args{"Name": name, "ID": two}).ok(t)
	s.call(t, dockerHeader, "VolumeDriver.Unmount", args{"Name": name, "ID": token()}).ok(t) // one it does not know
	s.call(t, dockerHeader, "VolumeDriver.Remove", args{"Name": name}).ok(t)
	s.call(t, dockerHeader, "VolumeDriver.Get", args{"Name": name}).absent(t)
	s.call(t, dockerHeader, "VolumeDriver.Mount", args{"Name": name, "ID": one}).refused(t)
	s.call(t, dockerHeader, "VolumeDriver.Remove", args{"Name": name}).refused(t)
}

// absent fails the test unless the answer to Get says that there is no volume.
func (a answer) absent(t *testing.T) {
	t.Helper()
	if a.status != http.StatusOK {
		a.refused(t)
		return
	}
	t.Errorf("Get of a volume that is not there succeeds: %s", a.body)
}

func (s *suite) mount(t *testing.T, h http.Header, name, id string) string {
	t.Helper()
	var m struct{ Mountpoint string }
	s.call(t, h, "VolumeDriver.Mount", args{"Name": name, "ID": id}).into(t, &m)
	if m.Mountpoint == "" || m.Mountpoint[0] != '/' {
		t.Fatalf("mounted at %q, which is no absolute path", m.Mountpoint)
	}
	return m.Mountpoint
}

// sees fails the test unless List and Get show the volume.
func (s *suite) sees(t *testing.T, h http.Header, listArgs any, name string) {
	t.Helper()
	var list struct{ Volumes []volumeObject }
	s.call(t, h, "VolumeDriver.List", listArgs).into(t, &list)
	if !slices.ContainsFunc(list.Volumes, func(v volumeObject) bool { return v.Name == name }) {
		t.Errorf("List does not have %s: %+v", name, list.Volumes)
	}
	var got struct{ Volume *volumeObject }
	s.call(t, h, "VolumeDriver.Get", args{"Name": name}).into(t, &got)
	if got.Volume == nil || got.Volume.Name != name {
		t.Fatalf("Get answers %+v", got.Volume)
	}
	// Docker rejects the whole answer if it cannot read the time.
	if c := got.Volume.CreatedAt; c != nil {
		if _, err := time.Parse(time.RFC3339Nano, *c); err != nil {
			t.Errorf("CreatedAt: %v; leave it out if it is unknown", err)
		}
	}
}

// volumePodman follows a volume as Podman does: no body for List, one mount ID
// for everything, never Capabilities, and only the status tells of failures.
func (s *suite) volumePodman(t *testing.T) {
	name := "sdktest-" + token()[:12]
	s.call(t, podmanHeader, "Plugin.Activate", nil).ok(t)
	s.call(t, podmanHeader, "VolumeDriver.Create", args{"Name": name, "Opts": s.VolumeOpts}).ok(t)
	s.sees(t, podmanHeader, nil, name)
	path := s.mount(t, podmanHeader, name, podmanID)
	var p struct{ Mountpoint string }
	s.call(t, podmanHeader, "VolumeDriver.Path", args{"Name": name}).into(t, &p)
	if p.Mountpoint != path {
		t.Errorf("Path is %q while it is mounted at %q", p.Mountpoint, path)
	}
	s.call(t, podmanHeader, "VolumeDriver.Unmount", args{"Name": name, "ID": podmanID}).ok(t)
	s.mount(t, podmanHeader, name, podmanID) // the next container
	s.call(t, podmanHeader, "VolumeDriver.Unmount", args{"Name": name, "ID": podmanID}).ok(t)
	s.call(t, podmanHeader, "VolumeDriver.Remove", args{"Name": name}).ok(t)
	for _, method := range []string{"VolumeDriver.Get", "VolumeDriver.Remove", "VolumeDriver.Path"} {
		s.call(t, podmanHeader, method, args{"Name": name}).refused(t)
	}
}
