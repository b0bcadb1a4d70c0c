// Package bench measures the built daemon beside the limit of each path, in one
// run, and reports ratios (docs/performance.md). It has no code that is not a
// benchmark, and asserts nothing about time.
package bench
