package bridge

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
)

// Login is a name and a password that the bridge lets in.
type Login struct {
	User, Password string
}

// access is what a request may do.
type access uint8

const (
	nobody access = iota
	reader        // reads, under readonly=1
	owner         // everything but what is refused to all
)

// authenticate reads the name and password from wherever the clients of ClickHouse put them.
func (s *Server) authenticate(r *http.Request) access {
	user, password, ok := r.BasicAuth()
	if !ok {
		user, password = r.Header.Get("X-ClickHouse-User"), r.Header.Get("X-ClickHouse-Key")
		if user == "" && password == "" {
			q := r.URL.Query()
			user, password = q.Get("user"), q.Get("password")
		}
	}
	// Both logins are always compared, so that the time taken tells nothing of either.
	isOwner, isReader := s.cfg.Owner.matches(user, password), s.cfg.Reader.matches(user, password)
	switch {
	case isOwner:
		return owner
	case isReader:
		return reader
	}
	return nobody
}

// matches compares in constant time. A login without a name lets nobody in.
func (l Login) matches(user, password string) bool {
	return same(l.User, user)&same(l.Password, password) == 1 && l.User != ""
}

// same compares digests, as the comparison itself tells the length of what it compares.
func same(a, b string) int {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:])
}
