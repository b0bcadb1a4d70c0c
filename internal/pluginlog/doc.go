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
//
// # The directory of a log
//
//	start-00000007.stdout   raw output of the plugin's 7th start
//	start-00000007.stderr
//	00000012.log            the log; numbers grow, the highest is appended to
//	00000013.log
//
// Raw files are removed when their start was drained. Their beginning is a hole
// as far as it was picked up (punched in steps of 1 MiB), their size is all that
// was printed.
//
// A file of the log is a sequence of records, a line each:
//
//	<crc> <kind> <flag> <time> <position> <text>\n
//
// crc is the CRC-32C of what follows it and the space, in 8 hexadecimal digits.
// kind is o or e for a line of standard output or error, n for a note of the
// manager, p for a position alone (text is how many bytes were dropped and not
// yet told of), v for the version of the format (text is 1; the first record of
// a file). flag is + for a line that was cut and goes on in the next record of
// its kind, else a dot. time is in nanoseconds since 1970. position is "-", or
// the raw file and how far it has been picked up with this record, o7:1234
// being 1234 bytes of the standard output of start 7. text is the line as it was
// printed, any bytes but a newline. Records that cannot be read are skipped, and
// so are kinds that are not known.
//
// # Why nothing is lost or doubled
//
// The position is in the record itself: a record and how far it got are written
// together or not at all. After a kill the torn record at the end is cut off,
// and picking goes on where the last whole record of each raw file says. Only
// afterwards is a hole punched. Every file begins with the positions as they
// were, and repeats them every 256 KiB, so finding them takes one short read.
// That holds against the death of the daemon; nothing is synced to the disk, so
// the death of the machine may cost the last seconds, as with any log.
//
// # Floods
//
// A plugin that prints more than [Rate] allows is not followed for a second:
// what it prints then is cut out of the raw file unread, but for the last
// 16 KiB, where the reason is if it dies now. Afterwards a note says how many
// bytes were dropped. What was printed while no daemon ran is exempt, up to half
// of what the log can hold; of more the beginning is dropped, and a note says
// so.
//
// # Truncation
//
// A plugin may truncate its own output (by opening /dev/stdout): then picking
// starts over at its beginning. What it printed before and was not picked up is
// gone; if by then it printed more than before, the truncation goes unnoticed
// and the beginning is missed.
package pluginlog
