package rootfs

import (
	"context"
	"io"
)

// Unpack returns what r holds, whether it is plain or compressed with gzip or
// zstd, within the limits of bytes. What exceeds one is
// errdefs.ErrInvalidArgument. The reader must be closed.
func Unpack(ctx context.Context, r io.Reader, limits Limits) (io.ReadCloser, error) {
	z, err := unpack(ctx, r, limits.WithDefaults())
	if err != nil {
		return nil, readFailed(err)
	}
	return z, nil
}
