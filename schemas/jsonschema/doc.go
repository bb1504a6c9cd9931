// Package jsonschema holds the JSON Schemas (draft 2020-12) of our wire formats, for validators, generators and editors outside:
//
//	change.v1.json    value of ADDED, UPDATED and DELETED on the changes topic
//	control.v1.json   value of every other record on the changes topic
//	raw.v1.json       a raw event: key, headers and value, shown as one JSON object
//
// Invariants: a version only ever gains optional members; none is renamed, retyped or given another meaning, and a break is a v2
// beside v1. So no schema forbids unknown members, and readers ignore them, together with unknown values of op on the changes
// topic. Every golden file under schemas/testdata validates, also when unknown members are forbidden: what we write is described
// completely.
package jsonschema
