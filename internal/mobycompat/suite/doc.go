// Package suite has the tests that a program written against Moby's packages
// would be: they use nothing but what those packages have, and run on ours as
// they stand. For the originals, the import paths are changed and nothing else.
// The package itself is not for import.
package suite
