package outlet

import "slices"

// transitions are the states that each state can be followed by. What a plugin
// is observed to do is a fact: package manager, whose units walk this table,
// takes a step that is not in it for a defect of its own.
var transitions = map[State][]State{
	// Stopping: what a manager that died was about to end is ended.
	// Failed: its record or its files are unusable.
	StateDisabled: {StateStarting, StateStopping, StateFailed, StateRemoving},
	// Disabled: the first enable failed. Backoff: a later start did.
	StateStarting: {StateRunning, StateDisabled, StateBackoff, StateStopping, StateFailed},
	StateRunning:  {StateBackoff, StateStopping, StateFailed},
	StateBackoff:  {StateStarting, StateStopping, StateFailed},
	// Failed: it could not be proven that it ended.
	StateStopping: {StateDisabled, StateFailed},
	// Stopping: its user disables it, or removes it by force.
	StateFailed: {StateStarting, StateStopping, StateRemoving},
	// Disabled: its record could not be removed, so it is still there.
	StateRemoving: {StateDisabled, StateFailed},
}

// States returns all states, in the order of a plugin's life.
func States() []State {
	return []State{StateDisabled, StateStarting, StateRunning, StateBackoff, StateStopping, StateFailed, StateRemoving}
}

// CanEnter says whether a plugin in state from may be in state to next. No
// state follows itself.
func CanEnter(from, to State) bool { return slices.Contains(transitions[from], to) }
