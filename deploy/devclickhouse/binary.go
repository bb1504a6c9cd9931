package devclickhouse

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// serverFile is the configuration of a clickhouse binary.
const serverFile = "server.xml"

// prepareBinary writes the configuration of "clickhouse server", which listens itself. The listener was taken to find a free port, and
// is given up here; another program could take the port before the server does, which then says so and is started again.
func (s *Server) prepareBinary() error {
	host, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		return fmt.Errorf("reading the address: %w", err)
	}
	if err := s.listener.Close(); err != nil {
		return fmt.Errorf("giving up the listener: %w", err)
	}
	s.listener = nil
	user := func(login string, password string, readonly int) string {
		return fmt.Sprintf("  <%[1]s><password>%[2]s</password><networks><ip>::/0</ip></networks><profile>%[3]s</profile><quota>default</quota></%[1]s>\n",
			xmlText(login), xmlText(password), []string{"default", "reader"}[readonly])
	}
	text := fmt.Sprintf(`<clickhouse>
  <http_port>%s</http_port><listen_host>%s</listen_host>
  <path>%s/</path><tmp_path>%s/</tmp_path>
  <max_server_memory_usage>%d</max_server_memory_usage>
  <timezone>UTC</timezone>
  <logger><level>warning</level><console>1</console></logger>
  <merge_tree><non_replicated_deduplication_window>1000</non_replicated_deduplication_window></merge_tree>
  <backups><allowed_path>%s/</allowed_path></backups>
  <profiles><default><async_insert>0</async_insert><mutations_sync>1</mutations_sync></default><reader><readonly>2</readonly></reader></profiles>
  <quotas><default></default></quotas>
  <users>
%s%s  </users>
  <user_directories><users_xml><path>%s</path></users_xml></user_directories>
</clickhouse>
`, port, xmlText(host), xmlText(filepath.Join(s.cfg.Dir, dataDir)), xmlText(filepath.Join(s.cfg.Dir, tmpDir)), engineLimit(s.cfg.MemoryBytes),
		xmlText(filepath.Join(s.cfg.Dir, backupDir)), user(s.owner.User, s.owner.Password, 0), user(s.reader.User, s.reader.Password, 1),
		xmlText(filepath.Join(s.cfg.Dir, serverFile)))
	return writeFile(filepath.Join(s.cfg.Dir, serverFile), []byte(text))
}

// mind runs the binary until the context ends, as the child of the supervisor: the binary itself would outlive its parents.
func mind(stop context.Context, o orders, grace func() time.Duration) error {
	cmd := exec.Command(o.Binary, "server", "--config-file="+filepath.Join(o.Dir, serverFile))
	cmd.Dir = o.Dir
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, childEnv+"=") {
			cmd.Env = append(cmd.Env, kv)
		}
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting the clickhouse binary: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if err := json.NewEncoder(os.Stdout).Encode(report{Version: "of " + o.Binary}); err != nil {
		cmd.Process.Kill()
		return errors.Join(fmt.Errorf("telling the parent: %w", err), <-ended)
	}
	select {
	case err := <-ended:
		return fmt.Errorf("running the clickhouse binary: it ended: %w", err)
	case <-stop.Done():
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return errors.Join(fmt.Errorf("stopping the clickhouse binary: %w", err), <-ended)
	}
	select {
	case <-ended: // of the signal
		return nil
	case <-time.After(grace()):
		return errors.Join(errors.New("the clickhouse binary did not stop in time"), cmd.Process.Kill())
	}
}
