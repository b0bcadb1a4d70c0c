package version

import "testing"

func TestVersionIsNeverEmpty(t *testing.T) {
	if Version() == "" {
		t.Error("a program without a version")
	}
}

func TestWhatTheLinkerSaysGoesFirst(t *testing.T) {
	defer func(v, c string) { version, commit = v, c }(version, commit)
	version, commit = "1.2.3", "abc"
	if Version() != "1.2.3" || Commit() != "abc" {
		t.Errorf("got %q, %q", Version(), Commit())
	}
}
