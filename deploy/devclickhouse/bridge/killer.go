package bridge

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"sync"
	"time"

	"github.com/tidemark-dev/tidemark/deploy/devclickhouse/chdb"
)

const (
	killEvery    = 20 * time.Millisecond
	killEveryMax = time.Second
)

// killer ends statements from outside, over a connection of its own. The library gives no handle to a statement that runs in a
// call, and passes no query id to the engine, so a statement is known by the beginning of its log_comment.
type killer struct {
	mu   sync.Mutex
	conn *chdb.Conn
	log  func(error)
	// process begins every mark, so that killAll can name all statements of the bridge.
	process string
}

func newKiller(s *Server) (*killer, error) {
	conn, err := s.cfg.Library.Connect("--path=" + s.cfg.Path)
	if err != nil {
		return nil, err
	}
	return &killer{
		conn:    conn,
		process: "bridge-" + randomText(4),
		log:     func(err error) { s.log.Warn("killing a statement did not work", "err", err) },
	}, nil
}

func randomText(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}

// mark returns what a statement is known by.
func (k *killer) mark() string { return k.process + "-" + randomText(8) }

func (k *killer) kill(condition string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.conn == nil {
		return
	}
	r, err := k.conn.Query(fmt.Sprintf("KILL QUERY WHERE %s ASYNC", condition), "Null")
	if err != nil {
		k.log(err)
		return
	}
	r.Close()
}

func (k *killer) killAll() {
	k.kill("startsWith(Settings['log_comment'], " + quote(k.process) + ")")
}

// watch kills the statement with the mark once the context ends, again and again until stop is called: the first time the statement
// may not have begun. stop returns when nothing more is killed.
func (k *killer) watch(ctx context.Context, mark string) (stop func()) {
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		select {
		case <-ctx.Done():
		case <-done:
			return
		}
		for every := killEvery; ; every = min(2*every, killEveryMax) {
			k.kill("startsWith(Settings['log_comment'], " + quote(mark) + ")")
			select {
			case <-done:
				return
			case <-time.After(every):
			}
		}
	}()
	return sync.OnceFunc(func() {
		close(done)
		<-stopped
	})
}

func (k *killer) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.conn.Close()
	k.conn = nil
}
