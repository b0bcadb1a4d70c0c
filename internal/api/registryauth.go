package api

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"

	"github.com/outletd/outlet"
)

// registryAuth are credentials for a registry as clients send them.
type registryAuth = outlet.RegistryAuth

// errRegistryAuth never says what was in the header.
var errRegistryAuth = errors.New("it is not base64 of a JSON object")

// parseRegistryAuth reads an X-Registry-Auth header. Docker's form is base64url
// with padding; other writers leave the padding out or use the standard
// alphabet.
func parseRegistryAuth(header string) (registryAuth, error) {
	var a registryAuth
	header = strings.TrimSpace(header)
	if header == "" {
		return a, nil
	}
	text := strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(header, "="))
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || json.Unmarshal(raw, &a) != nil {
		return registryAuth{}, errRegistryAuth
	}
	return a, nil
}
