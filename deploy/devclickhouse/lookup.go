package devclickhouse

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// ErrNone says that no engine ever ran on a directory.
var ErrNone = errors.New("there is no embedded ClickHouse")

// Login is how to reach the engine of a directory. It holds a password: keep it out of logs and arguments.
type Login struct {
	Addr, User, Password string
}

// Lookup returns the login of the engine that runs, or ran last, on a directory, if its logins have their default names: the one that may
// write if write is set, else the one that only reads. Errors wrap ErrNone or ErrFormat, or are about reading the file.
func Lookup(dir string, write bool) (Login, error) {
	if _, err := os.Stat(filepath.Join(dir, stateFile)); errors.Is(err, fs.ErrNotExist) {
		return Login{}, fmt.Errorf("%s: %w", dir, ErrNone)
	}
	st, err := loadState(dir)
	if err != nil {
		return Login{}, err
	}
	login := Login{Addr: fmt.Sprintf("127.0.0.1:%d", st.Port), User: defaultReadUser, Password: st.ReadPassword}
	if write {
		login.User, login.Password = defaultUser, st.Password
	}
	return login, nil
}
