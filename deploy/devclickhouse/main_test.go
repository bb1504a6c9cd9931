package devclickhouse_test

import (
	"os"
	"testing"

	"github.com/tidemark-dev/tidemark/deploy/devclickhouse"
)

func TestMain(m *testing.M) {
	if devclickhouse.RunChild() {
		return
	}
	os.Exit(m.Run())
}
