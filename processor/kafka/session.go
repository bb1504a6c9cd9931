package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// session is one client, with connections of its own. A broker answers the requests of a connection one after another, so whoever
// waits in long polls must not share one.
type session struct {
	l  *Log
	cl *kgo.Client
}

// placement says where a partition is.
type placement struct {
	id    [16]byte // of the topic; zero on brokers that have no ids
	node  int32    // of the leader
	epoch int32    // of the leader; -1 on old brokers
}

// bounded runs f with a context that ends after d. That this time is up is not reported as the context's error: the caller's own
// context has not ended.
func bounded[T any](ctx context.Context, d time.Duration, f func(context.Context) (T, error)) (T, error) {
	inner, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	v, err := f(inner)
	if err != nil && ctx.Err() == nil && inner.Err() != nil {
		err = fmt.Errorf("no answer within %v", d)
	}
	return v, err
}

// send sends req to one broker, once. franz-go may write it again on a second connection if, and only if, the first took none of
// its bytes. extra is time that the broker may take by the request's own terms. The request must not be changed or used again, even
// after an error: the client may still be about to write it.
func (s *session) send(ctx context.Context, node int32, req kmsg.Request, extra time.Duration) (kmsg.Response, error) {
	return bounded(ctx, s.l.cfg.RequestTimeout+extra, func(ctx context.Context) (kmsg.Response, error) {
		return s.cl.Broker(int(node)).Request(ctx, req)
	})
}

// ask sends req to any broker, and to others if the first are not there.
func (s *session) ask(ctx context.Context, req kmsg.Request) (kmsg.Response, error) {
	return bounded(ctx, s.l.cfg.RequestTimeout, func(ctx context.Context) (kmsg.Response, error) {
		return s.cl.Request(ctx, req)
	})
}

// describe asks the cluster about topics, in the order of names. A topic with another id than before is ErrTopicID.
func (s *session) describe(ctx context.Context, names ...string) ([]kmsg.MetadataResponseTopic, error) {
	req := kmsg.NewPtrMetadataRequest()
	for _, name := range names {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = kmsg.StringPtr(name)
		req.Topics = append(req.Topics, t)
	}
	r, err := s.ask(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("asking for metadata: %w", err)
	}
	resp := r.(*kmsg.MetadataResponse)
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return nil, fmt.Errorf("asking for metadata: %w", err)
	}
	out := make([]kmsg.MetadataResponseTopic, 0, len(names))
	for _, name := range names {
		i := 0
		for i < len(resp.Topics) && (resp.Topics[i].Topic == nil || *resp.Topics[i].Topic != name) {
			i++
		}
		if i == len(resp.Topics) {
			return nil, fmt.Errorf("asking for metadata: no answer about topic %s", name)
		}
		t := resp.Topics[i]
		if err := s.l.topicError(name, t.ErrorCode); err != nil {
			return nil, fmt.Errorf("topic %s: %w", name, err)
		}
		if err := s.l.checkID(name, t.TopicID); err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}

// place finds the leaders of partition p of topics.
func (s *session) place(ctx context.Context, p int32, names ...string) ([]placement, error) {
	topics, err := s.describe(ctx, names...)
	if err != nil {
		return nil, err
	}
	out := make([]placement, len(topics))
	for i := range topics {
		part, err := partition(&topics[i], p)
		if err != nil {
			return nil, fmt.Errorf("%s/%d: %w", names[i], p, err)
		}
		out[i] = placement{id: topics[i].TopicID, node: part.Leader, epoch: part.LeaderEpoch}
	}
	return out, nil
}

func partition(t *kmsg.MetadataResponseTopic, p int32) (*kmsg.MetadataResponseTopicPartition, error) {
	for i := range t.Partitions {
		part := &t.Partitions[i]
		if part.Partition != p {
			continue
		}
		// Answers about replicas that are away come with a leader that is there.
		if err := kerr.ErrorForCode(part.ErrorCode); err != nil && part.Leader < 0 {
			return nil, err
		}
		if part.Leader < 0 {
			return nil, kerr.LeaderNotAvailable
		}
		return part, nil
	}
	return nil, kerr.UnknownTopicOrPartition
}

// retry runs f until it succeeds or fails for good, or until ctx ends or the session closes. Between two tries it waits 50 ms and
// up to 2 s, with jitter. op names what is tried, in metrics and in the log; attrs are for the log.
func (s *session) retry(ctx context.Context, op string, f func(context.Context) error, attrs ...any) error {
	const quiet = 2 * time.Second // leaders move and brokers restart: nobody need hear of less

	first := f(ctx)
	if first == nil {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.cl.Context(), cancel)()

	log := s.l.cfg.Logger.With(append([]any{"op", op}, attrs...)...)
	var begun, unknownSince time.Time
	var last error
	warned := false
	try := func() error {
		err := first
		if first = nil; err == nil {
			err = f(ctx)
		}
		if err == nil {
			return nil
		}
		if ctx.Err() == nil {
			last = err // not what the end of ctx made of it
		}
		switch {
		case !retriable(err):
			return backoff.Permanent(err)
		case !unknownTopic(err):
			unknownSince = time.Time{}
		case unknownSince.IsZero():
			unknownSince = time.Now()
		case time.Since(unknownSince) >= s.l.cfg.RequestTimeout:
			if errors.Is(err, errGone) {
				err = fmt.Errorf("%w: %w", ErrTopicID, err)
			}
			return backoff.Permanent(err)
		}
		return err
	}
	notify := func(err error, _ time.Duration) {
		s.l.metrics.retries.WithLabelValues(op).Inc()
		if begun.IsZero() {
			begun = time.Now()
		}
		if !warned && time.Since(begun) >= quiet {
			warned = true
			log.Warn("no success yet, trying on", "err", err)
		}
	}
	pace := backoff.NewExponentialBackOff(backoff.WithInitialInterval(50*time.Millisecond), backoff.WithMultiplier(2),
		backoff.WithMaxInterval(2*time.Second), backoff.WithMaxElapsedTime(0)) // 0: the context alone ends it
	err := backoff.RetryNotify(try, backoff.WithContext(pace, ctx), notify)
	switch {
	case err == nil:
		if warned {
			log.Info("works again", "duration_ms", time.Since(begun).Milliseconds())
		}
		return nil
	case s.cl.Context().Err() != nil:
		return ErrClosed
	case ctx.Err() != nil && last != nil && !errors.Is(err, last):
		return fmt.Errorf("%w, after: %w", ctx.Err(), last)
	}
	return err
}

func (s *session) close() { s.l.closeSession(s) }
