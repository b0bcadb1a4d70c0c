package manager

import (
	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/scopedpath"
)

// Scope translates the plugin's paths to paths of the host.
func (r Ref) Scope() scopedpath.Scope { p, _ := r.u.look(); return r.u.scope(p) }

// scope translates paths in the plugin to paths of the host.
func (u *unit) scope(p outlet.Plugin) scopedpath.Scope {
	s := scopedpath.Scope{Root: u.paths.rootfs}
	if !u.m.rtInfo.Mounts {
		u.mu.Lock()
		key := u.rootfsKey
		u.mu.Unlock()
		dir, err := u.m.store.RootfsDir(u.m.ctx, key)
		if err != nil { // nothing can be translated then
			u.log.Warn("find the root filesystem", "err", err)
		}
		s.Root = dir
	}
	if p.Config.PropagatedMount != "" {
		s.PropagatedMount, s.PropagatedDir = p.Config.PropagatedMount, u.paths.propagated
	}
	for _, mnt := range p.Settings.Mounts {
		if mnt.IsBind() && !mnt.NotSet() {
			s.Binds = append(s.Binds, scopedpath.Bind{Destination: mnt.Destination, Source: *mnt.Source})
		}
	}
	return s
}
