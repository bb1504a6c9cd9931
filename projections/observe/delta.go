package observe

import "encoding/json"

// Edit is one difference between two JSON objects.
type Edit struct {
	// Path is a JSON Pointer (RFC 6901). Elements of arrays are compared by index.
	Path string `json:"path"`
	Op   string `json:"op"` // added, removed or changed
	// Old and New are the values, as they were written; absent where there is none, or where it is over a bound of [Limits]: then
	// OldBytes and NewBytes tell its size all the same.
	Old      json.RawMessage `json:"old,omitempty"`
	New      json.RawMessage `json:"new,omitempty"`
	OldBytes int             `json:"old_bytes"`
	NewBytes int             `json:"new_bytes"`
}

// Ops of an Edit.
const (
	EditAdded   = "added"
	EditRemoved = "removed"
	EditChanged = "changed"
)

// Delta is the difference between two JSON objects: by depth first, members in the order of the old object and then the new one's.
type Delta struct {
	Edits []Edit `json:"edits"`
	// Truncated: edits or values were left out.
	Truncated bool `json:"truncated"`
}
