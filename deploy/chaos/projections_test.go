package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemark-dev/tidemark/deploy/devclickhouse"
	"github.com/tidemark-dev/tidemark/deploy/devclickhouse/chtest"
	"github.com/tidemark-dev/tidemark/projections/follow"
	"github.com/tidemark-dev/tidemark/schemas/event"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

const (
	projectionRunsDefault = 3
	projectionsWait       = 2 * time.Minute
)

// query asks the site's ClickHouse and returns lines of tab-separated values.
func (s *site) query(sql string) ([]string, error) {
	login, err := devclickhouse.Lookup(filepath.Join(s.dir, "clickhouse"), false)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, "http://"+login.Addr+"/?database=tidemark&default_format=TabSeparated", strings.NewReader(sql))
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-ClickHouse-User", login.User)
	req.Header.Set("X-ClickHouse-Key", login.Password)
	resp, err := httpClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%d %s", resp.StatusCode, text)
	}
	if len(text) == 0 {
		return nil, nil
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n"), nil
}

// engine is the process id of the site's ClickHouse; 0: there is none.
func (s *site) engine() int {
	if s.proc == nil {
		return 0
	}
	list, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", s.proc.cmd.Process.Pid, s.proc.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	// A child is listed under the thread that started it.
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", s.proc.cmd.Process.Pid))
	for _, path := range tasks {
		more, _ := os.ReadFile(path)
		list = append(append(list, ' '), more...)
	}
	for _, text := range bytes.Fields(list) {
		if pid, err := strconv.Atoi(string(text)); err == nil {
			return pid
		}
	}
	return 0
}

func (s *site) signalEngine(sig syscall.Signal) bool {
	pid := s.engine()
	return pid != 0 && syscall.Kill(pid, sig) == nil
}

// answer is what the changes topic says of each question, as lines; the views must say the same.
type answers map[string][]string

// questions are asked of the views. Every one is a function of the valid records of the changes topic.
var questions = map[string]string{
	"counts": `SELECT connection, model, records, added_total, updated_total, deleted_total, digest FROM v1_record_counts
		WHERE added_total + updated_total + deleted_total + restored_total > 0`,
	"streams": `SELECT connection, model, records, changes_total FROM v1_streams WHERE changes_total > 0`,
	"changes": `SELECT connection, model, action, count(), uniqExact(csn), sum(payload_bytes), sum(revision), sum(run % 1000) FROM v1_changes
		GROUP BY connection, model, action`,
	"minutes": `SELECT connection, model, toUnixTimestamp(bucket), added, updated, deleted, restored, unchanged, runs, runs_failed, bytes_written, bytes_max
		FROM v1_changes_per_minute`,
	"hours": `SELECT connection, model, toUnixTimestamp(bucket), added, updated, deleted, restored, unchanged, runs, runs_failed, bytes_written, bytes_max
		FROM v1_changes_hourly`,
	"days": `SELECT connection, model, toUnixTimestamp(bucket), added, updated, deleted, restored, unchanged, runs, runs_failed, bytes_written, bytes_max
		FROM v1_changes_daily`,
	"fields": `SELECT connection, model, field, updates FROM v1_field_changes(environment = 'dev', integration = '', connection = '', model = '', variant = '',
		since = toDateTime64('2000-01-01', 3, 'UTC'), until = toDateTime64('2100-01-01', 3, 'UTC'))`,
	"timeline": `SELECT connection, model, op, count(), sum(unchanged), sum(to_delete) FROM v1_timeline WHERE model != '' GROUP BY connection, model, op`,
	"runs":     `SELECT connection, model, uniqExact(run), sum(unchanged) FROM v1_runs GROUP BY connection, model`,
	"sizes":    `SELECT connection, model, toUnixTimestamp(bucket), changes, bytes, bytes_max FROM v1_payload_sizes WHERE changes > 0`,
}

// sums are what one stream, or one bucket of it, adds up to.
type sums struct{ added, updated, deleted, restored, unchanged, runs, failed, bytes, largest uint64 }

func (x *sums) line(prefix string) string {
	return fmt.Sprintf("%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d", prefix, x.added, x.updated, x.deleted, x.restored, x.unchanged, x.runs, x.failed, x.bytes, x.largest)
}

