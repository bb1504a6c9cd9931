package grafana

import (
	"os"
	"testing"

	"github.com/tidemark-dev/tidemark/deploy/devclickhouse"
)

// TestMain lets the test binary be the embedded ClickHouse too.
func TestMain(m *testing.M) {
	if devclickhouse.RunChild() {
		return
	}
	os.Exit(m.Run())
}
