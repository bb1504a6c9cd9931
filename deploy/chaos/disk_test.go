package chaos

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemark-dev/tidemark/processor/batch"
)

// volume is a small disk.
type volume struct {
	t   testing.TB
	dir string
}

// newVolume mounts a file system in memory, which takes what is written to it and no more.
func newVolume(t *testing.T, bytes int64) *volume {
	t.Helper()
	v := &volume{t, t.TempDir()}
	out, err := exec.Command("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%d", bytes), "tidemark-test", v.dir).CombinedOutput()
	if err != nil {
		lacking(t, "tmpfs", "mounting it needs root: "+strings.TrimSpace(string(out)))
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", v.dir).CombinedOutput(); err != nil {
			t.Errorf("unmounting: %v %s", err, out)
		}
	})
	return v
}

// leave makes the disk so small, or so large, that bytes are free.
func (v *volume) leave(bytes int64) {
	v.t.Helper()
	// It grows while we look; a disk smaller than what is on it is refused.
	eventually(v.t, startWait, func() string {
		var st syscall.Statfs_t
		must(v.t, syscall.Statfs(v.dir, &st))
		used := int64(st.Blocks-st.Bfree) * st.Bsize
		out, err := exec.Command("mount", "-o", fmt.Sprintf("remount,size=%d", max(used+bytes, int64(os.Getpagesize()))), v.dir).CombinedOutput()
		if err != nil {
			return strings.TrimSpace(string(out))
		}
		return ""
	})
}

const (
	reserve  = 512 << 20 // what devkafka keeps free
	diskSize = reserve + 64<<20
)

// TestDisk_TheReserveIsReached: producing stops, with a reason that a person understands, while there still is space for everything else.
// Reading goes on. When there is space again, so does producing, by itself, and nothing is missing.
func TestDisk_TheReserveIsReached(t *testing.T) {
	v := newVolume(t, diskSize)
	l := newLoad(t, filepath.Join(v.dir, "data"), newRand(t), false)
	s := l.s
	s.log.allow("disk reserve reached")
	s.awaitAcked(l.feed, 500)

	v.leave(reserve / 2)
	eventually(t, startWait, func() string {
		if s.log.find("disk reserve reached", "free some", s.dir) == "" {
			return "the log does not say that the reserve is reached"
		}
		return ""
	})
	code, text := s.produceOnce(t)
	if code != kerr.KafkaStorageError.Code || !strings.Contains(text, fmt.Sprint(reserve)) || !strings.Contains(text, s.dir) {
		t.Errorf("a producer is told %v: %s", kerr.ErrorForCode(code), text)
	}
	if s.metric("tidemark_devkafka_producing") != "0" {
		t.Error("the metrics say that producing goes on")
	}
	if _, err := s.page(l.readers.clients[0].id, "", 10); err != nil {
		t.Errorf("reading: %v", err)
	}

	v.leave(diskSize)
	s.awaitAcked(l.feed, 500)
	l.finish(t)
	s.stop()
}

// TestDisk_IsFullToTheLastByte: something else has eaten the reserve as well. Whatever becomes of the process, what was acknowledged is
// there afterwards, and it goes on: by itself, or, if it had to give up, when it is started again.
func TestDisk_IsFullToTheLastByte(t *testing.T) {
	v := newVolume(t, diskSize)
	rng := newRand(t)
	l := newLoad(t, filepath.Join(v.dir, "data"), rng, true)
	s := l.s
	// Everything below may complain.
	s.log.allow(`"level":"ERROR"`)
	for round := range 3 {
		s.awaitAcked(l.feed, 300)
		v.leave(0)
		pause(t, between(rng, 500*time.Millisecond, 2500*time.Millisecond))
		switch round {
		case 0: // the disk is freed, and the process with it
		case 1: // killed on a full disk, and started on one: it may not start, but must not make it worse
			s.kill()
			s.mayExit = true
			p := s.spawn()
			s.mayExit = false
			pause(t, between(rng, 500*time.Millisecond, 2500*time.Millisecond))
			select {
			case <-p.exited:
				if code := p.cmd.ProcessState.ExitCode(); code != 1 || s.log.find(`"code":"disk.full"`) == "" {
					t.Errorf("on a full disk it ends with exit code %d, and does not say why", code)
				}
			default:
			}
		case 2: // stopped in order on a full disk: it cannot save everything, and need not
			s.proc.signal(syscall.SIGINT)
			s.proc.exitCode(t, startWait)
			s.proc = nil
		}
		v.leave(diskSize)
		s.restartIfNeeded()
	}
	s.awaitAcked(l.feed, 300)
	l.finish(t)
	s.stop()
	s.start()
	l.readers.check(l.audit, 100)
}

// restartIfNeeded starts a new process if there is none, or if the one there is takes no more events until it is started again.
func (s *site) restartIfNeeded() {
	s.t.Helper()
	if s.proc != nil {
		select {
		case <-s.proc.exited:
			s.proc = nil
		default:
			if s.log.find("producing is refused until a restart") != "" {
				s.kill()
			}
		}
	}
	if s.proc == nil {
		s.spawn()
	}
	s.waitReady()
}

// awaitAcked waits for more acknowledged events.
func (s *site) awaitAcked(f *feed, more int) {
	s.t.Helper()
	total := func() (n int) {
		for _, p := range f.parts {
			_, acked := p.counts()
			n += acked
		}
		return n
	}
	from := total()
	eventually(s.t, startWait, func() string {
		if n := total() - from; n < more {
			var last error
			for _, p := range f.parts {
				p.mu.Lock()
				last = cmp.Or(p.refused, last)
				p.mu.Unlock()
			}
			return fmt.Sprintf("%d events acknowledged of %d; the last refusal says %v", n, more, last)
		}
		return ""
	})
}

// produceOnce writes one record without any retry, and returns what the broker says.
func (s *site) produceOnce(t *testing.T) (code int16, text string) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.kafka), kgo.DisableClientMetrics())
	must(t, err)
	defer cl.Close()
	var b batch.Builder
	b.Append(time.Now().UnixMilli(), []byte("key"), []byte(`{}`), nil)
	part := kmsg.NewProduceRequestTopicPartition()
	part.Records = b.Build(nil, batch.None)
	top := kmsg.NewProduceRequestTopic()
	top.Topic = s.names.Raw
	meta := kmsg.NewPtrMetadataRequest()
	mt := kmsg.NewMetadataRequestTopic()
	mt.Topic = kmsg.StringPtr(s.names.Raw)
	meta.Topics = append(meta.Topics, mt)
	ctx, cancel := context.WithTimeout(t.Context(), startWait)
	defer cancel()
	m, err := meta.RequestWith(ctx, cl)
	must(t, err)
	top.TopicID = m.Topics[0].TopicID
	top.Partitions = append(top.Partitions, part)
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 5000
	req.Topics = append(req.Topics, top)
	resp, err := req.RequestWith(ctx, cl)
	must(t, err)
	p := resp.Topics[0].Partitions[0]
	if p.ErrorMessage != nil {
		text = *p.ErrorMessage
	}
	return p.ErrorCode, text
}
