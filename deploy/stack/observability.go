package stack

import (
	"github.com/tidemark-dev/tidemark/api"
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

// Projections implements api.ProjectionsReport.
func (o observability) Projections() api.Projections {
	st := o.s.Projections()
	out := api.Projections{State: string(st.Phase), Reason: st.Reason}
	if st.Phase != ProjectionsRunning || st.Project.State == "" {
		return out
	}
	p := &st.Project
	out.State, out.Reason, out.Since = string(p.State), p.Reason, &p.Since
	if !p.LastWrite.IsZero() {
		out.LastWrite = &p.LastWrite
	}
	if p.SecondsToLoss >= 0 {
		out.SecondsToLoss = &p.SecondsToLoss
	}
	for _, part := range p.Partitions {
		out.Behind += part.Behind
		out.BehindMS = max(out.BehindMS, part.BehindMS)
		out.Partitions = append(out.Partitions, api.ProjectionPartition{Partition: part.Partition, CSN: part.CSN, Behind: part.Behind, BehindMS: part.BehindMS})
	}
	return out
}
