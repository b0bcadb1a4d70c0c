package cli

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// packer writes a plugin's data directory as a tar: config.json, then rootfs.
// Files are sent as they are: their modes, owners, links, devices, and those of
// their extended attributes that mean something elsewhere.
type packer struct {
	dir  string
	warn func(text string)

	links map[fileID]string // names of files that have several, once written
}

// fileID is one file behind several names.
type fileID struct{ device, inode uint64 }

// size is about how long the tar will be, for the progress bar.
func (p *packer) size() (int64, error) {
	var n int64
	seen := make(map[fileID]bool)
	err := p.walk(func(_, _ string, info fs.FileInfo) error {
		n += 512
		if !info.Mode().IsRegular() {
			return nil
		}
		if id, several := linkOf(info); several {
			if seen[id] {
				return nil
			}
			seen[id] = true
		}
		n += (info.Size() + 511) &^ 511
		return nil
	})
	return n, err
}

// pack writes the tar.
func (p *packer) pack(w io.Writer) error {
	p.links = make(map[fileID]string)
	tw := tar.NewWriter(w)
	if err := p.walk(func(name, path string, info fs.FileInfo) error {
		if err := p.add(tw, name, path, info); err != nil {
			return fmt.Errorf("pack %s: %w", path, err)
		}
		return nil
	}); err != nil {
		return err
	}
	return tw.Close()
}

// walk calls each with everything that belongs into the tar, by name. The two
// top entries may be symbolic links to what is meant.
func (p *packer) walk(each func(name, path string, info fs.FileInfo) error) error {
	config := filepath.Join(p.dir, "config.json")
	info, err := os.Stat(config)
	if err != nil {
		return err
	}
	if err := each("config.json", config, info); err != nil {
		return err
	}
	root, err := filepath.EvalSymlinks(filepath.Join(p.dir, "rootfs"))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s holds no directory rootfs: it becomes the plugin's root filesystem", p.dir)
	}
	if err != nil {
		return err
	}
	if st, err := os.Stat(root); err != nil || !st.IsDir() {
		return errors.Join(err, fmt.Errorf("%s is not a directory", filepath.Join(p.dir, "rootfs")))
	}
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name := "rootfs"
		if rel != "." {
			name += "/" + filepath.ToSlash(rel)
		}
		return each(name, path, info)
	})
}

func (p *packer) add(tw *tar.Writer, name, path string, info fs.FileInfo) error {
	if info.Mode()&fs.ModeSocket != 0 {
		p.warn(fmt.Sprintf("%s is a socket and is left out", path))
		return nil
	}
	target := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		var err error
		if target, err = os.Readlink(path); err != nil {
			return err
		}
	}
	h, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return err
	}
	h.Name = name
	if info.IsDir() {
		h.Name += "/"
	}
	h.Uname, h.Gname = "", "" // names of this machine mean nothing in the plugin
	h.Format = tar.FormatPAX  // for long names, large files and fractions of a second
	if id, several := linkOf(info); several && info.Mode().IsRegular() {
		if first, ok := p.links[id]; ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
			return tw.WriteHeader(h)
		}
		p.links[id] = name
	}
	if h.PAXRecords, err = attributes(path, info); err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return tw.WriteHeader(h)
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() // only read from
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	if n, err := io.CopyN(tw, f, h.Size); errors.Is(err, io.EOF) {
		return fmt.Errorf("the file shrank from %d to %d bytes while it was read", h.Size, n)
	} else if err != nil {
		return err
	}
	return nil
}
