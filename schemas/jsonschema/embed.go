package jsonschema

import "embed"

// FS holds the schemas under the names below.
//
//go:embed *.json
var FS embed.FS

// Names of the schemas in FS.
const (
	Change  = "change.v1.json"
	Control = "control.v1.json"
	Raw     = "raw.v1.json"
)

// Base and a name make the $id of a schema.
const Base = "https://github.com/tidemark-dev/tidemark/raw/main/schemas/jsonschema/"
