package train

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/checkpoint"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/fault"
	"github.com/seed-8780d58e/spin/pkg/pretrained"
	"github.com/seed-8780d58e/spin/pkg/run"
	"github.com/seed-8780d58e/spin/pkg/weights"
)

// circumstance says who writes, and when.
func (s *Service) circumstance(attempt int) *event.Circumstance {
	return &event.Circumstance{Instance: s.instance, Attempt: uint32(attempt), CreatedAt: timestamppb.Now()}
}

// clock starts measuring a step.
func (s *Service) clock() time.Time { return time.Now() }

// event tells people something. It never stops a run.
func (l *lead) event(ctx context.Context, level event.Level, kind string, iteration uint32, message string) {
	e := &event.Event{Id: uuid.NewString(), RunId: l.run.ID, Service: "trainer", Kind: kind, Level: level, Iteration: iteration, Message: message, Circumstance: l.circumstance(1)}
	l.log.Warn().Str("run", l.run.ID).Uint32("iteration", iteration).Str("kind", kind).Msg(message)
	if err := l.bus.Append(ctx, e, e.Id); err != nil && ctx.Err() == nil {
		l.log.Error().Err(err).Str("run", l.run.ID).Msg("publish an event")
	}
}

// alarm is event for what training itself sees: it waits for nobody, and a trainer that takes the same
// step again says it once.
func (l *lead) alarm(ctx context.Context, level event.Level, kind string, iteration uint32, message string) error {
	l.log.Warn().Str("run", l.run.ID).Uint32("iteration", iteration).Str("kind", kind).Msg(message)
	return l.journal.add(ctx, &event.Event{
		Id: fmt.Sprintf("%s-%s-%d", l.run.ID, kind, iteration), RunId: l.run.ID, Service: "trainer", Kind: kind, Level: level, Iteration: iteration, Message: message,
		Circumstance: l.circumstance(1),
	})
}

// send publishes what comes out of the journal.
func (l *lead) send(ctx context.Context, m event.Message) (err error) {
	switch m := m.(type) {
	case *event.Event:
		return l.bus.Append(ctx, m, m.GetId())
	case *event.Step:
		if _, err = l.publishNext(ctx, l.steps, m); err == nil {
			fault.Point(fault.TrainerStep)
		}
	case *event.PairTraces:
		if _, err = l.publishNext(ctx, l.pairs, m); err == nil {
			fault.Point(fault.TrainerPairs)
		}
	default:
		err = fmt.Errorf("%s in the journal", event.Schema(m))
	}
	return err
}

// place says which step of a run it is.
type place struct {
	phase              event.Phase
	iteration          uint32
	epoch, step, steps int
	lr, beta           float64
	attempt            int
	health             *health // of the iteration; nil where no game is played
}

// publishStep tells what a step did, in total and pair by pair.
func (l *lead) publishStep(ctx context.Context, at place, out Outcome, began time.Time) error {
	c := l.circumstance(at.attempt)
	c.Seconds = time.Since(began).Seconds()
	c.TokensPerSecond = float64(out.Tokens) / c.Seconds
	m := &event.Step{
		RunId: l.run.ID, Phase: at.phase, Iteration: at.iteration, Epoch: uint32(at.epoch), Step: uint32(at.step), Steps: uint32(at.steps),
		Loss: out.Loss, LearningRate: at.lr, Beta: at.beta, GradNorm: out.GradNorm, Entropy: out.Entropy, NllReal: out.NLL,
		LengthReal: out.LengthReal, LengthGenerated: out.LengthDraws, Games: uint32(out.Games), Pairs: uint32(out.Pairs()), Tokens: uint64(out.Tokens),
		Circumstance: c,
	}
	if out.Pairs() > 0 {
		m.RewardReal, m.RewardGenerated, m.Accuracy, m.Margin = out.RewardReal(), out.RewardGenerated(), out.Accuracy(), out.Margin()
		m.LogpReal, m.LogpGenerated = out.LogPReal(), out.LogPGenerated()
		m.OpponentLogpReal, m.OpponentLogpGenerated = out.OpponentLogPReal(), out.OpponentLogPGenerated()
	}
	if err := l.journal.add(ctx, m); err != nil {
		return err
	}
	if len(out.Traces) == 0 {
		return nil
	}
	for _, a := range at.health.see(m, out.Copies) {
		if err := l.alarm(ctx, event.Level_LEVEL_ALARM, a.kind, m.Iteration, a.message); err != nil {
			return err
		}
	}
	traces := &event.PairTraces{RunId: l.run.ID, Iteration: at.iteration, Epoch: uint32(at.epoch), Step: uint32(at.step), Beta: at.beta, Circumstance: c}
	for _, t := range out.Traces {
		traces.Pairs = append(traces.Pairs, &event.PairTrace{
			PromptId: t.PromptID, Draw: t.Draw, SampleIteration: t.SampleIteration,
			PolicyRealLogp: t.PolicyReal, PolicyGeneratedLogp: t.PolicyGenerated,
			OpponentRealLogp: t.OpponentReal, OpponentGeneratedLogp: t.OpponentGenerated, Loss: t.Loss, Margin: t.Margin,
		})
	}
	return l.journal.add(ctx, traces)
}

