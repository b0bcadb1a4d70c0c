package rootfs

// Limits bounds what an archive may make us write or remember. A field that is
// 0 takes the value of [DefaultLimits]; what exceeds one is
// errdefs.ErrInvalidArgument, and the text names the limit.
type Limits struct {
	// CompressedBytes bounds the archive as it arrives.
	CompressedBytes int64
	// UncompressedBytes bounds it after decompression, and the sizes its
	// entries claim: holes of sparse files count.
	UncompressedBytes int64
	// Entries bounds the number of entries, those that are skipped included.
	Entries int64
	// PathBytes bounds the length of a name and of a link's target.
	PathBytes int
	// HeaderBytes bounds the extended header (PAX records, extended
	// attributes) of one entry.
	HeaderBytes int
	// ConfigBytes bounds config.json.
	ConfigBytes int
}

// DefaultLimits are the limits that apply where nothing else was configured.
// They are far above what plugins in the field need.
func DefaultLimits() Limits {
	return Limits{
		CompressedBytes:   8 << 30,
		UncompressedBytes: 16 << 30,
		Entries:           1_000_000,
		PathBytes:         4095,
		HeaderBytes:       256 << 10,
		ConfigBytes:       1 << 20,
	}
}

// WithDefaults returns l with the default in place of every field that is not
// positive.
func (l Limits) WithDefaults() Limits {
	d := DefaultLimits()
	if l.CompressedBytes <= 0 {
		l.CompressedBytes = d.CompressedBytes
	}
	if l.UncompressedBytes <= 0 {
		l.UncompressedBytes = d.UncompressedBytes
	}
	if l.Entries <= 0 {
		l.Entries = d.Entries
	}
	if l.PathBytes <= 0 {
		l.PathBytes = d.PathBytes
	}
	if l.HeaderBytes <= 0 {
		l.HeaderBytes = d.HeaderBytes
	}
	if l.ConfigBytes <= 0 {
		l.ConfigBytes = d.ConfigBytes
	}
	return l
}

// exceeded is the one text of all limits.
func exceeded(what string, limit int64) error {
	return invalidf("archive exceeds the limit of %d %s", limit, what)
}
