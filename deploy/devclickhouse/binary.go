package devclickhouse

import (
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
)

// serverFile is the configuration of a clickhouse binary.
const serverFile = "server.xml"

// prepareBinary writes the configuration of "clickhouse server", which listens itself. The listener was taken to find a free port;
// it is given up here, and another program could take the port before the server does: then that does not start, and says so.
func (s *Server) prepareBinary() error {
	host, port, err := net.SplitHostPort(s.addr)
	if err != nil {
		return fmt.Errorf("reading the address: %w", err)
	}
	if err := s.listener.Close(); err != nil {
		return fmt.Errorf("giving up the listener: %w", err)
	}
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

func (s *Server) binaryCommand() *exec.Cmd {
	cmd := exec.Command(s.cfg.Binary, "server", "--config-file="+filepath.Join(s.cfg.Dir, serverFile))
	cmd.Dir = s.cfg.Dir
	cmd.Env = []string{"TZ=UTC", "TMPDIR=" + filepath.Join(s.cfg.Dir, tmpDir)}
	return cmd
}
