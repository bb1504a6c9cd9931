package api_test

import (
	"testing"

	"github.com/tidemark-dev/tidemark/api/apitest"
)

func TestPagination_Memory(t *testing.T) {
	apitest.Pagination(t, func(*testing.T) apitest.Store { return apitest.NewMemory() })
}
