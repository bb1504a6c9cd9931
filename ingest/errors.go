package ingest

import (
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemark-dev/tidemark/schemas/errcode"
)

var (
	// ErrClosed is the error of every call after Close, and of events that Close gave up.
	ErrClosed = errors.New("the producer is closed")
	// ErrRunEnded is the error of every call on a run that has been completed or has failed, or is about to.
	ErrRunEnded = errors.New("the run has ended")
	// ErrRunBroken is wrapped by Complete and Checkpoint when an event of the run did not reach the log: what remains is Fail.
	ErrRunBroken = errors.New("an event of the run is lost")
	// ErrRefused is wrapped by Complete when a run that deletes what is missing had to refuse writes: those records are at the source,
	// and would be deleted.
	ErrRefused = errors.New("records whose last write was refused would be deleted")
)

// classify gives what the broker answered a code where the user can do something about it. bytes is the size of the event.
func classify(err error, bytes int) error {
	switch {
	case errors.Is(err, kgo.ErrClientClosed):
		return ErrClosed
	case errors.Is(err, kerr.MessageTooLarge), errors.Is(err, kerr.RecordListTooLarge):
		return &errcode.Error{Code: errcode.RecordTooLarge, Err: err, Detail: fmt.Sprintf(
			"The broker refused a batch with this event of %d bytes: the topic's max.message.bytes is below what record limit needs.", bytes)}
	case errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.UnknownTopicID):
		return &errcode.Error{Code: errcode.TopicDrift, Err: err, Detail: "The raw topic, or one of its partitions, is not there."}
	}
	return err
}

// codeOf is the metric label of a failure; the codes of classify bound it.
func codeOf(err error) string {
	var e *errcode.Error
	switch {
	case errors.As(err, &e):
		return string(e.Code)
	case errors.Is(err, ErrClosed):
		return "closed"
	}
	return "other"
}

func tooLarge(bytes, limit int) error {
	return errcode.New(errcode.RecordTooLarge, "It has %d bytes, at most %d are allowed.", bytes, limit)
}
