package api

import (
	"io"
	"sync"
)

// maxStdin is how much standard input waits for a process that does not read
// it; the client is not read any further then.
const maxStdin = 1 << 20

// stdinQueue carries standard input from the connection to the process. Unlike
// a pipe it lets the side that writes see whether there is room, so that it can
// look after its connection while there is none.
type stdinQueue struct {
	mu     sync.Mutex
	data   []byte
	ended  bool
	filled chan struct{} // holds a token when there may be something to read
	room   chan struct{} // holds a token when there may be room
}

func newStdinQueue() *stdinQueue {
	return &stdinQueue{filled: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Read waits for input; io.EOF after its end.
func (q *stdinQueue) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		q.mu.Lock()
		n := copy(p, q.data)
		q.data = q.data[n:]
		ended := q.ended
		q.mu.Unlock()
		switch {
		case n > 0:
			signal(q.room)
			return n, nil
		case ended:
			signal(q.filled) // for the next reader
			return 0, io.EOF
		}
		<-q.filled
	}
}

// put adds input, whatever its length, and says whether there is room for more.
func (q *stdinQueue) put(b []byte) (room bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.ended {
		q.data = append(q.data, b...)
		signal(q.filled)
	}
	return q.ended || len(q.data) < maxStdin
}

// end says that no more input comes.
func (q *stdinQueue) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
	signal(q.filled)
	signal(q.room)
}

// full says whether there is no room.
func (q *stdinQueue) full() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return !q.ended && len(q.data) >= maxStdin
}
