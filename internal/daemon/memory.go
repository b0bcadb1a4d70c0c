package daemon

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// How the daemon stays small between operations. What it keeps is a few
// megabytes; what an upload takes for a moment should not stay resident for as
// long as Go would keep it for the next one.
const (
	gcPercent     = 50              // of what is in use may be garbage, at most
	trimInterval  = 5 * time.Second // between looks at what could be given back
	trimThreshold = 4 << 20         // bytes that are worth a collection
)

// trimMemory gives memory that is free back to the system, until ctx ends.
func trimMemory(ctx context.Context) {
	old := debug.SetGCPercent(gcPercent)
	defer debug.SetGCPercent(old) // the process may go on without a daemon
	samples := []metrics.Sample{
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
	}
	tick := time.NewTicker(trimInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		metrics.Read(samples)
		free, live, objects := samples[0].Value.Uint64(), samples[1].Value.Uint64(), samples[2].Value.Uint64()
		// What was made since the last collection may all be garbage.
		if garbage := objects - min(live, objects); free+garbage > trimThreshold {
			debug.FreeOSMemory()
		}
	}
}
