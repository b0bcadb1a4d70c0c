package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// useFile runs "cat VOLUME FILE" or "put VOLUME FILE" on the volumes below
// data. It never leaves the volume.
func useFile(data string, args []string, in io.Reader, out io.Writer) error {
	const usage = "usage: dirvol cat VOLUME FILE, or dirvol put VOLUME FILE"
	if len(args) != 3 || args[0] != "cat" && args[0] != "put" {
		return errors.New(usage)
	}
	if err := checkName(args[1]); err != nil {
		return err
	}
	volume, err := os.OpenRoot(filepath.Join(data, volumesDir, args[1]))
	if err != nil {
		return fmt.Errorf("volume %s: %w", args[1], err)
	}
	defer volume.Close()
	if args[0] == "cat" {
		f, err := volume.Open(args[2])
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = io.Copy(out, f)
		return err
	}
	f, err := volume.Create(args[2])
	if err != nil {
		return err
	}
	_, err = io.Copy(f, in)
	return errors.Join(err, f.Close())
}
