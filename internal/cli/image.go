package cli

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/distribution/reference"

	"github.com/outletd/outlet"
)

// The ways to say where an image is; all else is a reference in a registry.
const (
	fromLayout  = "oci:"
	fromArchive = "oci-archive:"
)

// runCreateImage makes a plugin of an image.
func runCreateImage(ctx context.Context, env *Env, conn *connection, o createOptions) error {
	if _, err := outlet.ParseName(o.name); err != nil { // as in runCreate
		return err
	}
	if o.config == "" {
		return usagef("--image needs --config: an image does not say what the plugin is (see \"outlet init --help\")")
	}
	config, err := readConfigFile(o.config)
	if err != nil {
		return err
	}
	image := outlet.ImageOptions{Config: config, Platform: o.platform}
	src, err := openImage(ctx, env, o.image, &image)
	if err != nil {
		return err
	}
	if src != nil {
		defer src.close()
	}
	c, err := conn.open()
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // never fails
	var body io.Reader
	bar := newBar(env, o, src)
	switch {
	case src == nil:
	case bar != nil:
		body = io.TeeReader(src.Reader, bar)
	default:
		body = src.Reader
	}
	_, warnings, err := c.CreateFromImage(ctx, o.name, body, image)
	if bar != nil {
		src.close() // the bar is written to until the body ends
		bar.Clear()
	}
	if err != nil {
		return err
	}
	return created(ctx, env, c, o, warnings)
}

func readConfigFile(name string) ([]byte, error) {
	if err := checkConfig(name); err != nil {
		return nil, err
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readBounded(f, name)
}

// openImage opens an image, or says in o which one the daemon gets.
func openImage(ctx context.Context, env *Env, image string, o *outlet.ImageOptions) (*pluginContext, error) {
	if rest, ok := strings.CutPrefix(image, fromArchive); ok {
		name, ref, _ := strings.Cut(rest, ":")
		o.Ref = ref
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		st, err := f.Stat()
		if err == nil && st.IsDir() {
			err = fmt.Errorf("%s is a directory: write %s%s", name, fromLayout, rest)
		}
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return &pluginContext{Reader: f, size: st.Size(), close: func() { f.Close() }}, nil
	}
	if rest, ok := strings.CutPrefix(image, fromLayout); ok {
		name, ref, _ := strings.Cut(rest, ":")
		o.Ref = ref
		return openLayout(name)
	}
	ref, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return nil, fmt.Errorf("image %q is neither %sDIR, %sFILE nor a reference: %w", image, fromLayout, fromArchive, err)
	}
	o.Ref = ref.String()
	o.Remote.Auth, err = authFor(ctx, env, ref)
	return nil, err
}

// openLayout packs the files of an OCI layout as a tar.
func openLayout(dir string) (*pluginContext, error) {
	if _, err := os.Stat(filepath.Join(dir, "oci-layout")); err != nil {
		return nil, fmt.Errorf("%s is not an OCI layout: %w", dir, err)
	}
	names := []string{"oci-layout", "index.json"}
	blobs, err := os.ReadDir(filepath.Join(dir, "blobs", "sha256"))
	if err != nil {
		return nil, err
	}
	for _, b := range blobs {
		names = append(names, path.Join("blobs", "sha256", b.Name()))
	}
	var size int64
	for _, name := range names {
		st, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		size += (st.Size()+511)&^511 + 512
	}
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.CloseWithError(packFiles(w, dir, names))
	}()
	return &pluginContext{Reader: r, size: size, close: func() {
		r.Close() //nolint:errcheck // always nil
		<-done
	}}, nil
}

func packFiles(w io.Writer, dir string, names []string) error {
	tw := tar.NewWriter(w)
	for _, name := range names {
		if err := packFile(tw, dir, name); err != nil {
			return fmt.Errorf("pack %s: %w", filepath.Join(dir, name), err)
		}
	}
	return tw.Close()
}

func packFile(tw *tar.Writer, dir, name string) error {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return nil // no part of a layout
	}
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: st.Size(), Format: tar.FormatPAX}); err != nil {
		return err
	}
	_, err = io.CopyN(tw, f, st.Size())
	return err
}
