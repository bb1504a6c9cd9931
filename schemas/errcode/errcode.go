package errcode

import (
	"fmt"
	"sort"
)

// Code is a stable, dotted error code.
type Code string

// Raw events that cannot be applied; they go to the dead-letter topic.
const (
	RawUnknownType    Code = "raw.unknown_type"
	RawInvalidHeader  Code = "raw.invalid_header"
	RawInvalidID      Code = "raw.invalid_id"
	RawInvalidKey     Code = "raw.invalid_key"
	RawInvalidValue   Code = "raw.invalid_value"
	RawInvalidPayload Code = "raw.invalid_payload"
	RawPayloadPruned  Code = "raw.payload_pruned"
	RawWrongPartition Code = "raw.wrong_partition"
	RawTooLarge       Code = "raw.too_large"
	RawUnknownRun     Code = "raw.unknown_run"
)

// Why deletions of a run are held, or a run ended without them.
const (
	HeldIncomplete   Code = "held.incomplete"
	HeldEmpty        Code = "held.empty"
	HeldRatio        Code = "held.ratio"
	HeldRetention    Code = "held.retention"
	HeldDeadLetters  Code = "held.dead_letters"
	RunSuperseded    Code = "run.superseded"
	RunExpired       Code = "run.expired"
	RunStale         Code = "run.stale"
	RunNotHeld       Code = "run.not_held"
	RunProducerError Code = "run.failed"
)

// HTTP and command line.
const (
	CursorMalformed      Code = "cursor.malformed"
	CursorForeign        Code = "cursor.foreign"
	CursorAhead          Code = "cursor.ahead_of_log"
	CursorExpired        Code = "cursor.expired"
	InvalidQuery         Code = "invalid_query_params"
	InvalidHeaders       Code = "invalid_headers"
	InvalidBody          Code = "invalid_body"
	UnknownConnection    Code = "unknown_connection"
	UnknownRoute         Code = "unknown_route"
	MethodNotAllowed     Code = "method_not_allowed"
	NotReady             Code = "not_ready"
	ServerError          Code = "server_error"
	RecordTooLarge       Code = "record_too_large"
	DataDirLocked        Code = "data_dir.locked"
	DiskFull             Code = "disk.full"
	PartitionHalted      Code = "partition.halted"
	TopicDrift           Code = "topic.drift"
	Unreachable          Code = "kafka.unreachable"
	AddressNotLoopback   Code = "listen.not_loopback"
	RunTimeout           Code = "run.timeout"
	UnknownHeldRun       Code = "held.unknown_run"
	UnsupportedOperation Code = "unsupported"
)

// Observability.
const (
	ObservabilityOff     Code = "observability.off"
	ObservabilityAway    Code = "observability.away"
	ObservabilityTooMuch Code = "observability.too_much"
	UnknownRecord        Code = "history.unknown_record"
	UnknownVersion       Code = "history.unknown_version"
	PayloadGone          Code = "history.payload_gone"
	HistoryExpired       Code = "history.expired"
)

// Info is what is known of a code. Status is 0 where the code never leaves over HTTP.
type Info struct {
	Code    Code
	Status  int
	Message string
	Hint    string
}

var registry = map[Code]Info{}

func register(code Code, status int, message, hint string) {
	if _, ok := registry[code]; ok {
		panic("errcode: registered twice: " + string(code))
	}
	registry[code] = Info{code, status, message, hint}
}

