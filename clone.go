package outlet

import (
	"maps"
	"slices"
)

// Clone returns a copy that shares nothing with c.
func (c Config) Clone() Config {
	c.Args = c.Args.Clone()
	c.Entrypoint = slices.Clone(c.Entrypoint)
	c.Env = cloneEach(c.Env)
	c.Interface.Types = slices.Clone(c.Interface.Types)
	c.Linux.Capabilities = slices.Clone(c.Linux.Capabilities)
	c.Linux.Devices = cloneEach(c.Linux.Devices)
	c.Mounts = cloneEach(c.Mounts)
	if c.Rootfs != nil {
		r := *c.Rootfs
		r.DiffIDs = slices.Clone(r.DiffIDs)
		c.Rootfs = &r
	}
	return c
}

// Clone returns a copy that shares nothing with a.
func (a Args) Clone() Args {
	a.Settable = slices.Clone(a.Settable)
	a.Value = slices.Clone(a.Value)
	return a
}

// Clone returns a copy that shares nothing with e.
func (e Env) Clone() Env {
	e.Settable = slices.Clone(e.Settable)
	e.Value = clonePointer(e.Value)
	return e
}

// Clone returns a copy that shares nothing with d.
func (d Device) Clone() Device {
	d.Path = clonePointer(d.Path)
	d.Settable = slices.Clone(d.Settable)
	return d
}

// Clone returns a copy that shares nothing with m.
func (m Mount) Clone() Mount {
	m.Options = slices.Clone(m.Options)
	m.Settable = slices.Clone(m.Settable)
	m.Source = clonePointer(m.Source)
	return m
}

// Clone returns a copy that shares nothing with s.
func (s Settings) Clone() Settings {
	s.Args = slices.Clone(s.Args)
	s.Devices = cloneEach(s.Devices)
	s.Env = slices.Clone(s.Env)
	s.Mounts = cloneEach(s.Mounts)
	return s
}

// Clone returns a copy that shares nothing with p.
func (p Plugin) Clone() Plugin {
	p.Config = p.Config.Clone()
	p.Settings = p.Settings.Clone()
	if p.Status != nil {
		s := p.Status.Clone()
		p.Status = &s
	}
	return p
}

// Clone returns a copy that shares nothing with s.
func (s Status) Clone() Status {
	s.StartedAt = clonePointer(s.StartedAt)
	s.NextStart = clonePointer(s.NextStart)
	s.LastExit = clonePointer(s.LastExit)
	s.Holders = slices.Clone(s.Holders)
	return s
}

// Clone returns a copy that shares nothing with v.
func (v Volume) Clone() Volume {
	v.Status = cloneObject(v.Status)
	v.Labels = maps.Clone(v.Labels)
	v.Options = maps.Clone(v.Options)
	if v.Outlet != nil {
		s := *v.Outlet
		s.Mounts = slices.Clone(s.Mounts)
		v.Outlet = &s
	}
	return v
}

// Clone returns a copy that shares nothing with m.
func (m Message) Clone() Message {
	m.Actor.Attributes = maps.Clone(m.Actor.Attributes)
	return m
}

// Clone returns a copy that shares nothing with p.
func (p Privileges) Clone() Privileges {
	p = slices.Clone(p)
	for i := range p {
		p[i].Value = slices.Clone(p[i].Value)
	}
	return p
}

func clonePointer[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}

func cloneEach[T interface{ Clone() T }](l []T) []T {
	l = slices.Clone(l)
	for i := range l {
		l[i] = l[i].Clone()
	}
	return l
}

// cloneObject copies a decoded JSON object.
func cloneObject(m map[string]any) map[string]any {
	m = maps.Clone(m)
	for k, v := range m {
		m[k] = cloneJSON(v)
	}
	return m
}

func cloneJSON(v any) any {
	switch v := v.(type) {
	case map[string]any:
		return cloneObject(v)
	case []any:
		l := slices.Clone(v)
		for i := range l {
			l[i] = cloneJSON(l[i])
		}
		return l
	default:
		return v
	}
}
