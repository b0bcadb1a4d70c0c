package outlet

// CheckReport is what a check of a daemon's state found.
type CheckReport struct {
	Problems []Problem
}

// Remaining returns the problems that were not repaired.
func (r CheckReport) Remaining() []Problem {
	var l []Problem
	for _, p := range r.Problems {
		if !p.Repaired {
			l = append(l, p)
		}
	}
	return l
}

// Problem is something a daemon keeps or left behind that should not be so.
type Problem struct {
	// Kind classes the problem, in a few words: "orphan blob", "stray mount".
	Kind string
	// Subject is what the problem is with: a plugin's id or name, a digest, a
	// key, a path.
	Subject string
	// Detail says what is wrong with it.
	Detail string
	// Repaired says that the check mended it.
	Repaired bool
}
