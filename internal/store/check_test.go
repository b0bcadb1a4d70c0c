package store

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// TestCheckDoesNotReportWhatIsBeingMade looks while plugins are created, of
// content that others have as well and of their own: what is on disk before it
// is in the database, or is given up for what somebody else made, is no problem.
func TestCheckDoesNotReportWhatIsBeingMade(t *testing.T) {
	both(t, func(t *testing.T, s *Store) {
		var creators sync.WaitGroup
		for n := range 2 {
			creators.Go(func() {
				for i := range 8 {
					add(t, s, fmt.Sprintf("shared-%d-%d", n, i), small(t, fmt.Sprint(i)))
					add(t, s, fmt.Sprintf("own-%d-%d", n, i), small(t, fmt.Sprint(n, i)))
				}
			})
		}
		done := make(chan struct{})
		go func() { creators.Wait(); close(done) }()
		looks := 0
		for running := true; running; looks++ {
			select {
			case <-done:
				running = false // and one last look
			default:
			}
			report, err := s.Check(t.Context())
			if err != nil {
				t.Error(err)
			}
			for _, p := range report.Problems {
				t.Errorf("%s %s: %s", p.Kind, p.Subject, p.Detail)
			}
		}
		t.Logf("%d looks", looks)
	})
}

func TestWhatIsUnderWayIsWaitedForAndLaterIsNot(t *testing.T) {
	var u underWay
	if n, calm := u.calm(); n != 0 || !calm {
		t.Errorf("at first %d, %v", n, calm)
	}
	first := u.begin()
	waited := make(chan error, 1)
	go func() { waited <- u.wait(t.Context()) }()
	select {
	case err := <-waited:
		t.Fatalf("did not wait: %v", err)
	case <-time.After(10 * time.Millisecond):
	}
	if n, calm := u.calm(); n != 1 || calm {
		t.Errorf("with one begun %d, %v", n, calm)
	}
	later := u.begin()
	first()
	if err := <-waited; err != nil {
		t.Error(err)
	}
	later()
	if n, calm := u.calm(); n != 2 || !calm {
		t.Errorf("at the end %d, %v", n, calm)
	}
}
