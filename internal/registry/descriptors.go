package registry

import (
	"bytes"
	"encoding/json"
	"errors"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// descriptor is what is read of a descriptor in a document of a registry. Its
// other fields are nobody's business: nobody is asked but the registry.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      digest.Digest     `json:"digest"`
	Size        int64             `json:"size"`
	Annotations map[string]string `json:"annotations"`
	Platform    *struct {
		Architecture string `json:"architecture"`
		OS           string `json:"os"`
		Variant      string `json:"variant"`
	} `json:"platform"`
}

func (d descriptor) oci() ocispec.Descriptor {
	o := ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size, Annotations: d.Annotations}
	if p := d.Platform; p != nil {
		o.Platform = &ocispec.Platform{Architecture: p.Architecture, OS: p.OS, Variant: p.Variant}
	}
	return o
}

// descriptors is a list of them that is not read further than anybody accepts:
// three bytes of a document ("{},") would else become hundreds in memory.
type descriptors []ocispec.Descriptor

var errTooMany = errors.New("a list is too long")

// UnmarshalJSON reads a list, or null.
func (l *descriptors) UnmarshalJSON(raw []byte) error {
	if *l = nil; string(raw) == "null" {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	if open, err := dec.Token(); err != nil || open != json.Delim('[') {
		return errors.New("what should list descriptors is no list")
	}
	*l = descriptors{}
	for dec.More() {
		if len(*l) == maxEntries {
			return errTooMany
		}
		var d descriptor
		if err := dec.Decode(&d); err != nil {
			return err
		}
		*l = append(*l, d.oci())
	}
	return nil
}
