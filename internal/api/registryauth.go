package api

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
)

// registryAuth are credentials for a registry as clients send them. The zero
// value is anonymous.
type registryAuth struct {
	Username      string `json:"username,omitempty"`
	Password      string `json:"password,omitempty"`
	Auth          string `json:"auth,omitempty"`
	ServerAddress string `json:"serveraddress,omitempty"`
	IdentityToken string `json:"identitytoken,omitempty"`
	RegistryToken string `json:"registrytoken,omitempty"`
}

// LogValue keeps secrets out of logs.
func (a registryAuth) LogValue() slog.Value {
	return slog.GroupValue(slog.String("server", a.ServerAddress), slog.Bool("anonymous", a == registryAuth{}))
}

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
