package generate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/weights"
)

// party is the tasks that wait for one set of weights and will get the device together.
//
// Tasks of several runs take turns on it. One whose weights are not loaded waits for those in hand to
// finish; those that come after it wait too, even where their weights are the loaded ones, so that no run
// keeps another one out. All that wait for the same weights get in at once: they are changed once for
// as many tasks as there are.
type party struct {
	chunk *event.Chunk // of its first task
	tasks int
	in    *player // once it is their turn
	err   error   // why it won't be
}

// playerFor returns the player of the task's weights when it is the task's turn. Loading is not any one
// task's: it takes longer than a lease, and all that wait renew theirs. The caller leaves the player.
func (s *Service) playerFor(service, ctx context.Context, lease *bus.Lease) (*player, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	digest := lease.Chunk.GetWeightsSha256()
	if len(s.line) == 0 && s.player.plays(digest) {
		s.player.enter(1)
		return s.player, nil
	}
	i := slices.IndexFunc(s.line, func(p *party) bool { return p.chunk.GetWeightsSha256() == digest })
	if i < 0 {
		i = len(s.line)
		s.line = append(s.line, &party{chunk: lease.Chunk})
	}
	mine := s.line[i]
	mine.tasks++
	for {
		s.advance(service)
		switch {
		case mine.in != nil:
			return mine.in, nil
		case mine.err != nil:
			return nil, mine.err
		}
		moved := s.moved
		s.mu.Unlock()
		err := waitFor(ctx, lease, moved)
		s.mu.Lock()
		if err != nil {
			s.forsake(mine)
			return nil, err
		}
	}
}

// advance lets the first party in, or loads its weights, where nothing is in the way. The caller holds
// s.mu.
func (s *Service) advance(service context.Context) {
	for len(s.line) > 0 && !s.loading {
		first := s.line[0]
		switch {
		case s.player.plays(first.chunk.GetWeightsSha256()):
			s.admit(s.player, nil)
		case s.player.busy():
			return
		default:
			s.loading = true
			s.loads.Go(func() { s.load(service, first.chunk) })
			return
		}
	}
}

// admit lets the first party in, or tells it why not. The caller holds s.mu.
func (s *Service) admit(p *player, err error) {
	first := s.line[0]
	s.line = s.line[1:]
	if first.in, first.err = p, err; err == nil {
		p.enter(first.tasks)
	}
	s.move()
}

// forsake takes one task out of its party. The caller holds s.mu.
func (s *Service) forsake(mine *party) {
	mine.tasks--
	switch i := slices.Index(s.line, mine); {
	case mine.in != nil:
		mine.in.leave()
	case i >= 0 && mine.tasks == 0 && !(i == 0 && s.loading):
		s.line = slices.Delete(s.line, i, i+1)
	}
	s.move()
}

// leave gives a player back; after its last task the next party may have the device.
func (s *Service) leave(p *player) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.leave(); !p.busy() {
		s.move()
	}
}

// move wakes who waits. The caller holds s.mu.
func (s *Service) move() {
	close(s.moved)
	s.moved = make(chan struct{})
}

// load replaces the player by one with the weights of the first party's chunk.
func (s *Service) load(ctx context.Context, chunk *event.Chunk) {
	s.mu.Lock()
	old := s.player
	s.player = nil
	s.mu.Unlock()
	if old != nil {
		old.stop()
	}
	var next *player
	began := time.Now()
	loaded, err := s.weights.Get(ctx, chunk.GetRunId(), chunk.GetWeightsSha256())
	switch {
	case errors.Is(err, weights.ErrNotPublished):
		err = fmt.Errorf("%w: %w", err, bus.ErrRelease)
	case err != nil:
	case loaded.Template.ID() != chunk.GetTemplateId():
		err = fmt.Errorf("the checkpoint's chat template is %s, the task wants %s", loaded.Template.ID(), chunk.GetTemplateId())
		loaded.Release()
	default:
		s.cfg.Metrics.WeightChanges.Inc()
		s.cfg.Metrics.LoadSeconds.Observe(time.Since(began).Seconds())
		next = s.newPlayer(loaded, int(chunk.GetDraws()))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.player, s.loading = next, false
	s.admit(next, err)
}

// waitFor waits without losing the lease.
func waitFor(ctx context.Context, lease *bus.Lease, done <-chan struct{}) error {
	alive := time.NewTicker(time.Second)
	defer alive.Stop()
	for {
		select {
		case <-done:
			return nil
		case <-alive.C:
			lease.Progress()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
