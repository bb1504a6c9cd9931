package chaos

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// A second process on the same directory is refused and told why; the first does not notice. Which of the two was there first does not
// depend on what the other one is told to listen on.
func TestLock_ASecondProcessIsRefused(t *testing.T) {
	dir := t.TempDir()
	first := newSite(t, dir, 1)
	first.start()
	id := stream.ID{Environment: "dev", Integration: "crm", Connection: "acme", Model: "Contact"}
	save := func(n int) {
		first.write(events(saveEvent(id, strconv.Itoa(n), fmt.Sprintf(`{"id":"%d"}`, n))))
	}
	save(1)
	first.audited([]stream.ID{id})
	term := first.metric(`tidemark_processor_term{partition="0"}`)

	second := newSite(t, dir, 1)
	second.mayExit = true
	for _, args := range [][]string{{}, {"--json"}} {
		out := newJournal()
		p := second.execTo(out, append([]string{"up", "--data", dir, "--http", second.http, "--kafka-listen", second.kafka}, args...)...)
		if code := p.exitCode(t, startWait); code != 1 {
			t.Errorf("%v: exit code %d, want 1", args, code)
		}
		said := out.tail(10)
		for _, part := range []string{"data_dir.locked", dir, fmt.Sprintf("process %d", first.proc.cmd.Process.Pid), "--data"} {
			if !strings.Contains(said, part) {
				t.Errorf("%v: it does not say %q:\n%s", args, part, said)
			}
		}
		if len(args) > 0 {
			var e struct {
				Error struct{ Code, Message, Hint string }
			}
			last := said[strings.LastIndex(strings.TrimSpace(said), "\n")+1:]
			if err := json.Unmarshal([]byte(last), &e); err != nil || e.Error.Code != "data_dir.locked" {
				t.Errorf("the last line is %s: %v", last, err)
			}
		}
	}

	if status, body, err := first.get("/readyz", nil); status != http.StatusOK {
		t.Errorf("the first: %d %s %v", status, body, err)
	}
	if now := first.metric(`tidemark_processor_term{partition="0"}`); now != term {
		t.Errorf("the first was in term %s, is in %s", term, now)
	}
	save(2)
	first.audited([]stream.ID{id})
	first.kill()
	second.mayExit = false
	second.start() // the lock went with the process
	second.audited([]stream.ID{id})
	second.stop()
}

// metric is the value of one line of /metrics.
func (s *site) metric(name string) (value string) {
	s.t.Helper()
	eventually(s.t, 10*time.Second, func() string {
		_, body, err := s.get("/metrics", nil)
		for line := range strings.Lines(string(body)) {
			if v, ok := strings.CutPrefix(line, name+" "); ok {
				value = strings.TrimSpace(v)
				return ""
			}
		}
		return fmt.Sprintf("%s is not among the metrics: %v", name, err)
	})
	return value
}
