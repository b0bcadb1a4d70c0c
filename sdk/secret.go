package sdk

import (
	"context"

	"github.com/outletd/outlet/capability/secret"
)

// Secret is what a SecretProvider answers (docs/spec/capabilities.md §8).
type Secret struct {
	// Value has at least one byte and less than secret.MaxSize.
	Value []byte
	// DoNotReuse has the host ask again for each task; otherwise the value is
	// kept on the node and given to later tasks, those of other services
	// included.
	DoNotReuse bool
}

// SecretProvider provides secrets.
type SecretProvider interface {
	// GetSecret returns a secret. The host may ask for the same one often.
	GetSecret(ctx context.Context, r secret.Request) (Secret, error)
}

func (h *Handler) addSecret(p SecretProvider) {
	if p == nil {
		return
	}
	h.add(map[string]method{
		secret.MethodGetSecret: with(func(r secret.Request) string { return missing("SecretName", r.SecretName) },
			func(ctx context.Context, r secret.Request) (any, error) {
				s, err := p.GetSecret(ctx, r)
				if err == nil && (len(s.Value) == 0 || len(s.Value) >= secret.MaxSize) {
					err = secret.ErrSize
				}
				return s, err
			}),
	})
}
