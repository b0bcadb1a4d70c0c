// Package crash ends the daemon at every point at which it changes something,
// starts it again, and compares what is there with what must be; it does the
// same with errors instead of ends, and with power that fails, where what was
// not synced is gone. It has no code that is not a test.
package crash
