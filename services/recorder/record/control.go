package record

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/run"
	"github.com/seed-8780d58e/spin/pkg/store"
)

// recordControl records runs and iterations as the control bucket has them: a row for each change,
// of which the latest stays. A restart meets the last values again, under the same tokens.
func (s *Service) recordControl(ctx context.Context) error {
	began := map[string]time.Time{} // when an iteration was first seen
	return s.bus.Control().Watch(ctx, ">", func(e bus.Entry) error {
		if e.Deleted {
			return nil
		}
		var b store.Batch
		switch {
		case strings.HasPrefix(e.Key, "run."):
			var r run.Run
			if err := json.Unmarshal(e.Value, &r); err != nil {
				return fmt.Errorf("%s: %w", e.Key, err)
			}
			row, err := runRow(r, e.Revision)
			if err != nil {
				return err
			}
			b.Runs = append(b.Runs, row)
		case strings.HasPrefix(e.Key, "iter."):
			var it run.Iteration
			if err := json.Unmarshal(e.Value, &it); err != nil {
				return fmt.Errorf("%s: %w", e.Key, err)
			}
			if it.Stage != run.SPINStage {
				s.advance(control, e.Revision)
				return nil
			}
			if _, seen := began[e.Key]; !seen {
				began[e.Key] = time.Now().UTC()
			}
			b.Iterations = append(b.Iterations, iterationRow(it, began[e.Key], e.Revision))
		default:
			s.advance(control, e.Revision)
			return nil
		}
		if err := s.insert(ctx, fmt.Sprintf("%s/%s/%d", control, e.Key, e.Revision), &b); err != nil {
			return err
		}
		s.advance(control, e.Revision)
		return nil
	})
}

func runRow(r run.Run, revision uint64) (store.Run, error) {
	config, err := json.Marshal(r.Spec)
	if err != nil {
		return store.Run{}, err
	}
	row := store.Run{
		RunID: r.ID, Name: r.Spec.Name, Model: r.Spec.Model.Path, BaseSHA256: r.Spec.Model.SHA256, Seed: r.Spec.Seed, Spec: string(r.Spec.Canonical()), Config: string(config),
		Fingerprint: r.Fingerprint, State: string(r.Status), CreatedAt: r.CreatedAt, Revision: revision, Played: uint32(r.Plays()),
	}
	if r.Stop != nil {
		row.StopReason = r.Stop.Reason
	}
	if r.Status != run.Finished {
		row.Error = r.Reason
	}
	if r.Status.Final() {
		now := time.Now().UTC()
		row.FinishedAt = &now
	}
	return row, nil
}

func iterationRow(it run.Iteration, began time.Time, revision uint64) store.Iteration {
	row := store.Iteration{
		RunID: it.Run, Iteration: uint32(it.Number), OpponentSHA256: it.Opponent, WeightsSHA256: it.Result, GamesSHA256: it.Dataset, Games: uint32(it.Games),
		Holes: uint32(len(it.Holes)), Steps: uint32(it.Steps), State: string(it.Phase), Error: it.Error, Attempt: uint32(it.Attempt),
		StartedAt: began, Revision: revision,
	}
	if it.Phase == run.Done {
		now := time.Now().UTC()
		row.FinishedAt = &now
	}
	return row
}