// publishBase makes the model that the run was given a checkpoint like all others.
func (l *lead) publishBase(ctx context.Context) (theta, error) {
	m := &event.Checkpoint{RunId: l.run.ID, Iteration: 0, Phase: event.Phase_PHASE_BASE}
	if old, seq, err := l.bus.Last(ctx, m); err == nil {
		return theta{old.(*event.Checkpoint).GetWeightsSha256(), seq}, nil
	} else if !errors.Is(err, bus.ErrNotFound) {
		return theta{}, err
	}
	return l.publishCheckpoint(ctx, m, l.base, 1)
}

// publishPolicy saves what a stage has trained, and announces it: θ_{t+1} of iteration t, θ_0 of
// fine-tuning.
func (l *lead) publishPolicy(ctx context.Context, t *turn, at cursor) (theta, error) {
	src := Weights(l.policy.model, l.policy.files)
	digest, err := checkpoint.Digest(src)
	if err != nil {
		return theta{}, err
	}
	if err := t.apply(ctx, run.Trained{Result: digest, Steps: at.Step, Tokens: at.Tokens}); err != nil {
		return theta{}, err
	}
	fault.Point(fault.TrainerTrained)
	m := &event.Checkpoint{RunId: l.run.ID, BaseSha256: l.policy.digest}
	switch t.Stage {
	case run.SFTStage:
		m.Phase = event.Phase_PHASE_SFT
	case run.SPINStage:
		m.Phase, m.Iteration = event.Phase_PHASE_SPIN, uint32(t.Number+1)
	case run.ControlStage:
		m.Phase = event.Phase_PHASE_CONTROL
	}
	m.WeightsSha256 = digest
	to, err := l.publishCheckpoint(ctx, m, src, t.Attempt)
	if err != nil {
		return theta{}, err
	}
	fault.Point(fault.TrainerAnnounced)
	l.policy.digest = digest
	return to, t.apply(ctx, run.Published{Manifest: to.seq})
}

// publishCheckpoint writes weights as a directory that transformers loads, puts its files into the
// blob store, and announces them.
func (l *lead) publishCheckpoint(ctx context.Context, m *event.Checkpoint, src checkpoint.Source, attempt int) (theta, error) {
	var err error
	if m.WeightsSha256 == "" {
		if m.WeightsSha256, err = checkpoint.Digest(src); err != nil {
			return theta{}, err
		}
	}
	dir := l.scratch(l.run.ID, fmt.Sprintf("%s-%d", m.Phase.Token(), m.Iteration))
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return theta{}, err
	}
	defer os.RemoveAll(dir)
	err = l.withRoom(ctx, "a checkpoint", func() (err error) {
		if err = l.base.Write(dir, src, "", true); err == nil {
			m.Files, err = l.putFiles(ctx, dir)
		}
		return err
	})
	if err != nil {
		return theta{}, err
	}
	fault.Point(fault.TrainerStored)
	m.Dtype, m.Fingerprint, m.TemplateId = l.run.Spec.Engine.DType, l.fingerprint(), l.base.Template.ID()
	m.Uri, m.Circumstance = l.blobs.URI(), l.circumstance(attempt)
	checkpoints, err := l.openStream(ctx, event.Checkpoints, m)
	if err != nil {
		return theta{}, err
	}
	seq, err := l.publishNext(ctx, checkpoints, m)
	return theta{m.WeightsSha256, seq}, err
}

// putFiles moves a directory's files into the blob store.
func (l *lead) putFiles(ctx context.Context, dir string) ([]*event.File, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var files []*event.File
	for _, e := range entries {
		ref, err := l.blobs.PutFile(ctx, filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		files = append(files, &event.File{Name: e.Name(), Size: uint64(ref.Size), Sha256: ref.SHA256})
	}
	return files, nil
}

// fetch opens a checkpoint of this run by its message.
func (l *lead) fetch(ctx context.Context, at theta) (*pretrained.Pretrained, error) {
	var manifest *event.Checkpoint
	read := bus.ReadConfig{Stream: bus.Checkpoints, Filters: []string{event.Filter(l.run.ID, event.Checkpoints)}, From: at.seq, Until: at.seq}
	err := l.bus.Read(ctx, read, func(d bus.Delivery) error {
		manifest, _ = d.Message.(*event.Checkpoint)
		return d.Err
	})
	if err != nil {
		return nil, err
	}
	if manifest == nil || manifest.GetWeightsSha256() != at.digest {
		return nil, fmt.Errorf("checkpoint %.12s is not at %d in the stream any more", at.digest, at.seq)
	}
	return weights.Open(ctx, l.blobs, l.cfg.Scratch, manifest)
}
