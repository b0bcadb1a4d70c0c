// Package mobycompat runs the tests of the module internal/mobycompat as one of
// this module's, so that nobody forgets them. It has tests and no code.
package mobycompat
