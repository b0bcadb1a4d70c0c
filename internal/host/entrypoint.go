package host

// EntrypointProblem is why a program inside a root filesystem cannot be
// started.
type EntrypointProblem struct {
	// Path is the program, or what it needs, as a path inside the root
	// filesystem; or just its name if it was found nowhere.
	Path string
	// Reason says what is the matter, in words for the plugin's author.
	Reason string
}

// Error returns the reason.
func (p *EntrypointProblem) Error() string { return p.Reason }

// DiagnoseEntrypoint looks for what keeps argv0 from being started inside the
// root filesystem at the host path rootfs: it is not there, cannot be executed,
// was built for another machine, or lacks the interpreter it names. argv0 is
// looked up as the runtime does it: in pathEnv (a PATH, without the name) if it
// has no slash, else relative to cwd. Links are followed inside the root
// filesystem. It returns nil if it finds nothing, or if it cannot look.
func DiagnoseEntrypoint(rootfs, cwd, argv0, pathEnv string) *EntrypointProblem { return nil }
