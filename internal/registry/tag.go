package registry

import "context"

// Tag reads what another tag of the same repository names. It is used where
// documents about others are kept beside them.
func (r *Repository) Tag(ctx context.Context, tag string) (Manifest, error) {
	return r.document(ctx, tag, "", []string{join(acceptable()) + ", */*"})
}
