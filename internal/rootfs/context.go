package rootfs

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"path"
	"strings"
)

// CreateContext is what a create context held beside its root filesystem.
type CreateContext struct {
	// Config is config.json, the last one.
	Config   []byte
	Warnings []string
	// Entries and Bytes count what of the archive went into the layer.
	Entries, Bytes int64
}

// SplitContext reads a create context from r, a tar that is plain, gzip or
// zstd, to its end. What is below rootfs/ is applied to the empty directory dir
// and written to layer as an uncompressed layer, entry by entry, in one pass;
// all else but config.json is passed over. Names are cleaned, one leading "/"
// dropped (docs/spec/managed-plugins.md §7.5).
//
// On failure dir and layer hold a part of it.
func SplitContext(ctx context.Context, r io.Reader, dir string, layer io.Writer, limits Limits) (_ CreateContext, err error) {
	limits = limits.WithDefaults()
	archive, err := unpack(ctx, r, limits)
	if err != nil {
		return CreateContext{}, readFailed(err)
	}
	defer func() { err = errors.Join(err, archive.Close()) }()
	a, err := newApplier(dir, false)
	if err != nil {
		return CreateContext{}, err
	}
	defer func() { err = errors.Join(err, a.close()) }()

	s := splitter{
		applier: a,
		budget:  budget{limits: limits},
		in:      tar.NewReader(archive),
		out:     tar.NewWriter(layer),
	}
	for {
		if err := ctx.Err(); err != nil {
			return CreateContext{}, err
		}
		more, err := s.next()
		if err != nil {
			return CreateContext{}, err
		}
		if !more {
			break
		}
	}
	// The rest holds nothing, but the check sum of a packed archive is there.
	if _, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{archive}, a.buf); err != nil {
		return CreateContext{}, readFailed(err)
	}
	return s.finish()
}

// splitter is the state of SplitContext.
type splitter struct {
	applier *applier
	budget  budget
	in      *tar.Reader
	out     *tar.Writer

	rootfs bool
	config []byte
	result CreateContext
}

// next handles one entry; false is the end of the archive.
func (s *splitter) next() (bool, error) {
	hdr, err := s.in.Next()
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	if err != nil {
		return false, readFailed(err)
	}
	if err := s.budget.take(hdr); err != nil {
		return false, readFailed(err)
	}
	if !normalize(hdr) {
		return true, nil
	}
	name := strings.TrimPrefix(path.Clean(hdr.Name), "/")
	switch {
	case name == "config.json":
		return true, s.readConfig(hdr)
	case name == "rootfs":
		s.rootfs = true
	case strings.HasPrefix(name, "rootfs/"):
		s.rootfs = true
		return true, s.add(hdr, strings.TrimPrefix(name, "rootfs/"))
	}
	return true, nil
}

func (s *splitter) readConfig(hdr *tar.Header) error {
	if hdr.Typeflag != tar.TypeReg {
		return invalidf("failed to read from tar: config.json is not a regular file")
	}
	limit := int64(s.budget.limits.ConfigBytes)
	if hdr.Size > limit {
		return readFailed(exceeded("bytes in config.json", limit))
	}
	b, err := io.ReadAll(s.in)
	if err != nil {
		return readFailed(err)
	}
	s.config = b
	return nil
}

// add puts an entry of the root filesystem into both the layer and the
// directory.
func (s *splitter) add(hdr *tar.Header, name string) error {
	h, err := layerHeader(hdr, name)
	if err != nil {
		return err
	}
	if err := s.out.WriteHeader(h); err != nil {
		// A header that tar cannot encode leaves the writer usable; all else
		// comes from below it.
		if s.out.Flush() == nil {
			return readFailed(err)
		}
		return err
	}
	if err := s.applier.entry(h, s.in, s.out); err != nil {
		return entryFailed(err)
	}
	s.result.Entries++
	s.result.Bytes += h.Size
	return nil
}

func (s *splitter) finish() (CreateContext, error) {
	if !s.rootfs {
		return CreateContext{}, invalidf("no rootfs found: %w", io.EOF)
	}
	if s.config == nil {
		return CreateContext{}, invalidf("config not found")
	}
	if err := s.out.Close(); err != nil {
		return CreateContext{}, err
	}
	s.result.Config = s.config
	s.result.Warnings = s.applier.warnings()
	return s.result, nil
}

// layerHeader is the header of an entry as the layer has it: below the root,
// and with nothing in it that a layer has no use for.
func layerHeader(in *tar.Header, name string) (*tar.Header, error) {
	h := &tar.Header{
		Typeflag: in.Typeflag,
		Name:     name,
		Linkname: in.Linkname,
		Size:     in.Size,
		Mode:     in.Mode & 0o7777,
		Uid:      in.Uid,
		Gid:      in.Gid,
		Uname:    in.Uname,
		Gname:    in.Gname,
		ModTime:  in.ModTime,
	}
	switch in.Typeflag {
	case tar.TypeDir:
		h.Name += "/"
	case tar.TypeChar, tar.TypeBlock:
		h.Devmajor, h.Devminor = in.Devmajor, in.Devminor
	case tar.TypeLink:
		target, err := linkInRootfs(in)
		if err != nil {
			return nil, err
		}
		h.Linkname = target
	}
	if in.Typeflag != tar.TypeReg {
		h.Size = 0
	}
	if in.ModTime.Nanosecond() != 0 {
		h.Format = tar.FormatPAX // no other keeps fractions of seconds
	}
	for k, v := range in.PAXRecords {
		if strings.HasPrefix(k, paxXattr) {
			if h.PAXRecords == nil {
				h.PAXRecords = map[string]string{}
			}
			h.PAXRecords[k] = v
			h.Format = tar.FormatPAX
		}
	}
	return h, nil
}

// linkInRootfs is the target of a hard link below the root filesystem. Targets
// are cleaned like names; those that are elsewhere in the context are refused.
func linkInRootfs(hdr *tar.Header) (string, error) {
	const prefix = "rootfs/"
	target := strings.TrimPrefix(path.Clean(hdr.Linkname), "/")
	if len(target) <= len(prefix) || !strings.EqualFold(target[:len(prefix)], prefix) {
		return "", invalidf("failed to read from tar: hard link %q leads out of rootfs: %q", hdr.Name, hdr.Linkname)
	}
	return target[len(prefix):], nil
}
