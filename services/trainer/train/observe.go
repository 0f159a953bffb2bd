package train

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/seed-8780d58e/spin/pkg/run"
)

// sightings are what a trainer tells about the broker's runs.
type sightings struct {
	mu     sync.Mutex
	status map[string]run.Status // by key
	led    int
	began  bool // Run watches the runs
}

// statuses that a gauge is kept for, so that one that nobody has any more goes to 0.
func statuses() []run.Status {
	return []run.Status{run.Submitted, run.Running, run.Halted, run.Blocked, run.Aborted, run.Broken, run.Finished}
}

// saw notes a run's status; nil: the run was removed.
func (s *Service) saw(key string, r *run.Run) {
	s.seen.mu.Lock()
	defer s.seen.mu.Unlock()
	if r == nil {
		delete(s.seen.status, key)
	} else {
		s.seen.status[key] = r.Status
	}
	counts := map[run.Status]int{}
	for _, status := range s.seen.status {
		counts[status]++
	}
	for _, status := range statuses() {
		s.cfg.Metrics.Runs.WithLabelValues(string(status)).Set(float64(counts[status]))
	}
}

// leading notes that this trainer leads a run more, or one less.
func (s *Service) leading(n int) {
	s.seen.mu.Lock()
	defer s.seen.mu.Unlock()
	s.seen.led += n
	s.cfg.Metrics.Led.Set(float64(s.seen.led))
}

// Ready says what this trainer leads. One that leads nothing stands by, and is ready; an error: it does
// not look for runs yet.
func (s *Service) Ready(context.Context) (state string, err error) {
	s.seen.mu.Lock()
	defer s.seen.mu.Unlock()
	if !s.seen.began {
		return "", errors.New("does not look for runs yet")
	}
	active := 0
	for _, status := range s.seen.status {
		if status == run.Submitted || status == run.Running {
			active++
		}
	}
	return fmt.Sprintf("leads %d of %d active runs", s.seen.led, active), nil
}

// countEvery is how often the leader of a run that plays games counts its queue and the generators.
const countEvery = 5 * time.Second

// countFleet tells how many tasks are queued and who is there to play them, until ctx ends. It is for
// those who look on: what the broker does not answer stays as it was.
func (g *games) countFleet(ctx context.Context) {
	m, id := g.lead.cfg.Metrics, g.lead.run.ID
	defer m.Generators.DeleteLabelValues(id)
	defer m.Queue.DeletePartialMatch(map[string]string{"run": id})
	for {
		if waiting, leased, err := g.lead.bus.QueueDepth(ctx, id); err == nil {
			m.Queue.WithLabelValues(id, "waiting").Set(float64(waiting))
			m.Queue.WithLabelValues(id, "leased").Set(float64(leased))
		}
		if members, err := g.lead.bus.Members(ctx, "generator"); err == nil {
			m.Generators.WithLabelValues(id).Set(float64(len(members)))
		}
		if pause(ctx, countEvery) != nil {
			return
		}
	}
}
