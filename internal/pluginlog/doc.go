// Package pluginlog keeps what plugins print.
//
// A plugin writes straight into two files, one for its standard output and one
// for its standard error, that are opened for appending; no process of ours
// stands between. So it never blocks, never gets EPIPE, and goes on printing
// while no daemon runs. A [Picker] in the daemon watches these raw files, cuts
// them into lines, stamps each with the time it was picked up, and appends it to
// the plugin's log: files of bounded size and number that are read with
// [Log.Read]. What was picked up is cut out of the raw files, so that a talkative
// plugin fills no disk.
//
// The package knows nothing of plugins beyond what they print, starts no
// process, and does not interpret lines.
package pluginlog
