// Package soak drives the built daemon at random for a while and compares it
// with a model of what must be true. It has no code that is not a test.
package soak
