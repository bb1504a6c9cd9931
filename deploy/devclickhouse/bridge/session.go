package bridge

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/tidemark-dev/tidemark/deploy/devclickhouse/chdb"
)

// maxSessions bounds the sessions that are kept. Each holds a connection and its temporary tables.
const maxSessions = 64

// run executes a statement whose result nobody wants.
func run(conn *chdb.Conn, sql string) error {
	r, err := conn.Query(sql, "Null")
	if err != nil {
		return err
	}
	r.Close()
	return nil
}

// withConnection runs a statement's work on a connection that is set up for it: a new one, so that nothing of the request outlives
// it and requests run beside each other, or that of the session the request names.
func (s *Server) withConnection(req *request, work func(ctx context.Context, conn *chdb.Conn) error) error {
	ctx := req.http.Context()
	release, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer release()
	stop := s.killer.watch(ctx, req.mark)
	defer stop()

	// A reader has no sessions: nothing that it may do outlives a request.
	if req.sessionID == "" || req.access == reader {
		conn, err := s.connect()
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := req.setUp(ctx, conn); err != nil {
			return err
		}
		return work(ctx, conn)
	}
	session, err := s.sessions.enter(req.sessionID, req.sessionCheck, s.connect)
	if err != nil {
		return err
	}
	defer s.sessions.leave(session, req.sessionIdle)
	restore, err := req.remember(session.conn)
	if err != nil {
		return err
	}
	defer func() {
		if err := restore(); err != nil {
			s.log.Warn("settings of a request stay with its session", "err", err)
		}
	}()
	if err := req.setUp(ctx, session.conn); err != nil {
		return err
	}
	return work(ctx, session.conn)
}

func (s *Server) connect() (*chdb.Conn, error) {
	conn, err := s.cfg.Library.Connect("--path=" + s.cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("connecting to the engine: %w", err)
	}
	return conn, nil
}

// setUp gives the connection what the request asks for. readonly comes last: it forbids all the rest.
func (req *request) setUp(ctx context.Context, conn *chdb.Conn) error {
	if err := run(conn, "SET log_comment = "+quote(strings.TrimSpace(req.mark+" "+req.logComment))); err != nil {
		return err
	}
	if len(req.settings) > 0 {
		if err := run(conn, "SET "+assignments(req.settings)); err != nil {
			return err
		}
	}
	if req.database != "" && (req.database != "default" || req.sessionID != "") {
		if err := run(conn, "USE "+quoteName(req.database)); err != nil {
			return err
		}
	}
	for _, t := range req.external {
		if err := t.create(ctx, conn); err != nil {
			return err
		}
	}
	if req.readonly != "0" {
		return run(conn, "SET readonly = "+req.readonly)
	}
	return nil
}

func assignments(settings []setting) string {
	parts := make([]string, 0, len(settings))
	for _, st := range settings {
		parts = append(parts, st.name+" = "+quote(st.value))
	}
	return strings.Join(parts, ", ")
}

// remember returns a function that gives the session back the settings which the request changes for itself.
func (req *request) remember(conn *chdb.Conn) (restore func() error, err error) {
	names := []string{"'readonly'"}
	for _, st := range req.settings {
		names = append(names, quote(st.name))
	}
	r, err := conn.Query("SELECT name, value, changed FROM system.settings WHERE name IN ("+strings.Join(names, ", ")+")", "JSONCompactEachRow")
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var before []string
	for line := range strings.Lines(string(r.Bytes())) {
		var row struct {
			name, value string
			changed     int
		}
		if err := json.Unmarshal([]byte(line), &[]any{&row.name, &row.value, &row.changed}); err != nil {
			return nil, fmt.Errorf("reading the session's settings: %w", err)
		}
		if row.changed != 0 {
			before = append(before, row.name+" = "+quote(row.value))
		} else {
			before = append(before, row.name+" = DEFAULT")
		}
	}
	return func() error {
		var errs error
		for _, assignment := range before {
			if err := run(conn, "SET "+assignment); err != nil && errs == nil {
				errs = err
			}
		}
		for _, t := range req.external {
			if err := run(conn, "DROP TEMPORARY TABLE IF EXISTS "+quoteName(t.name)); err != nil && errs == nil {
				errs = err
			}
		}
		return errs
	}, nil
}

// sessions are the connections that outlive a request because it named a session.
type sessions struct {
	mu     sync.Mutex
	byID   map[string]*session
	closed bool
}

type session struct {
	id     string
	conn   *chdb.Conn
	locked bool
	expiry *time.Timer
}

func newSessions() *sessions { return &sessions{byID: map[string]*session{}} }

// enter returns the session, locked. A session takes one request at a time, as on a server.
func (s *sessions) enter(id string, mustExist bool, connect func() (*chdb.Conn, error)) (*session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.byID[id]
	switch {
	case s.closed:
		return nil, refuse(codeCancelled, "The server is stopping")
	case found == nil && mustExist:
		return nil, refuse(codeSessionNotFound, "Session %q not found", id)
	case found == nil && len(s.byID) >= maxSessions:
		return nil, refuse(codeTooManyQueries, "There are %d sessions already", maxSessions)
	case found == nil:
		conn, err := connect()
		if err != nil {
			return nil, err
		}
		found = &session{id: id, conn: conn}
		s.byID[id] = found
	case found.locked:
		return nil, refuse(codeSessionLocked, "Session %q is locked by a concurrent client", id)
	default:
		found.expiry.Stop()
	}
	found.locked = true
	return found, nil
}

// leave unlocks the session, which ends when it is not entered for the time given.
func (s *sessions) leave(one *session, idle time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	one.locked = false
	one.expiry = time.AfterFunc(idle, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		// A request that entered just before may have left again: then this timer is not the session's any more.
		if s.byID[one.id] == one && !one.locked && !s.closed {
			delete(s.byID, one.id)
			one.conn.Close()
		}
	})
}

// close ends all sessions. None may be entered.
func (s *sessions) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, one := range s.byID {
		if one.expiry != nil {
			one.expiry.Stop()
		}
		one.conn.Close()
	}
	clear(s.byID)
}
