// Package credentials reads and writes the credentials for registries that
// docker's clients keep: in config.json, or in a credential helper that it
// names. What a user logged in to with docker can be used here, and the reverse.
//
// It asks no registry whether credentials are right, and it knows nothing else of
// config.json, which it leaves as it is.
package credentials
