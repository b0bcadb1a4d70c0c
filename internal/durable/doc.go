// Package durable is the one way by which Outlet changes what outlives its
// process: files and directories, mounts, commits of databases, blobs and
// snapshots, and what runtimes are told to do. Its functions are those of os
// and unix under their own names, and [Do] and [Call] for what a library does.
//
// What for: a build with the tag failpoints counts every one of these calls and
// can end the process at any of them, fail it, or stop it there (see
// failpoints.go; test/crash uses that). Without the tag a function is the plain
// call and costs nothing. That nothing goes past this package is checked by
// internal/deptest and the linter.
//
// It is not a transaction, a log or an undo: what order things are done in, and
// what a crash between two of them leaves, is the caller's to think about.
package durable
