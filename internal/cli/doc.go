// Package cli is the command line of Outlet: one file for each command, each
// with an options struct, a constructor for its cobra command, and a function
// that runs it with streams handed in.
//
// Data goes to standard output, everything else to standard error. The package
// holds no logic of plugins: whatever a command does, the daemon does for it,
// through package client. It does not contain the daemon either: [Env.RunDaemon]
// is given by whoever builds the program.
package cli
