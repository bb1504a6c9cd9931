package bulk_test

import (
	"fmt"
	"io"
	"strings"

	"github.com/tidemark-dev/tidemark/ingest/bulk"
)

// A load in its two passes: which records win, then the winners.
func Example() {
	stdin := strings.NewReader("{\"key\":1,\"name\":\"old\"}\n{\"key\":2}\n{\"key\":\"1\", \"name\":\"new\"}\n")
	in, err := bulk.OpenInput("-", stdin, bulk.SpoolOptions{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer in.Close()

	plan, err := bulk.Scan(in.Open, bulk.Options{IDField: "key"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(plan.Records, "records,", plan.Winners, "ids, twice:", plan.Duplicates)

	again, err := in.Open()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer again.Close()
	replay, err := plan.Replay(again)
	for err == nil {
		var rec bulk.Record
		if rec, err = replay.Next(); err == nil {
			fmt.Printf("%s: %s\n", rec.ID, rec.Payload)
		}
	}
	if err != io.EOF {
		fmt.Println(err)
	}
	// Output:
	// 3 records, 2 ids, twice: [1]
	// 2: {"key":2}
	// 1: {"key":"1", "name":"new"}
}