func init() {
	register(RawUnknownType, 0, "The raw event has no known type.", "Set header t to one of s, u, d, b, e, x, c, p, k, h.")
	register(RawInvalidHeader, 0, "A header of the raw event is malformed.", "Compare the headers with the table of raw events in the documentation of schemas/event.")
	register(RawInvalidID, 0, "The record id is empty, too long or not text.", "Ids are 1 to 512 bytes of UTF-8 without NUL; send numbers as their decimal text.")
	register(RawInvalidKey, 0, "The Kafka key is not a stream key.", "Use environment/integration/connection/model/variant, each part percent-encoded.")
	register(RawInvalidValue, 0, "The value of a control event is malformed.", "Send the JSON object that the event type asks for.")
	register(RawInvalidPayload, 0, "The payload is not a JSON object.", "Send one JSON object a record; wrap other values in an object.")
	register(RawPayloadPruned, 0, "A partial update met a record whose payload has been pruned.", "Save the whole record instead of an update.")
	register(RawWrongPartition, 0, "The event is not in the partition of its stream.", "Partition by murmur2 of the key: the default of the Java client and franz-go, partitioner=murmur2_random in librdkafka.")
	register(RawTooLarge, 0, "The record is larger than the limit.", "Split the record or raise the record limit of the topics.")
	register(RawUnknownRun, 0, "The event names a run that has not started.", "Write the run.started event before the events of the run.")

	register(HeldIncomplete, 0, "Not every event of the run has arrived.", "Run the sync again; the next complete run finds the same deletions.")
	register(HeldEmpty, 0, "The run saved nothing.", "If the source is really empty, complete the run with allow_empty, or approve the deletion.")
	register(HeldRatio, 0, "The run would delete more than the allowed share of the live records.", "Look at the list, then approve or discard it; raise max_delete_ratio if this is normal.")
	register(HeldRetention, 0, "Part of the run's raw events were lost to retention.", "Run the sync again.")
	register(HeldDeadLetters, 0, "More than 1 % of the run's events were dead-lettered.", "Mend what the dead letters name, then run the sync again.")
	register(RunSuperseded, 0, "A newer run of the stream began.", "Nothing to do: the newer run decides.")
	register(RunExpired, 0, "The run did not end in time.", "Start a new run; run limits are in the configuration.")
	register(RunStale, 0, "The run is older than the newest run of its stream.", "Give runs of a stream rising sequences.")
	register(RunNotHeld, 0, "The run holds no deletion.", "List the held deletions first.")
	register(RunProducerError, 0, "The sync function reported a failure.", "See the detail of the run.")

	register(CursorMalformed, 400, "The cursor is malformed.", "Send a cursor exactly as it was returned, or none to start from the beginning.")
	register(CursorForeign, 400, "The cursor belongs to another stream.", "Keep one cursor per connection, model and variant.")
	register(CursorAhead, 400, "The cursor is ahead of the log.", "It comes from another installation or from data that was lost; start again without a cursor.")
	register(CursorExpired, 410, "The cursor is from a generation of the log that is gone.", "Start again without a cursor.")
	register(InvalidQuery, 400, "A query parameter is malformed.", "Compare the parameters with the documentation of the route.")
	register(InvalidHeaders, 400, "A header is missing or malformed.", "Send Connection-Id and Provider-Config-Key.")
	register(InvalidBody, 400, "The body is malformed.", "Compare the body with the documentation of the route.")
	register(UnknownConnection, 400, "No event or run has named this connection.", "Check Connection-Id and Provider-Config-Key; a connection is known from its first event on.")
	register(UnknownRoute, 404, "There is no such route.", "See the routes in the documentation.")
	register(MethodNotAllowed, 405, "The route does not take this method.", "See the routes in the documentation.")
	register(NotReady, 503, "The partition of this stream is still catching up.", "Try again shortly; /readyz tells what it waits for.")
	register(ServerError, 500, "Something went wrong on our side.", "Try again; the log has the details under the request id.")
	register(RecordTooLarge, 413, "The record is larger than the limit.", "Split the record or raise the record limit.")
	register(DataDirLocked, 0, "Another process uses the data directory.", "Stop the other process, or choose another directory with --data.")
	register(DiskFull, 507, "The disk is nearly full.", "Free some space; writing goes on by itself.")
	register(PartitionHalted, 503, "The partition stopped because its log breaks an invariant.", "Keep the data, see the log for the record named there, and ask for help: going on could corrupt data.")
	register(TopicDrift, 0, "A topic does not have the settings it needs.", "Run topics to see the difference and the command that mends it.")
	register(Unreachable, 503, "No broker can be reached.", "Check --kafka and that the broker is running.")
	register(AddressNotLoopback, 0, "The address is reachable from outside.", "There are no API keys yet: listen on 127.0.0.1, or pass --insecure-listen if the network is safe.")
	register(RunTimeout, 504, "The run was not processed in time.", "See that the processor is running and not lagging, then look at runs.")
	register(UnknownHeldRun, 404, "There is no such held deletion.", "List the held deletions first.")
	register(UnsupportedOperation, 400, "The operation is not supported here.", "See the documentation of the command.")

	register(ObservabilityOff, 503, "There are no projections here to ask.", "Install npm, so that up can fetch its ClickHouse, or start up with --clickhouse DSN; the history is caught up from the log.")
	register(ObservabilityAway, 503, "ClickHouse does not answer, or its tables are not there yet.", "Try again shortly: changes wait in the log meanwhile, and nothing is lost.")
	register(ObservabilityTooMuch, 422, "The question takes too much time or memory.", "Ask for less time, or for fewer streams: name an integration, connection or model.")
	register(UnknownRecord, 404, "No change of this record is known.", "Check integration, connection, model, variant and id; what is older than the retention of history is not kept.")
	register(UnknownVersion, 404, "The record has no such version.", "Take csns from the history of the record.")
	register(PayloadGone, 410, "The changes topic does not hold the payload of this version any more.", "The history still names the fields that changed; a longer retention of the changes topic keeps payloads longer.")
	register(HistoryExpired, 410, "The kept history of this record does not reach back that far.", "Ask for a later time: the oldest one is in the history of the record.")
}

// Lookup returns what is known of a code, and whether it is registered.
func Lookup(code Code) (Info, bool) {
	i, ok := registry[code]
	return i, ok
}

// All returns every registered code, sorted.
func All() []Info {
	out := make([]Info, 0, len(registry))
	for _, i := range registry {
		out = append(out, i)
	}
	sort.Slice(out, func(a, b int) bool { return out[a].Code < out[b].Code })
	return out
}

// Error is an error with a registered code, for whoever has to show it to a user.
type Error struct {
	Code   Code
	Detail string // what exactly was wrong; shown to the user
	Err    error  // cause; for the log, not for the user
}

// New returns an Error. detail is a format.
func New(code Code, detail string, args ...any) *Error {
	return &Error{Code: code, Detail: fmt.Sprintf(detail, args...)}
}

func (e *Error) Error() string {
	s := string(e.Code) + ": " + registry[e.Code].Message
	if e.Detail != "" {
		s += " " + e.Detail
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// Hint is what the user can do.
func (e *Error) Hint() string { return registry[e.Code].Hint }