// expected reads the changes topic from its start, decoding every envelope, and adds up.
func (s *site) expected() answers {
	s.t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.kafka))
	must(s.t, err)
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListEndOffsets(s.t.Context(), s.names.Changes)
	must(s.t, err)
	type action struct {
		stream, op string
	}
	type tally struct{ n, bytes, revisions, runs uint64 }
	total := map[string]*sums{}
	buckets := [3]map[string]*sums{{}, {}, {}}
	live := map[string]string{}
	tallies := map[action]*tally{}
	fields := map[string]uint64{}
	control := map[string]*[3]uint64{}
	runs := map[string]map[uint64]uint64{}

	f, err := follow.New(follow.Config{Seeds: []string{s.kafka}, Names: s.names})
	must(s.t, err)
	at := func(m map[string]*sums, key string) *sums {
		if m[key] == nil {
			m[key] = new(sums)
		}
		return m[key]
	}
	ctx, cancel := context.WithCancel(s.t.Context())
	reading, stop := context.WithTimeout(ctx, projectionsWait)
	defer stop()
	go func() { // the last records may be takeovers and leftovers, which no group tells of
		defer cancel()
		for tick := time.NewTicker(10 * time.Millisecond); reading.Err() == nil; <-tick.C {
			positions := f.Positions()
			if len(positions) == int(s.partitions) && !slices.ContainsFunc(positions, func(p follow.Position) bool {
				end, ok := ends.Lookup(s.names.Changes, p.Partition)
				return !ok || p.Offset < end.Offset
			}) {
				return
			}
		}
	}()
	err = f.Run(ctx, func(g follow.Group) error {
		for i := range g.Records {
			rec := &g.Records[i]
			m := &rec.Meta
			var each func(*sums)
			var name string
			if rec.Op.IsChange() || rec.Op == event.OpRestored {
				var e event.Envelope
				var restored struct {
					Stream stream.ID `json:"stream"`
				}
				id := &e.Key.ID
				if rec.Op == event.OpRestored {
					must(s.t, json.Unmarshal(rec.Value, &restored))
					id = &restored.Stream
				} else {
					must(s.t, json.Unmarshal(rec.Value, &e))
				}
				name = id.Connection + "\t" + id.Model
				if rec.Op != event.OpRestored {
					live[name] = fmt.Sprintf("%d\t%x", m.Live, m.Digest)
				}
				k := action{name, strings.ToLower(rec.Op.String())}
				if tallies[k] == nil {
					tallies[k] = new(tally)
				}
				t := tallies[k]
				t.n, t.bytes, t.revisions, t.runs = t.n+1, t.bytes+m.PayloadLength, t.revisions+m.Rev, t.runs+m.Run%1000
				if rec.Op == event.OpUpdated {
					for _, field := range e.Changed {
						fields[name+"\t"+field]++
					}
				}
				each = func(x *sums) {
					switch rec.Op {
					case event.OpAdded:
						x.added++
					case event.OpUpdated:
						x.updated++
					case event.OpDeleted:
						x.deleted++
					default:
						x.restored++
					}
					x.bytes += m.PayloadLength
					x.largest = max(x.largest, m.PayloadLength)
				}
			} else {
				var c event.Control
				must(s.t, json.Unmarshal(rec.Value, &c))
				if c.Stream == nil {
					continue
				}
				name = c.Stream.Connection + "\t" + c.Stream.Model
				key := name + "\t" + rec.Op.String()
				if control[key] == nil {
					control[key] = new([3]uint64)
				}
				var unchanged uint64
				if c.Counts != nil {
					unchanged = c.Counts.Unchanged
				}
				control[key][0]++
				control[key][1] += unchanged
				control[key][2] += c.ToDelete
				if slices.Contains([]event.Op{event.OpRunStarted, event.OpRunCompleted, event.OpRunFailed, event.OpSwept, event.OpReleased}, rec.Op) && c.Run != 0 {
					if runs[name] == nil {
						runs[name] = map[uint64]uint64{}
					}
					runs[name][c.Run] = max(runs[name][c.Run], unchanged)
				}
				switch rec.Op {
				case event.OpCleared, event.OpPurged:
					if rec.Op == event.OpPurged || c.Mode == event.ClearHard {
						live[name] = fmt.Sprintf("0\t%032x", 0)
					}
				case event.OpRunCompleted, event.OpRunFailed:
					each = func(x *sums) {
						x.unchanged += unchanged
						x.runs++
						if rec.Op == event.OpRunFailed {
							x.failed++
						}
					}
				}
			}
			if each == nil {
				continue
			}
			each(at(total, name))
			for i, width := range []int64{60, 3600, 86400} {
				each(at(buckets[i], fmt.Sprintf("%s\t%d", name, m.TS/1000/width*width)))
			}
		}
		return nil
	})
	must(s.t, err)
	if errors.Is(reading.Err(), context.DeadlineExceeded) {
		s.t.Fatalf("the changes topic is not read after %s", projectionsWait)
	}

	a := answers{}
	add := func(question, format string, args ...any) {
		a[question] = append(a[question], fmt.Sprintf(format, args...))
	}
	for name, x := range total {
		if x.added+x.updated+x.deleted+x.restored > 0 {
			n, digest, _ := strings.Cut(live[name], "\t")
			add("counts", "%s\t%s\t%d\t%d\t%d\t%s", name, n, x.added, x.updated, x.deleted, digest)
			if x.added+x.updated+x.deleted > 0 {
				add("streams", "%s\t%s\t%d", name, n, x.added+x.updated+x.deleted)
			}
		}
	}
	for k, t := range tallies {
		add("changes", "%s\t%s\t%d\t%d\t%d\t%d\t%d", k.stream, k.op, t.n, t.n, t.bytes, t.revisions, t.runs)
	}
	for i, question := range []string{"minutes", "hours", "days"} {
		for key, x := range buckets[i] {
			a[question] = append(a[question], x.line(key))
			if i == 2 {
				if n := x.added + x.updated + x.deleted + x.restored; n > 0 {
					add("sizes", "%s\t%d\t%d\t%d", key, n, x.bytes, x.largest)
				}
			}
		}
	}
	for key, n := range fields {
		add("fields", "%s\t%d", key, n)
	}
	for key, c := range control {
		add("timeline", "%s\t%d\t%d\t%d", key, c[0], c[1], c[2])
	}
	for name, each := range runs {
		var unchanged uint64
		for n := range maps.Values(each) {
			unchanged += n
		}
		add("runs", "%s\t%d\t%d", name, len(each), unchanged)
	}
	for question := range a {
		slices.Sort(a[question])
	}
	return a
}

