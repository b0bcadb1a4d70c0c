// Package original is where the suite is built against Moby's packages, by an
// overlay: it has no files of its own but this one.
package original
