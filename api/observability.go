package api

import "github.com/tidemark-dev/tidemark/projections/observe"

// Observability is where the routes under /v1/observability, and those for the history of a record, get their answers. It is safe for
// concurrent use.
type Observability interface {
	// Ask returns whom to ask, or an *errcode.Error that says why there is nobody: ObservabilityOff or ObservabilityAway.
	Ask() (observe.Ask, error)
}
