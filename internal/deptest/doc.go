// Package deptest holds tests that keep the rules of the whole repository: who
// may import whom, one comment for each package, no replaced modules, citations
// that lead somewhere. It has no code of its own.
package deptest
