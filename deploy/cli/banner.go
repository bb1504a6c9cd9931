package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tidemark-dev/tidemark/deploy/stack"
	"github.com/tidemark-dev/tidemark/schemas/stream"
	"github.com/tidemark-dev/tidemark/schemas/topic"
)

// printBanner says what runs where and how to read and write, in lines that can be copied.
func (a *app) printBanner(at stack.Endpoints, id stream.ID) error {
	if a.json {
		return a.printJSON(startedEvent(at))
	}
	seeds := strings.Join(at.Kafka.Seeds, ",")
	kind := "Kafka cluster; the log is there, what is here can be built again"
	if at.Embedded {
		kind = "embedded broker: one process, not replicated"
	}
	var to []string // flags that reach this stack, where they are not defaults
	if !slices.Equal(at.Kafka.Seeds, []string{stack.KafkaListenDefault}) {
		to = append(to, "--kafka", seeds)
	}
	prefix := strings.TrimSuffix(at.Topics.Changes, ".changes")
	if prefix != topic.PrefixDefault {
		to = append(to, "--prefix", prefix)
	}
	flags := strings.Join(append(to, streamArgs(id)), " ")
	text := fmt.Sprintf(`tidemark is up. It is one process; Ctrl-C stops it, and the next start goes on where it stopped.

  kafka  %-28s  %s
  http   %-28s  /records, /livez, /readyz, /metrics
  data   %s

Three ways to read the changes, with the stream %s as the example:

  Kafka     kcat -b %s -C -t %s -o beginning -q -f '%%k  %%h  %%s\n'
            (%s partitions; keep op ADDED, UPDATED and DELETED)
  HTTP      curl -H 'Connection-Id: %s' -H 'Provider-Config-Key: %s' 'http://%s/records?model=%s&limit=10'
  Terminal  %s tail %s

To write:   %s load %s --id title FILE...

`, seeds, kind, "http://"+at.HTTP, at.DataDir, id.Key(), seeds, at.Topics.Changes, count(int(at.Partitions)),
		id.Connection, id.Integration, at.HTTP, id.Model, a.program, flags, a.program, flags)
	_, err := fmt.Fprint(a.out, text)
	return err
}
