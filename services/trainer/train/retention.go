package train

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/seed-8780d58e/spin/pkg/blob"
	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/run"
)

// Retain drops the checkpoints that the run's retention does not keep. The trainer does so itself
// after each stage; what was not measured by then stays until Retain is called again.
func (s *Service) Retain(ctx context.Context, id string) error {
	r, _, err := bus.State[run.Run]{Bucket: s.bus.Control()}.Load(ctx, run.Key(id))
	if err != nil || r.Spec.Retention.Last == 0 {
		return err
	}
	var made []*event.Checkpoint
	err = s.bus.Read(ctx, bus.ReadConfig{Stream: bus.Checkpoints, Filters: []string{event.Filter(id, event.Checkpoints)}}, func(d bus.Delivery) error {
		if m, ok := d.Message.(*event.Checkpoint); ok {
			made = append(made, m)
		}
		return nil
	})
	if err != nil {
		return err
	}
	nll := map[string]float64{}
	err = s.bus.Read(ctx, bus.ReadConfig{Stream: bus.Scores, Filters: []string{event.Filter(id, event.Scores)}}, func(d bus.Delivery) error {
		if m, ok := d.Message.(*event.Score); ok && m.GetTask() == "heldout" && m.GetMetric() == "nll" {
			nll[m.GetWeightsSha256()] = m.GetValue()
		}
		return nil
	})
	if err != nil {
		return err
	}
	keep := kept(r.Spec, made, nll)
	freed, err := DropCheckpoints(ctx, s.bus, s.blobs, id, func(m *event.Checkpoint) bool { return keep[m.GetWeightsSha256()] })
	if freed > 0 {
		s.log.Info().Str("run", id).Int64("bytes", freed).Msg("old checkpoints dropped")
	}
	return err
}

// kept are the weights to keep, of those that a run has made so far: the newest ones of the chain from
// θ_0, the one with the lowest held-out NLL, what nobody has measured yet, θ_0 while the control has
// still to start from it, the model as given (other runs may begin with it), and the control.
func kept(spec run.Spec, made []*event.Checkpoint, nll map[string]float64) map[string]bool {
	keep := map[string]bool{}
	var chain []string // weights, the oldest first
	theta0, controlled := "", spec.Control != "sft"
	for _, m := range made {
		digest := m.GetWeightsSha256()
		switch m.GetPhase() {
		case event.Phase_PHASE_SFT, event.Phase_PHASE_SPIN:
			chain = append(chain, digest)
			if m.GetPhase() == event.Phase_PHASE_SFT {
				theta0 = digest
			}
		case event.Phase_PHASE_CONTROL:
			controlled = true
			fallthrough
		default:
			keep[digest] = true
		}
		if _, measured := nll[digest]; !measured && spec.Data.Heldout > 0 {
			keep[digest] = true
		}
	}
	if !controlled && theta0 != "" {
		keep[theta0] = true
	}
	for _, digest := range chain[max(0, len(chain)-spec.Retention.Last):] {
		keep[digest] = true
	}
	if spec.Retention.Best {
		best := ""
		for _, digest := range chain {
			if value, measured := nll[digest]; measured && (best == "" || value < nll[best]) {
				best = digest
			}
		}
		if best != "" {
			keep[best] = true
		}
	}
	return keep
}

// DropCheckpoints deletes the blobs of a run's checkpoints that keep refuses, but for those that any
// other checkpoint names, of this run or of another, or that a run was submitted with. It returns the
// bytes that were freed.
func DropCheckpoints(ctx context.Context, conn *bus.Conn, blobs *blob.Store, id string, keep func(*event.Checkpoint) bool) (freed int64, err error) {
	needed, err := sourceBlobs(ctx, conn, blobs)
	if err != nil {
		return 0, err
	}
	dropped := map[string]uint64{}
	err = conn.Read(ctx, bus.ReadConfig{Stream: bus.Checkpoints}, func(d bus.Delivery) error {
		m, ok := d.Message.(*event.Checkpoint)
		if !ok {
			return fmt.Errorf("checkpoint %s: %w", d.Subject, d.Err) // it may need anything
		}
		for _, f := range m.GetFiles() {
			if m.GetRunId() == id && !keep(m) {
				dropped[f.GetSha256()] = f.GetSize()
			} else {
				needed[f.GetSha256()] = true
			}
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	for digest, size := range dropped {
		if needed[digest] {
			continue
		}
		there, lookup := blobs.Has(ctx, digest)
		if err = errors.Join(err, lookup); there {
			err = errors.Join(err, blobs.Delete(ctx, digest))
			freed += int64(size)
		}
	}
	return freed, err
}

// sourceBlobs are the blobs that runs were submitted with, their models and data.
func sourceBlobs(ctx context.Context, conn *bus.Conn, blobs *blob.Store) (map[string]bool, error) {
	needed := map[string]bool{}
	entries, err := conn.Control().List(ctx, run.KeyPattern)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		var r run.Run
		if err := json.Unmarshal(e.Value, &r); err != nil {
			return nil, fmt.Errorf("%s: %w", e.Key, err)
		}
		for _, path := range []string{r.Spec.Model.Path, r.Spec.Data.Path} {
			digest, ok := blob.ParseTreePath(path)
			if !ok {
				continue
			}
			of, err := blobs.TreeBlobs(ctx, digest)
			if err != nil && !errors.Is(err, blob.ErrNotFound) && !errors.Is(err, blob.ErrCorrupt) { // lost: nothing of it is needed
				return nil, err
			}
			for _, digest := range of {
				needed[digest] = true
			}
		}
	}
	return needed, nil
}

// SweepBlobs deletes every blob that no checkpoint names and no run was submitted with, such as a
// killed trainer leaves, and what is left of broken transfers. No trainer may be at work.
func SweepBlobs(ctx context.Context, conn *bus.Conn, blobs *blob.Store) (freed int64, err error) {
	needed, err := sourceBlobs(ctx, conn, blobs)
	if err != nil {
		return 0, err
	}
	err = conn.Read(ctx, bus.ReadConfig{Stream: bus.Checkpoints}, func(d bus.Delivery) error {
		m, ok := d.Message.(*event.Checkpoint)
		if !ok {
			return fmt.Errorf("checkpoint %s: %w", d.Subject, d.Err)
		}
		for _, f := range m.GetFiles() {
			needed[f.GetSha256()] = true
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	there, err := blobs.List(ctx)
	for _, b := range there {
		if !needed[b.SHA256] {
			err = errors.Join(err, blobs.Delete(ctx, b.SHA256))
			freed += b.Size
		}
	}
	return freed, errors.Join(err, blobs.Sweep(ctx))
}
