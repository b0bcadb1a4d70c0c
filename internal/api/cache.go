package api

import "sync"

// maxCached bounds the bytes of answers that are kept.
const maxCached = 8 << 20

// pluginCache keeps encoded answers for as long as nothing changed.
type pluginCache struct {
	revisions Revisioner // nil keeps nothing

	mu       sync.Mutex
	revision uint64 // what the answers were made of
	answers  map[string][]byte
	size     int
}

// answer returns the answer kept under key, or makes it. What it returns is
// shared and must not be changed.
func (c *pluginCache) answer(key string, produce func() ([]byte, error)) ([]byte, error) {
	if c.revisions == nil {
		return produce()
	}
	// The revision is read before the answer is made: an answer made while
	// something changes may be newer than its revision, never older.
	revision := c.revisions.Revision()
	if b, ok := c.find(key, revision); ok {
		return b, nil
	}
	b, err := produce()
	if err == nil && c.revisions.Revision() == revision {
		c.keep(key, revision, b)
	}
	return b, err
}

func (c *pluginCache) find(key string, revision uint64) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.revision != revision {
		return nil, false
	}
	b, ok := c.answers[key]
	return b, ok
}

func (c *pluginCache) keep(key string, revision uint64, b []byte) {
	n := len(key) + len(b)
	if n > maxCached {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.revision != revision || c.answers == nil || c.size+n > maxCached {
		c.revision, c.answers, c.size = revision, make(map[string][]byte), 0
	}
	if _, ok := c.answers[key]; !ok {
		c.size += n
	}
	c.answers[key] = b
}
