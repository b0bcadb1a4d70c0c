package outlet_test

import (
	"slices"
	"testing"

	"github.com/outletd/outlet"
)

func TestStatesCanBeLeftAndReached(t *testing.T) {
	reached := map[outlet.State]bool{outlet.StateDisabled: true}
	for todo := []outlet.State{outlet.StateDisabled}; len(todo) > 0; todo = todo[1:] {
		for _, to := range outlet.States() {
			if outlet.CanEnter(todo[0], to) && !reached[to] {
				reached[to] = true
				todo = append(todo, to)
			}
		}
	}
	for _, s := range outlet.States() {
		if !reached[s] {
			t.Errorf("%s is never reached", s)
		}
		if !slices.ContainsFunc(outlet.States(), func(to outlet.State) bool { return outlet.CanEnter(s, to) }) {
			t.Errorf("%s is never left", s)
		}
	}
}

func TestCanEnter(t *testing.T) {
	// Rows are from, columns to, in the order of States.
	table := map[outlet.State]string{
		outlet.StateDisabled: ".S..PFR",
		outlet.StateStarting: "D.RBPF.",
		outlet.StateRunning:  "...BPF.",
		outlet.StateBackoff:  ".S..PF.",
		outlet.StateStopping: "D....F.",
		outlet.StateFailed:   ".S..P.R",
		outlet.StateRemoving: "D....F.",
	}
	if len(table) != len(outlet.States()) {
		t.Fatalf("%d rows for %d states", len(table), len(outlet.States()))
	}
	for from, row := range table {
		for i, to := range outlet.States() {
			if got, want := outlet.CanEnter(from, to), row[i] != '.'; got != want {
				t.Errorf("from %s to %s: %v, want %v", from, to, got, want)
			}
		}
	}
	if outlet.CanEnter("unheard of", outlet.StateRunning) || outlet.CanEnter(outlet.StateRunning, "unheard of") {
		t.Error("a state that does not exist has transitions")
	}
}
