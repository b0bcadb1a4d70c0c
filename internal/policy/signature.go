package policy

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"
	"github.com/sigstore/sigstore/pkg/cryptoutils"
	"github.com/sigstore/sigstore/pkg/signature"

	"github.com/outletd/outlet"
)

// simpleSigning is the type of what cosign signs, in the payload itself.
const simpleSigning = "cosign container image signature"

// minRSA is how long an RSA key must be, in bits.
const minRSA = 2048

// errWrongKey says that a signature is not by a key.
var errWrongKey = errors.New("the signature is by another key")

func isWrongKey(err error) bool { return errors.Is(err, errWrongKey) }

// verifier is a public key.
type verifier struct{ signature.Verifier }

// loadKey reads a public key in PEM, of the kinds that cosign makes and takes:
// ECDSA, RSA, Ed25519.
func loadKey(path string) (verifier, error) {
	raw, err := read(path)
	if err != nil {
		return verifier{}, err
	}
	key, err := cryptoutils.UnmarshalPEMToPublicKey(raw)
	if err != nil {
		return verifier{}, err
	}
	switch k := key.(type) {
	case *ecdsa.PublicKey, ed25519.PublicKey:
	case *rsa.PublicKey:
		if k.N.BitLen() < minRSA {
			return verifier{}, fmt.Errorf("an RSA key of %d bits is too short: %d are needed", k.N.BitLen(), minRSA)
		}
	default:
		return verifier{}, fmt.Errorf("keys of type %T are not supported", key)
	}
	v, err := signature.LoadVerifier(key, crypto.SHA256)
	return verifier{v}, err
}

// verify says whether s is a signature by the key that is about one of the
// digests.
func (v verifier) verify(s outlet.Signature, digests []digest.Digest) error {
	if err := v.VerifySignature(bytes.NewReader(s.Signature), bytes.NewReader(s.Payload)); err != nil {
		return fmt.Errorf("%w: %w", errWrongKey, err)
	}
	// Only now is the payload worth reading.
	var payload struct {
		Critical struct {
			Image struct {
				Digest digest.Digest `json:"docker-manifest-digest"`
			} `json:"image"`
			Type string `json:"type"`
		} `json:"critical"`
	}
	if err := json.Unmarshal(s.Payload, &payload); err != nil {
		return fmt.Errorf("what was signed cannot be read: %w", err)
	}
	if payload.Critical.Type != simpleSigning {
		return fmt.Errorf("what was signed is of type %.64q, not %q", payload.Critical.Type, simpleSigning)
	}
	if !slices.Contains(digests, payload.Critical.Image.Digest) {
		return fmt.Errorf("a signature by the right key is about %.80q", payload.Critical.Image.Digest)
	}
	return nil
}
