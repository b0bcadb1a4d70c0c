package store

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/outletd/outlet"
)

// Usage says what is on disk and which plugin has it. What changes meanwhile may
// be counted or not.
func (s *Store) Usage(ctx context.Context) (outlet.DiskUsage, error) {
	c := usage{Store: s, blobs: map[string]int64{}, layers: map[string]int64{}, parents: map[string]string{}}
	ctx = s.Context(ctx)
	for _, count := range []func(context.Context) error{c.countBlobs, c.countLayers, c.countHeld, c.countDownloads, c.countPlugins} {
		if err := count(ctx); err != nil {
			return outlet.DiskUsage{}, err
		}
	}
	return c.result, nil
}

// usage is the state of one Usage.
type usage struct {
	*Store
	result  outlet.DiskUsage
	blobs   map[string]int64 // by digest
	layers  map[string]int64 // by the key of a committed snapshot
	parents map[string]string
}

func (c *usage) countBlobs(ctx context.Context) error {
	err := c.Content().Walk(ctx, func(info content.Info) error {
		c.blobs[info.Digest.String()] = info.Size
		c.result.Blobs.Count++
		c.result.Blobs.Bytes += info.Size
		return nil
	})
	return ignoreNotFound(err) // nothing was ever stored
}

func (c *usage) countLayers(ctx context.Context) error {
	var committed []string
	err := c.snapshots().Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		c.parents[info.Name] = info.Parent
		if info.Kind == snapshots.KindCommitted {
			committed = append(committed, info.Name)
		}
		return nil
	})
	if err != nil {
		return ignoreNotFound(err)
	}
	for _, key := range committed {
		u, err := c.snapshots().Usage(ctx, key) // written down when it was committed
		if errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return err
		}
		c.layers[key] = u.Size
		c.result.Layers.Count++
		c.result.Layers.Bytes += u.Size
	}
	return nil
}

// countHeld finds what no lease holds.
func (c *usage) countHeld(ctx context.Context) error {
	held := map[leases.Resource]bool{}
	all, err := c.leases.List(ctx)
	if err != nil {
		return err
	}
	for _, l := range all {
		res, err := c.leases.ListResources(ctx, l)
		if errdefs.IsNotFound(err) {
			continue // ended meanwhile
		}
		if err != nil {
			return err
		}
		c.mark(held, res)
	}
	for d, size := range c.blobs {
		if !held[leases.Resource{ID: d, Type: "content"}] {
			c.result.Blobs.Reclaimable += size
		}
	}
	for key, size := range c.layers {
		if !held[c.layer(key)] {
			c.result.Layers.Reclaimable += size
		}
	}
	return nil
}

func (c *usage) layer(key string) leases.Resource {
	return leases.Resource{ID: key, Type: "snapshots/" + c.snap}
}

// mark adds resources and the layers below them.
func (c *usage) mark(held map[leases.Resource]bool, res []leases.Resource) {
	for _, r := range res {
		held[r] = true
		if r.Type == "content" {
			continue
		}
		for key := c.parents[r.ID]; key != ""; key = c.parents[key] {
			held[c.layer(key)] = true
		}
	}
}

func (c *usage) countDownloads(ctx context.Context) error {
	all, err := c.Content().ListStatuses(ctx)
	if err != nil {
		return ignoreNotFound(err)
	}
	for _, st := range all {
		if _, idle := c.interrupted(st.Ref); !idle {
			continue
		}
		c.result.Downloads.Count++
		c.result.Downloads.Bytes += st.Offset
		c.result.Downloads.Reclaimable += st.Offset
	}
	return nil
}

// countPlugins says for each plugin what it shares with others.
func (c *usage) countPlugins(ctx context.Context) error {
	records, _, err := c.Records(ctx)
	if err != nil {
		return err
	}
	users := map[leases.Resource]int{}
	held := make([]map[leases.Resource]bool, len(records))
	for i, r := range records {
		held[i] = map[leases.Resource]bool{}
		c.mark(held[i], c.resources(&r))
		for res := range held[i] {
			users[res]++
		}
	}
	for i, r := range records {
		u := outlet.PluginUsage{ID: r.ID, Name: r.Name}
		for res := range held[i] {
			size := c.layers[res.ID]
			if res.Type == "content" {
				size = c.blobs[res.ID]
			}
			if users[res] > 1 {
				u.Shared += size
			} else {
				u.Unique += size
			}
		}
		if u.Written, err = c.written(ctx, r); err != nil {
			return err
		}
		c.result.Plugins = append(c.result.Plugins, u)
	}
	slices.SortFunc(c.result.Plugins, func(a, b outlet.PluginUsage) int { return cmp.Compare(a.Name, b.Name) })
	return nil
}

// written is what a plugin has beside its layers.
func (c *usage) written(ctx context.Context, r Record) (int64, error) {
	dirs := []string{c.PluginDir(r.ID)}
	for _, v := range r.withPrevious() {
		mounts, err := c.RootfsMounts(ctx, v.Rootfs)
		if err != nil {
			return 0, ignoreNotFound(err)
		}
		dirs = append(dirs, upperDirs(mounts)...)
	}
	var total int64
	for _, dir := range dirs {
		n, err := diskUsage(ctx, dir)
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

// diskUsage is what is below a directory on its own file system. What is mounted
// there is not even looked at: it may be a server that answers no more.
func diskUsage(ctx context.Context, dir string) (int64, error) {
	infos, err := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	if err != nil {
		return 0, err
	}
	mounted := make(map[string]bool, len(infos))
	for _, m := range infos {
		if m.Mountpoint != dir {
			mounted[m.Mountpoint] = true
		}
	}
	var total int64
	links := map[uint64]bool{}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err != nil {
			return ignoreGone(err) // a plugin may be removing it
		}
		if mounted[path] {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return ignoreGone(err)
		}
		if st.Nlink > 1 && !d.IsDir() {
			if links[st.Ino] {
				return nil
			}
			links[st.Ino] = true
		}
		total += st.Blocks * 512
		return nil
	})
	return total, ignoreGone(err)
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func ignoreNotFound(err error) error {
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}