// checkProjections waits until the projections have everything, and holds every view against the topic.
func (s *site) checkProjections() {
	s.t.Helper()
	var want answers
	eventually(s.t, projectionsWait, func() string {
		want = s.expected() // which grows until the processor has decided everything
		missing := ""
		for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); pause(s.t, 100*time.Millisecond) {
			if missing = s.compare(want); missing == "" {
				return ""
			}
		}
		return missing
	})
	lines := 0
	for _, list := range want {
		lines += len(list)
	}
	s.t.Logf("%d views say what the topic says, in %d lines", len(questions), lines)
}

// compare says how the views differ from what they should say.
func (s *site) compare(want answers) string {
	for question, sql := range questions {
		have, err := s.query(sql)
		if err != nil {
			return question + ": " + err.Error()
		}
		slices.Sort(have)
		if slices.Equal(have, want[question]) {
			continue
		}
		differ := fmt.Sprintf("%s: %d lines, want %d", question, len(have), len(want[question]))
		for _, line := range have {
			if _, ok := slices.BinarySearch(want[question], line); !ok {
				differ += "\n  has   " + line
				break
			}
		}
		for _, line := range want[question] {
			if _, ok := slices.BinarySearch(have, line); !ok {
				differ += "\n  wants " + line
				break
			}
		}
		return differ
	}
	return ""
}

