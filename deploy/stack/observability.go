package stack

import (
	"github.com/tidemark-dev/tidemark/projections/observe"
	"github.com/tidemark-dev/tidemark/schemas/errcode"
)

// observability answers for the projections as they are at the moment.
type observability struct{ s *Stack }

// Ask implements api.Observability.
func (o observability) Ask() (observe.Ask, error) {
	p := o.s.projections.Load()
	if p == nil {
		if o.s.cfg.Projections.Enabled {
			return nil, errcode.New(errcode.ObservabilityAway, "It is starting.")
		}
		return nil, errcode.New(errcode.ObservabilityOff, "")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.reader != nil && p.status.Phase == ProjectionsRunning:
		return p.reader, nil
	case p.status.Phase == ProjectionsFetching:
		return nil, errcode.New(errcode.ObservabilityAway, "Its library is being fetched.")
	case p.status.Phase == ProjectionsWaiting:
		return nil, errcode.New(errcode.ObservabilityOff, "%s", p.status.Reason)
	}
	return nil, errcode.New(errcode.ObservabilityAway, "It is starting.")
}
