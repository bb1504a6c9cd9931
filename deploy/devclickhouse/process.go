package devclickhouse

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Lines of the engine that say that another one holds the directory. (StatusFile in src/Common/StatusFile.cpp of ClickHouse.)
const anotherInstance = "Another server instance"

// process is one life of the child.
type process struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	tail   *tail
	began  time.Time
	report report // once ready is closed

	ready  chan struct{} // closed when it serves
	ended  chan struct{} // closed when it is gone
	result error         // of Wait, once ended is closed
}

// spawn starts the child: this program again, or the binary that the configuration names.
func (s *Server) spawn() (*process, error) {
	if err := emptyDir(filepath.Join(s.cfg.Dir, tmpDir)); err != nil {
		return nil, fmt.Errorf("emptying the folder for temporary files: %w", err)
	}
	cmd, feed, err := s.command()
	if err != nil {
		return nil, err
	}
	if s.listener != nil {
		listener, err := s.listener.File()
		if err != nil {
			return nil, fmt.Errorf("handing down the listener: %w", err)
		}
		defer listener.Close() // a copy that stayed open here would keep the port after Stop
		cmd.ExtraFiles = append(cmd.ExtraFiles, listener)
	}
	p := &process{cmd: cmd, tail: &tail{}, began: time.Now(), ready: make(chan struct{}), ended: make(chan struct{})}
	cmd.Stderr = p.tail
	ownGroup(cmd)
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("opening a pipe to the child: %w", err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("opening a pipe from the child: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the child: %w", err)
	}
	go func() {
		// Wait closes the pipe, so reading comes first. Lines that are not the report are the library's own.
		for in := bufio.NewScanner(stdout); in.Scan(); {
			var r report
			if json.Unmarshal(in.Bytes(), &r) == nil && r.Version != "" && p.report.Version == "" {
				p.report = r
				close(p.ready)
			}
		}
		io.Copy(io.Discard, stdout)
		// The child holds the other end until it exits, and it is not reaped yet, so its number is still its own: what it leaves
		// in its group, which a killed minder does, goes with it.
		killGroup(cmd.Process)
		p.result = cmd.Wait()
		close(p.ended)
	}()
	if _, err := p.stdin.Write(feed); err != nil {
		p.kill()
		return nil, fmt.Errorf("%w: %w: %s", ErrStart, err, p.tail)
	}
	return p, nil
}

// command returns what to run, and what to write to it first.
func (s *Server) command() (*exec.Cmd, []byte, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, nil, fmt.Errorf("looking for this program: %w", err)
	}
	text, err := json.Marshal(orders{Dir: s.cfg.Dir, Library: s.library, Binary: s.cfg.Binary, MaxQueries: s.cfg.MaxQueries})
	if err != nil {
		return nil, nil, fmt.Errorf("encoding the orders: %w", err)
	}
	feed, err := json.Marshal(secrets{Owner: s.owner, Reader: s.reader})
	if err != nil {
		return nil, nil, fmt.Errorf("encoding the logins: %w", err)
	}
	cmd := exec.Command(exe, "embedded-clickhouse", s.cfg.Dir) // for ps: the child looks at its environment alone
	cmd.Dir = s.cfg.Dir
	cmd.Env = []string{
		childEnv + "=" + string(text),
		"TZ=UTC", // the engine takes its time zone from nowhere else
		"TMPDIR=" + filepath.Join(s.cfg.Dir, tmpDir),
		fmt.Sprintf("GOMEMLIMIT=%d", clamp(s.cfg.MemoryBytes/16, 64*mib, 256*mib)), // of the bridge: what it holds is buffers
	}
	cmd.ExtraFiles = []*os.File{s.lock}
	return cmd, append(feed, '\n'), nil
}

// gone returns how the process ended. It is to be called once ended is closed.
func (p *process) gone() string {
	how := "it exited"
	if p.result != nil {
		how = p.result.Error()
	}
	if last := p.tail.String(); last != "" {
		how += "; its last lines:\n" + last
	}
	return how
}

// lostDirectory reports whether the process ended because another engine holds the directory.
func (p *process) lostDirectory() bool { return strings.Contains(p.tail.String(), anotherInstance) }

// stop lets the process end in its own time, and kills it when the context ends or it takes too long.
func (p *process) stop(ctx context.Context) error {
	io.WriteString(p.stdin, stopLine) // an error is that of a child which is gone
	p.stdin.Close()
	timeout := time.NewTimer(stopTimeout)
	defer timeout.Stop()
	select {
	case <-p.ended:
	case <-ctx.Done():
		p.kill()
		return fmt.Errorf("waiting for the child to stop: %w", ctx.Err())
	case <-timeout.C:
		p.kill()
		return errors.New("the child did not stop in time and was killed")
	}
	if p.result != nil {
		return fmt.Errorf("stopping the child: %s", p.gone())
	}
	return nil
}

// kill is kill -9, and waits until the process is gone.
func (p *process) kill() {
	killGroup(p.cmd.Process)
	<-p.ended
	p.stdin.Close()
}
