package stack

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemark-dev/tidemark/api"
	"github.com/tidemark-dev/tidemark/api/apitest"
	"github.com/tidemark-dev/tidemark/deploy/kafka"
	"github.com/tidemark-dev/tidemark/ingest"
	"github.com/tidemark-dev/tidemark/processor/store"
	"github.com/tidemark-dev/tidemark/schemas/stream"
)

// liveStore is the whole product as the pagination suite wants it: changes go in as raw events.
type liveStore struct {
	*view
	ctx      context.Context
	producer *ingest.Producer
	admin    *kafka.Admin
	raw      string
}

func newLiveStore(t *testing.T) apitest.Store {
	r := launch(t, testConfig(t))
	at := r.Endpoints()
	p, err := ingest.NewProducer(t.Context(), ingest.Config{Seeds: at.Kafka.Seeds, Names: at.Topics, Linger: -1, Logger: testLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	admin, err := kafka.Dial(t.Context(), at.Kafka, testLogger(t))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(func() {
		if err := p.Close(ctx); err != nil {
			t.Error(err)
		}
		admin.Close()
		cancel()
		r.end(t)
	})
	return &liveStore{&r.view, ctx, p, admin, at.Topics.Raw}
}

// Apply implements apitest.Store: it returns when the follower has applied what the changes came to.
func (s *liveStore) Apply(id stream.ID, changes ...apitest.Change) error {
	run, err := s.producer.Stream(id).Run(s.ctx, ingest.RunOptions{Pipeline: true, TrackDeletes: new(bool)})
	if err != nil {
		return err
	}
	for _, c := range changes {
		if c.Payload == nil {
			err = run.Delete(s.ctx, c.ID)
		} else {
			err = run.Save(s.ctx, c.ID, c.Payload)
		}
		if err != nil {
			return err
		}
	}
	if err := run.Complete(s.ctx, ingest.CompleteOptions{}); err != nil {
		return err
	}
	partition := stream.Partition(id.Key(), s.producer.Partitions())
	_, end, err := s.admin.Bounds(s.ctx, s.raw, partition)
	if err != nil {
		return err
	}
	p, err := s.get()
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if st := p.Status()[partition]; st.RawNext >= end && st.Idle {
			return nil
		} else if time.Now().After(deadline) {
			return fmt.Errorf("raw ends at %d, and 20 s later the processor is at %+v", end, st)
		}
	}
}

func TestView_PassesThePaginationSuite(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes seconds")
	}
	apitest.Pagination(t, func(t *testing.T) apitest.Store {
		if strings.HasSuffix(t.Name(), "/PagesAreBoundedByExaminedRows") {
			t.Skip("it filters by DELETED, which the store finds by an index: TestView_PagesAreBoundedByExaminedRows filters by UPDATED")
		}
		return newLiveStore(t)
	})
}

// A page that finds nothing among the rows that it may examine has a cursor to go on behind them.
func TestView_PagesAreBoundedByExaminedRows(t *testing.T) {
	s := newLiveStore(t).(*liveStore)
	var changes []apitest.Change
	save := func(i, v int) {
		changes = append(changes, apitest.Change{ID: fmt.Sprintf("r%d", i), Payload: fmt.Appendf(nil, `{"v":%d}`, v)})
	}
	for i := range 60 {
		save(i, 1)
	}
	save(20, 2)
	save(40, 2)
	if err := s.Apply(brand, changes...); err != nil {
		t.Fatal(err)
	}
	q := api.Query{Stream: brand, Limit: 2, ScanMax: 5, Actions: api.ActionUpdated}
	var found []string
	pages := 0
	for more := true; more; pages++ {
		end, err := s.Page(t.Context(), q, func(r *api.Row) error {
			found = append(found, string(r.ID))
			return nil
		})
		if err != nil || end.LastCSN <= q.After {
			t.Fatalf("after csn %d: %+v, %v", q.After, end, err)
		}
		q.After, more = end.LastCSN, end.More
	}
	if !slices.Equal(found, []string{"r20", "r40"}) || pages < 60/5 {
		t.Errorf("found %v on %d pages", found, pages)
	}
}

func TestView_Streams(t *testing.T) {
	r := launch(t, testConfig(t))
	r.save(t, 3)
	got, err := r.view.Streams(t.Context(), stream.ID{Connection: "acme"})
	if err != nil || len(got) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	if s := got[0]; s.ID != brand || s.Live != 3 || s.Total != 3 || s.LastCSN == 0 || s.LastRunEndMS != 0 || s.Partition != stream.Partition(brand.Key(), 2) {
		t.Errorf("%+v", s)
	}
	if got, err := r.view.Streams(t.Context(), stream.ID{Connection: "other"}); err != nil || len(got) != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.view.Streams(ctx, stream.ID{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestLastRunEnd(t *testing.T) {
	runs := []*store.Run{
		{Seq: 1, Status: store.RunCompleted, EndedMS: 10},
		{Seq: 2, Status: store.RunHeld, EndedMS: 20},
		{Seq: 3, Status: store.RunFailed, EndedMS: 30},
		{Seq: 0, Status: store.RunCompleted, EndedMS: 40}, // a soft clear
		{Seq: 5, Status: store.RunRunning},
	}
	if got := lastRunEnd(&store.Stream{Runs: runs}); got != 20 {
		t.Errorf("got %d", got)
	}
}