// TestProjections_AreWhatTheTopicSays kills the projector, with everything else of its process, kills the engine, and freezes it as if it
// were out of reach, at random, under load. In the end every view says what the changes topic says.
func TestProjections_AreWhatTheTopicSays(t *testing.T) {
	chtest.Library(t)
	rng := newRand(t)
	runs := projectionRunsDefault
	if testing.Short() {
		runs = 1
	}
	runs = setting(t, "TIDEMARK_CHAOS_PROJECTIONS", runs)
	kinds := map[string]int{}
	for range runs {
		s := newSite(t, t.TempDir(), partitionsUnderLoad)
		s.flags = []string{"--memory", memoryUnderLoad, "--no-projections=false", "--clickhouse-listen", freeAddr(t), "--clickhouse-memory", "600MiB"}
		s.log.allow("everything runs but the projections")
		sources, _ := workloads(rng, partitionsUnderLoad)
		s.start()
		f := newFeed(s, sources, rng, false)
		f.run()
		for range 3 + rng.IntN(4) {
			pause(t, between(rng, 50*time.Millisecond, 2500*time.Millisecond))
			switch rng.IntN(4) {
			case 0:
				kinds["projector killed"]++
				s.kill()
				s.spawn()
				s.waitReady()
			case 1:
				if s.signalEngine(syscall.SIGKILL) {
					kinds["engine killed"]++
				}
			case 2:
				if s.signalEngine(syscall.SIGSTOP) {
					kinds["engine out of reach"]++
					pause(t, between(rng, 100*time.Millisecond, 4*time.Second))
					s.signalEngine(syscall.SIGCONT)
				}
			case 3:
				kinds["stopped in order"]++
				s.stop()
				s.start()
			}
		}
		f.halt()
		s.checkProjections()
		s.stop()
		if t.Failed() {
			return
		}
	}
	t.Logf("%d runs: %v", runs, kinds)
}

// TestProjections_ADirectoryThatIsLost: what ClickHouse holds is made of the log, so it can be made again.
func TestProjections_ADirectoryThatIsLost(t *testing.T) {
	chtest.Library(t)
	rng := newRand(t)
	s := newSite(t, t.TempDir(), partitionsUnderLoad)
	s.flags = []string{"--memory", memoryUnderLoad, "--no-projections=false", "--clickhouse-listen", freeAddr(t), "--clickhouse-memory", "600MiB"}
	sources, _ := workloads(rng, partitionsUnderLoad)
	s.start()
	f := newFeed(s, sources, rng, false)
	f.run()
	s.awaitAcked(f, 2000)
	f.halt()
	s.checkProjections()
	s.stop()
	must(t, os.RemoveAll(filepath.Join(s.dir, "clickhouse")))
	s.start()
	s.checkProjections()
	s.stop()
}

// TestProjections_APasswordIsNotShown: the logins are in a file for the owner's eyes, and nowhere else.
func TestProjections_APasswordIsNotShown(t *testing.T) {
	chtest.Library(t)
	s := newSite(t, t.TempDir(), 1)
	s.flags = []string{"--no-projections=false", "--clickhouse-listen", freeAddr(t), "--clickhouse-memory", "600MiB"}
	s.start()
	eventually(t, projectionsWait, func() string {
		_, err := s.query("SELECT 1 FROM v1_health")
		if err != nil {
			return err.Error()
		}
		return ""
	})
	owner, err := devclickhouse.Lookup(filepath.Join(s.dir, "clickhouse"), true)
	must(t, err)
	reader, err := devclickhouse.Lookup(filepath.Join(s.dir, "clickhouse"), false)
	must(t, err)
	for _, pid := range []int{s.proc.cmd.Process.Pid, s.engine()} {
		for _, file := range []string{"cmdline", "environ"} {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			if bytes.Contains(text, []byte(owner.Password)) || bytes.Contains(text, []byte(reader.Password)) {
				t.Errorf("%s of a process has a password in it", file)
			}
		}
	}
	if s.log.find(owner.Password) != "" || s.log.find(reader.Password) != "" {
		t.Error("the log has a password in it")
	}
	info, err := os.Stat(filepath.Join(s.dir, "clickhouse", "state.json"))
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the file with the logins has mode %v", info.Mode())
	}
	s.stop()
}
