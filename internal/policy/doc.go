// Package policy decides which plugins may be installed on a machine: from which
// repositories, with which digests or signatures, and with which privileges. The
// rules are a file of the machine's owner.
//
// It fetches nothing: who asks it hands in signatures as they were found. What a
// plugin does once it runs is not its business.
package policy
