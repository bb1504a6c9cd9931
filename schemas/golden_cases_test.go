package schemas_test

import (
	"math"
	"strings"

	"github.com/tidemark-dev/tidemark/schemas/errcode"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

var (
	brands = stream.ID{Environment: "dev", Integration: "demo", Connection: "acme", Model: "Brand", Variant: "base"}
	// exotic needs escapes in keys and in JSON.
	exotic = stream.ID{Environment: "prod/eu", Integration: "hub spot", Connection: "Ærø & \"Sønner\"", Model: "日本", Variant: "a~b-c._"}
)

func ptr[T any](v T) *T { return &v }

var streamCases = []goldenCase{
	{"plain", "names of letters and digits are their own spelling", brands},
	{"exotic", "slashes, spaces, quotes and bytes above ASCII are percent-encoded, the unreserved four are not", exotic},
	{"percent", "a percent sign is encoded, so no name can look like an encoded one", stream.ID{
		Environment: "%41", Integration: "100%", Connection: "+", Model: "%25", Variant: "%2F",
	}},
	{"control-characters", "anything but NUL may be in a name", stream.ID{
		Environment: "\x01", Integration: "tab\there", Connection: "line\nbreak", Model: "\x7f", Variant: "\u2028",
	}},
	{"longest", "a name has up to 255 bytes before encoding", stream.ID{
		Environment: strings.Repeat("e", 255), Integration: strings.Repeat("é", 127) + "x", Connection: "~p", Model: strings.Repeat("/", 255), Variant: "v",
	}},
}

var recordKeyCases = []goldenCase{
	{"number", "ids that were numbers are their decimal text", recordKey{brands.Key(), "12345"}},
	{"unicode", "an id is any UTF-8", recordKey{brands.Key(), "Crème brûlée 💥"}},
	{"reserved", "the id is one part of the key, whatever it holds", recordKey{exotic.Key(), `a/b%2F"\` + "\n"}},
	{"longest", "an id has up to 512 bytes before encoding", recordKey{brands.Key(), strings.Repeat("é", 256)}},
}

var partitionCases = []goldenCase{
	{"one", "one partition takes everything", partitionFields{brands.Key(), 1}},
	{"eight", "the default count", partitionFields{brands.Key(), 8}},
	{"sixty-four", "another stream of the same connection", partitionFields{"dev/demo/acme/Contact/base", 64}},
	{"encoded", "the key is hashed as it is written, percent signs and all", partitionFields{exotic.Key(), 256}},
	{"odd", "the count need not be a power of two", partitionFields{"prod/hubspot/c_1/Contact/base", 7}},
	{"hash", "with the largest count the partition is the hash itself, without its sign", partitionFields{"foobar", math.MaxInt32}},
}

const brandJSON = `{"title": "Café \u00e9",  "url":"https://example.com/?a=1&b=<2>", "n":1.0}`

var rawCases = []goldenCase{
	{"save", "a whole record, in a run; the payload is any spelling of JSON", rawFields{
		Stream: brands, Type: "s", ID: "Café", Run: 12, N: 1, Value: ptr(brandJSON),
	}},
	{"save-outside-a-run", "a save without a run, as from a webhook", rawFields{Stream: brands, Type: "s", ID: "1", Value: ptr(`{"id":1}`)}},
	{"save-all-headers", "merging strategy and schema version", rawFields{
		Stream: exotic, Type: "s", ID: `a/b "c"`, Run: math.MaxUint64, N: math.MaxUint64, CAS: ptr(uint64(0)), Schema: "Brand@sha256:ab12", Value: ptr(`{}`),
	}},
	{"update", "a partial record, and members to remove", rawFields{
		Stream: brands, Type: "u", ID: "1", Run: 12, N: 2, CAS: ptr(uint64(90417)), Remove: `["/old","/a/b"]`, Value: ptr(`{"n":null}`),
	}},
	{"delete", "a delete has no value", rawFields{Stream: brands, Type: "d", ID: "1", Run: 12, N: 3}},
	{"run-started", "every member of the value may be absent", rawFields{Stream: brands, Type: "b", Run: 12, Value: ptr(`{}`)}},
	{"run-completed", "with its count of ordinals", rawFields{
		Stream: brands, Type: "e", Run: 12, Value: ptr(`{"delete_missing":true,"events":3}`),
	}},
	{"run-failed", "with the reason, for a person", rawFields{Stream: brands, Type: "x", Run: 12, Value: ptr(`{"error":"HTTP 503 from the source"}`)}},
	{"clear", "forget everything", rawFields{Stream: brands, Type: "c", Value: ptr(`{"mode":"hard"}`)}},
	{"prune", "remove old payloads", rawFields{Stream: brands, Type: "p", Value: ptr(`{"until_csn":90417}`)}},
	{"checkpoint", "the author's state, any JSON", rawFields{Stream: brands, Type: "k", Run: 12, N: 4, Value: ptr(`["2026-01-01T00:00:00Z", 7]`)}},
	{"decision", "on a held deletion", rawFields{Stream: brands, Type: "h", Value: ptr(`{"run":12,"decision":"approve","by":"ann"}`)}},
}

var rawValueCases = []goldenCase{
	{"run-started-defaults", "absent members mean true", rawValue{RunStarted: &event.RunStart{}}},
	{"run-started", "beside other runs, without deletion detection", rawValue{RunStarted: &event.RunStart{
		TrackDeletes: ptr(false), Fence: ptr(false), Sync: "brands <full>",
	}}},
	{"run-completed-defaults", "nothing is deleted", rawValue{RunCompleted: &event.RunEnd{}}},
	{"run-completed", "an empty run may delete everything", rawValue{RunCompleted: &event.RunEnd{
		DeleteMissing: true, Events: math.MaxUint64, AllowEmpty: true, MaxDeleteRatio: ptr(0.25),
	}}},
	{"run-failed", "with the reason, for a person", rawValue{RunFailed: &event.RunFailure{Error: "line 1\nline \"2\""}}},
	{"clear-soft", "with a DELETED for every record", rawValue{Clear: &event.Clear{Mode: event.ClearSoft}}},
	{"clear-hard", "without DELETED events", rawValue{Clear: &event.Clear{Mode: event.ClearHard}}},
	{"prune", "up to and including a csn", rawValue{Prune: &event.Prune{UntilCSN: 90417}}},
	{"decision-approve", "delete what is held", rawValue{Decision: &event.Decision{Run: 12, Decision: event.DecisionApprove, By: "ann"}}},
	{"decision-discard", "delete nothing", rawValue{Decision: &event.Decision{Run: 12, Decision: event.DecisionDiscard}}},
}

const (
	hashA   = "000102030405060708090a0b0c0d0e0f"
	hashB   = "fffefdfcfbfaf9f8f7f6f5f4f3f2f1f0"
	digestA = "8d3c1a7f0e55aa009977deadbeef0001"
	now     = 1795212422123 // 2026-11-20T22:07:02.123Z
)

// inGroup is a record of stream 7 inside a group, without a record section.
func inGroup(csn uint64) metaFields {
	return metaFields{Term: 3, Nonce: 0xdeadbeef, CSN: csn, GI: 1, SID: 7, RawOffset: 2345678, TS: now, Run: 12}
}

func (f metaFields) commit(n uint64, rawNext int64) metaFields {
	f.Commit = &metaCommit{n, rawNext}
	return f
}

func (f metaFields) record(prev uint64, firstSeen int64, hash string, rev, live uint64) metaFields {
	f.Record = &metaRecord{PrevCSN: prev, FirstSeen: firstSeen, Algo: event.AlgoXXH3, Hash: hash, Rev: rev, Live: live, Digest: digestA}
	return f
}

func (f metaFields) payload(offset, length uint64) metaFields {
	r := *f.Record
	r.Offset, r.Length = offset, length
	f.Record = &r
	return f
}

var metaCases = []goldenCase{
	{"term", "TERM takes no csn, and no raw event is behind it", metaFields{Term: 4, Nonce: 1, RawOffset: -1, TS: now}},
	{"control", "a control record inside a group", inGroup(90417)},
	{"commit", "the end of a group", inGroup(90417).commit(2, 2345700)},
	{"partition", "about the whole partition: stream number 0, no raw event, no run", metaFields{Term: 3, CSN: 1, RawOffset: -1, TS: now}},
	{"added", "the first version of a record: no previous csn, first seen now", inGroup(90417).record(0, now, hashA, 1, 1).payload(165, 802)},
	{"updated", "a later version", inGroup(90417).record(4711, now-86_400_000, hashB, 2, 43600).payload(167, 802)},
	{"updated-at-once", "the previous version is the record in front", inGroup(90417).record(90416, now, hashB, 2, 1).payload(167, 802)},
	{"deleted-pruned", "a delete without a payload", inGroup(90417).record(1, now-1, hashB, 3, 0)},
	{"record-and-commit", "both sections", inGroup(90417).commit(1, 2345679).record(0, now, hashA, 1, 1).payload(165, 2)},
	{"clock-set-back", "first seen after the change, as far as the clock knows", inGroup(2).record(1, now+5000, hashA, 2, 1).payload(165, 2)},
	{"smallest", "every field 0", metaFields{}.commit(0, 0).record(0, 0, strings.Repeat("00", 16), 0, 0)},
	{"largest", "every field at its bound", metaFields{
		Term: math.MaxUint64, Nonce: math.MaxUint32, CSN: math.MaxUint64, GI: math.MaxUint64, SID: math.MaxUint32,
		RawOffset: math.MaxInt64 - 1, TS: math.MaxInt64, Run: math.MaxUint64,
	}.commit(math.MaxUint64, math.MaxInt64).record(1, 0, strings.Repeat("ff", 16), math.MaxUint64, math.MaxUint64).payload(math.MaxUint64, math.MaxUint64)},
}

var changeCases = []goldenCase{
	{"added", "the payload is spliced in as it was written, white space, escapes and number spelling included", changeFields{
		Op: event.OpAdded, Partition: 3, Stream: brands, ID: "Café", Payload: ptr(brandJSON), Meta: inGroup(90417).record(0, now, hashA, 1, 1),
	}},
	{"added-outside-a-run", "run is 0", changeFields{
		Op: event.OpAdded, Stream: brands, ID: "1", Payload: ptr(`{"id":1}`),
		Meta: metaFields{Term: 1, Nonce: 9, CSN: 1, SID: 1, TS: now}.commit(1, 1).record(0, now, hashA, 1, 1),
	}},
	{"added-again", "a record that comes back goes on counting, and is first seen anew", changeFields{
		Op: event.OpAdded, Partition: 3, Stream: brands, ID: "1", Payload: ptr(`{"id":1}`), Meta: inGroup(90417).record(90001, now, hashA, 4, 17),
	}},
	{"added-exotic", "names and ids that JSON must escape, and a schema version", changeFields{
		Op: event.OpAdded, Partition: 255, Stream: exotic, ID: "💥 \"quoted\" \\ / \n\x01\x7f\u2028", Payload: ptr(`{}`), Schema: `Brand "v2"`,
		Meta: inGroup(90417).record(0, now, hashA, 1, 1),
	}},
	{"updated", "without the payload before", changeFields{
		Op: event.OpUpdated, Partition: 3, Stream: brands, ID: "1", Payload: ptr(`{"id":1,"n":2}`), Changed: []string{"n", "Ünï \"c\""},
		Meta: inGroup(90417).record(4711, now-86_400_000, hashB, 2, 43600),
	}},
	{"updated-before-full", "with the payload before", changeFields{
		Op: event.OpUpdated, Partition: 3, Stream: brands, ID: "1", Payload: ptr(`{"id":1,"n":2}`), Before: ptr(`{"id" : 1}`), Changed: []string{"n"},
		Meta: inGroup(90417).commit(2, 2345679).record(4711, now-86_400_000, hashB, 2, 43600),
	}},
	{"updated-changed-unknown", "which members differ is not known: null", changeFields{
		Op: event.OpUpdated, Partition: 3, Stream: brands, ID: "1", Payload: ptr(`{"id":1}`), Meta: inGroup(90417).record(4711, now-1, hashB, 2, 1),
	}},
	{"updated-changed-none", "it is known that no top-level member differs: an empty list", changeFields{
		Op: event.OpUpdated, Partition: 3, Stream: brands, ID: "1", Payload: ptr(`{"id":1}`), Changed: []string{},
		Meta: inGroup(90417).record(4711, now-1, hashB, 2, 1),
	}},
	{"deleted", "the last payload is in before", changeFields{
		Op: event.OpDeleted, Partition: 3, Stream: brands, ID: "1", Payload: ptr(`{"id":1}`), Meta: inGroup(90417).record(4711, now-86_400_000, hashB, 3, 43599),
	}},
	{"deleted-pruned", "the last payload had been pruned", changeFields{
		Op: event.OpDeleted, Partition: 3, Stream: brands, ID: "1", Meta: inGroup(90417).record(4711, 0, hashB, 3, 0),
	}},
	{"updated-received", "it is known when the raw event came in", changeFields{
		Op: event.OpUpdated, Partition: 3, Stream: brands, ID: "1", Payload: ptr(`{"id":1,"changed":["x"],"source":{"ts_ms":1}}`),
		Changed: []string{`,"source":{"ts_ms":1}`, "changed"}, Schema: `,"ts_ms":7`, Received: now - 42,
		Meta: inGroup(90417).record(4711, now-86_400_000, hashB, 2, 43600),
	}},
	{"deleted-by-a-run", "a record that a full run did not save: no raw event is behind it", changeFields{
		Op: event.OpDeleted, Partition: 3, Stream: brands, ID: "1", Payload: ptr(`{}`),
		Meta: metaFields{Term: 3, Nonce: 1, CSN: 90417, SID: 7, RawOffset: -1, TS: now, Run: 12}.commit(1, 2345679).record(4711, now-1, hashB, 2, 0),
	}},
}

var restoredCases = []goldenCase{
	{"restored", "the payload of a pruned record is back", changeFields{
		Op: event.OpRestored, Partition: 3, Stream: exotic, ID: `"1"`, Payload: ptr(brandJSON), Meta: inGroup(90417).record(4711, now-86_400_000, hashB, 2, 43600),
	}},
}

// about is a control record of stream brands, or of the partition if the op is about that.
func about(c event.Control) controlFields {
	c.V, c.Partition, c.TSMillis = 1, 3, now
	m := inGroup(90417)
	m.Run = c.Run
	return controlFields{c, m}
}

var counts = event.RunCounts{Added: 1, Updated: 2, Deleted: 3, Unchanged: 4, Skipped: 5, NotFound: 6, DeadLettered: 7}

var controlCases = []goldenCase{
	{"term", "a writer takes over", controlFields{
		event.Control{V: 1, Op: event.OpTerm, Partition: 3, TSMillis: now, Term: 4, Nonce: 0xdeadbeef, Node: "node-1"},
		metaFields{Term: 4, Nonce: 0xdeadbeef, RawOffset: -1, TS: now},
	}},
	{"run-started", "with what it asks for", about(event.Control{
		Op: event.OpRunStarted, Stream: &brands, Run: 12, Sync: "brands", TrackDeletes: true, Fence: true, StartedMS: now, Records: 43600,
	})},
	{"run-completed", "nothing was missing", about(event.Control{
		Op: event.OpRunCompleted, Stream: &brands, Run: 12, Sync: "brands", StartedMS: now - 60_000, Counts: &counts, Outcome: event.OutcomeCompleted, Events: 28,
	})},
	{"run-completed-sweeping", "deletions follow", about(event.Control{
		Op: event.OpRunCompleted, Stream: &brands, Run: 12, StartedMS: now - 60_000, Counts: &counts, Outcome: event.OutcomeSweeping, ToDelete: 17, Events: 28,
	})},
	{"run-completed-held", "deletions wait for a decision", about(event.Control{
		Op: event.OpRunCompleted, Stream: &brands, Run: 12, Counts: &event.RunCounts{}, Outcome: event.OutcomeHeld, ToDelete: 43600,
		Reason: string(errcode.HeldEmpty), Detail: "43600 of 43600 records", Events: 0,
	})},
	{"run-failed", "the sync function said so", about(event.Control{
		Op: event.OpRunFailed, Stream: &brands, Run: 12, Counts: &counts, Outcome: event.OutcomeFailed, Reason: string(errcode.RunProducerError),
		Detail: "HTTP 503 & <nothing>",
	})},
	{"run-interrupted", "a newer run began", about(event.Control{
		Op: event.OpRunFailed, Stream: &brands, Run: 12, Outcome: event.OutcomeInterrupted, Reason: string(errcode.RunSuperseded), Detail: "by run 13",
	})},
	{"swept", "all deletions of a run are written", about(event.Control{Op: event.OpSwept, Stream: &brands, Run: 12, UntilCSN: 90000, Records: 17})},
	{"released-approve", "a held deletion goes ahead", about(event.Control{
		Op: event.OpReleased, Stream: &brands, Run: 12, Decision: event.DecisionApprove, By: "ann", ToDelete: 17,
	})},
	{"released-discard", "a held deletion is dropped", about(event.Control{
		Op: event.OpReleased, Stream: &brands, Run: 12, Decision: event.DecisionDiscard, By: "newer run",
	})},
	{"checkpoint", "the author's state", about(event.Control{
		Op: event.OpCheckpoint, Stream: &brands, Run: 12, State: []byte(`{"since":"2026-01-01T00:00:00Z","n":1.0,"s":"<é>"}`),
	})},
	{"checkpoint-null", "a state of null is a state", about(event.Control{Op: event.OpCheckpoint, Stream: &exotic, State: []byte(`null`)})},
	{"cleared-hard", "everything is gone at once", about(event.Control{Op: event.OpCleared, Stream: &brands, Mode: event.ClearHard, Records: 43600})},
	{"cleared-soft", "DELETED events follow", about(event.Control{Op: event.OpCleared, Stream: &brands, Mode: event.ClearSoft, Records: 43600})},
	{"pruned", "payloads of a stream", about(event.Control{Op: event.OpPruned, Stream: &brands, UntilCSN: 90000})},
	{"pruned-partition", "payloads of the whole partition", about(event.Control{Op: event.OpPruned, UntilCSN: 90000})},
	{"purged", "by retention", about(event.Control{Op: event.OpPurged, Stream: &brands, Records: 1})},
	{"dead-lettered", "a raw event could not be applied", about(event.Control{
		Op: event.OpDeadLettered, Stream: &brands, Run: 12, Reason: string(errcode.RawInvalidPayload), Detail: "payload is an array",
		RawOffset: ptr(int64(2345678)), RecordID: "1",
	})},
	{"dead-lettered-without-stream", "its key names none; the offset may be 0", about(event.Control{
		Op: event.OpDeadLettered, Reason: string(errcode.RawInvalidKey), RawOffset: ptr(int64(0)),
	})},
	{"gap", "raw events were lost", about(event.Control{Op: event.OpGap, RawOffset: ptr(int64(100)), RawUntil: 200})},
	{"seal", "the end of a generation", about(event.Control{Op: event.OpSeal})},
	{"model-options", "from here on some members make no change", about(event.Control{
		Op: event.OpModelOptions, Stream: &brands, Fingerprint: 0x37fd97d6, Ignored: []string{"/a/*/etag", "/lastSeen", "/æ~1ø"},
	})},
	{"model-options-defaults", "back to the defaults", about(event.Control{Op: event.OpModelOptions, Stream: &brands})},
	{"model-options-largest", "a fingerprint of all bits; the list is too long to be told", about(event.Control{
		Op: event.OpModelOptions, Stream: &exotic, Fingerprint: math.MaxUint32,
	})},
}

var deadLetterCases = []goldenCase{
	{"plain", "the four headers, then those of the raw event", deadLetterFields{
		errcode.RawInvalidPayload, "payload is an array, not \"an object\"", 3, 2345678, []header{{"t", "s"}, {"id", "Café"}, {"run", "12"}, {"n", "7"}},
	}},
	{"no-headers", "a raw event without any", deadLetterFields{errcode.RawUnknownType, "header t is missing", 0, 0, []header{}}},
	{"twice", "a dead letter that was written to raw as it is, and died again: both reasons are there, the newer first", deadLetterFields{
		errcode.RawUnknownType, "", 1, 9, []header{
			{"dlq.code", "raw.unknown_type"}, {"dlq.detail", "header t is missing"}, {"dlq.partition", "1"}, {"dlq.offset", "8"}, {"x", ""},
		},
	}},
}

var cursorCases = []goldenCase{
	{"start", "nothing is read yet", cursorFields{Offset: -1, Tag: "00000000"}},
	{"plain", "a change of term 3", cursorFields{90417, 99123, 3, 3, "deadbeef"}},
	{"next", "sorts behind the one before it", cursorFields{90418, 99124, 3, 3, "deadbeef"}},
	{"offset-unknown", "the Kafka position is not known", cursorFields{90417, -1, 3, 3, "deadbeef"}},
	{"largest", "every field at its bound", cursorFields{math.MaxUint64, math.MaxInt64 - 1, math.MaxInt32, math.MaxUint32, "ffffffff"}},
}

var tagCases = []goldenCase{
	{"plain", "of a stream", tagFields{brands.Key(), "01JD0000000000000000000000"}},
	{"other-stream", "differs", tagFields{exotic.Key(), "01JD0000000000000000000000"}},
	{"other-lineage", "differs", tagFields{brands.Key(), "another"}},
}

var topicCases = []goldenCase{
	{"default", "the first generation", topicFields{"tidemark", 1, 8}},
	{"generation-12", "later generations have a suffix", topicFields{"eu-1.tidemark_x", 12, 256}},
}
