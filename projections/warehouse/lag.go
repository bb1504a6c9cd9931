package warehouse

import (
	"context"
	"fmt"
	"time"
)

// LagSample says how far a reader of the changes topic is behind in one partition.
type LagSample struct {
	Component  string // what lags: "projector", or another reader
	Generation int
	Partition  uint16
	At         time.Time
	LogStart   int64 // first offset that the topic has
	LogEnd     int64 // behind its last record
	Position   int64 // behind the last record that is stored
	Records    uint64
	Age        time.Duration // of the oldest record that is not stored; 0: there is none
	ToLoss     time.Duration // until the topic deletes a record that is not stored; negative: not known, or there is none
}

// InsertLag stores samples. A sample that is there twice does no harm.
func (w *Warehouse) InsertLag(ctx context.Context, samples ...LagSample) error {
	if len(samples) == 0 {
		return nil
	}
	component, generation, partition, at := newWords("component"), newUint32("generation"), newUint16("kpart"), newMillis("sampled_at")
	start, end, position := newInt64("log_start"), newInt64("log_end"), newInt64("position")
	records, age, loss := newUint64("lag_records"), newUint64("lag_ms"), newInt64("seconds_to_loss")
	for _, s := range samples {
		component.add(s.Component)
		generation.add(uint32(s.Generation))
		partition.add(s.Partition)
		at.add(s.At.UnixMilli())
		start.add(s.LogStart)
		end.add(s.LogEnd)
		position.add(s.Position)
		records.add(s.Records)
		age.add(uint64(max(0, s.Age.Milliseconds())))
		seconds := int64(-1)
		if s.ToLoss >= 0 {
			seconds = int64(s.ToLoss / time.Second)
		}
		loss.add(seconds)
	}
	t := newLayout("lag_samples", component, generation, partition, at, start, end, position, records, age, loss)
	if err := w.insertShared(ctx, &t); err != nil {
		return fmt.Errorf("storing lag: %w", err)
	}
	return nil
}
