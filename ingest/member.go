package ingest

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// memberID finds the id in a payload, as ingest/bulk does: a string stands for its characters, a number for its literal text; of
// members that share a name the last one counts.
func memberID(payload []byte, field string) (string, error) {
	if !isObject(payload) || !json.Valid(payload) || !utf8.Valid(payload) {
		return "", errcode.New(errcode.RawInvalidPayload, "")
	}
	value := json.RawMessage(bytes.TrimSpace(payload))
	for _, name := range memberPath(field) {
		value = below(value, name)
	}
	var id string
	switch {
	case len(value) == 0 || value[0] == 'n':
		return "", errcode.New(errcode.RawInvalidID, "The member that holds the id is absent or null.")
	case value[0] == '"':
		if err := json.Unmarshal(value, &id); err != nil {
			return "", errcode.New(errcode.RawInvalidPayload, "")
		}
		// The decoder writes U+FFFD for half of a surrogate pair, which would make different ids one.
		if strings.ContainsRune(id, utf8.RuneError) && bytes.Contains(value, []byte(`\u`)) {
			return "", errcode.New(errcode.RawInvalidID, "It holds half of a surrogate pair, or U+FFFD, as an escape.")
		}
	case value[0] == '-' || '0' <= value[0] && value[0] <= '9':
		id = string(value)
	default:
		return "", errcode.New(errcode.RawInvalidID, "The member that holds the id is neither a string nor a number.")
	}
	if err := stream.CheckID(id); err != nil {
		return "", &errcode.Error{Code: errcode.RawInvalidID, Detail: err.Error()}
	}
	return id, nil
}

// memberPath splits the two spellings of an id field: a JSON Pointer when it begins with a slash, else names joined by dots.
func memberPath(field string) []string {
	pointer, ok := strings.CutPrefix(field, "/")
	if !ok {
		return strings.Split(field, ".")
	}
	path := strings.Split(pointer, "/")
	for i, s := range path {
		// In this order: ~01 is the name "~1", not a slash.
		path[i] = strings.ReplaceAll(strings.ReplaceAll(s, "~1", "/"), "~0", "~")
	}
	return path
}

// below is the member or element of that name, nil if there is none.
func below(value json.RawMessage, name string) json.RawMessage {
	if len(value) == 0 {
		return nil
	}
	switch value[0] {
	case '{':
		var members map[string]json.RawMessage
		if json.Unmarshal(value, &members) != nil {
			return nil
		}
		return members[name]
	case '[':
		var elements []json.RawMessage
		if json.Unmarshal(value, &elements) != nil {
			return nil
		}
		if i, err := strconv.Atoi(name); err == nil && i >= 0 && i < len(elements) && strconv.Itoa(i) == name {
			return elements[i]
		}
	}
	return nil
}
