// Package lint holds the rules of this repository that no compiler knows, as tests. It has no code of its own, and imports
// nothing of ours: it reads the tree.
//
//	layout    the entries of the top level; names of packages; a doc.go in each; no file above 900 lines
//	imports   main -> deploy/{cli,stack} -> ingest, processor, projections, api -> schemas -> standard library
//	sleeps    tests wait for what they wait for; time.Sleep only in virtual time, in a poll with a deadline, or with a reason
//	links     relative links in Markdown lead somewhere
//
// Invariant: a rule is a function from a file tree to a list of problems. Each is run on this repository, and on a small bad tree
// of which it must find every flaw, so that no rule can rot into one that never fails. Files are parsed, not compiled: code
// behind build tags is seen as well.
package lint
