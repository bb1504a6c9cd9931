package devkafka

import (
	"encoding/json"
	"fmt"
	"math"
	"path/filepath"
)

// kfakeSequences is the file in which kfake keeps, on an orderly stop only, the last sequence numbers of each producer.
const kfakeSequences = "seq_windows.json"

// windows are the last batches of each producer in each partition, as kfake would hold them had it not been killed. Read back
// from the log, they let a producer that outlives the broker send again what it had no answer to, and not have it twice; a
// file left from an earlier orderly stop would even have its next batch refused.
type windows map[windowKey]*window

type windowKey struct {
	producerID int64
	topic      string
	partition  int32
}

// windowBatches is how many batches a producer may have in flight, and kfake remembers.
const windowBatches = 5

// window is kfake's record of one producer in one partition, in kfake's own file format, version 1. Entries are a ring.
type window struct {
	ProducerID int64                     `json:"pid"`
	Topic      string                    `json:"topic"`
	Partition  int32                     `json:"partition"`
	Entries    [windowBatches]windowItem `json:"entries"`
	Count      uint8                     `json:"count"`
	At         uint8                     `json:"at"`
	Epoch      int16                     `json:"epoch"`
	Seen       bool                      `json:"seen"`
	Next       int32                     `json:"next_seq"`
}

type windowItem struct {
	First  int32 `json:"first_seq"`
	Next   int32 `json:"next_seq"`
	Offset int64 `json:"offset"`
}

// add takes in a batch, in log order. Markers are the broker's own and have no sequence.
func (ws windows) add(topic string, partition int32, b batch) {
	if b.producerID < 0 || b.attributes&attrControl != 0 {
		return
	}
	key := windowKey{b.producerID, topic, partition}
	w := ws[key]
	if w == nil || w.Epoch != b.producerEpoch {
		w = &window{ProducerID: b.producerID, Topic: topic, Partition: partition, Epoch: b.producerEpoch, Seen: true}
		ws[key] = w
	}
	// kfake wraps at MaxInt32, not after it.
	w.Next = int32((int64(b.firstSequence) + int64(b.records)) % math.MaxInt32)
	w.Entries[w.At] = windowItem{First: b.firstSequence, Next: w.Next, Offset: b.baseOffset}
	w.At = (w.At + 1) % windowBatches
	w.Count = min(w.Count+1, windowBatches)
}

// save writes them where kfake looks.
func (ws windows) save(dir string) error {
	file := struct {
		Version int       `json:"version"`
		Windows []*window `json:"windows"`
	}{Version: kfakeVersion}
	for _, w := range ws {
		file.Windows = append(file.Windows, w)
	}
	text, err := json.Marshal(file)
	if err != nil {
		return fmt.Errorf("encoding producer sequences: %w", err)
	}
	if err := replaceFile(filepath.Join(dir, kfakeSequences), text); err != nil {
		return fmt.Errorf("saving producer sequences: %w", err)
	}
	return nil
}
