package train

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/fault"
	"github.com/seed-8780d58e/spin/pkg/model"
	"github.com/seed-8780d58e/spin/pkg/optim"
	"github.com/seed-8780d58e/spin/pkg/pretrained"
	"github.com/seed-8780d58e/spin/pkg/run"
)

// lead is one run in the hands of one trainer. Everything in it can be read back from the control
// bucket, the streams and the blob store: a trainer that takes over starts with an empty lead.
type lead struct {
	*Service
	state      bus.State[run.Run]
	iterations bus.State[run.Iteration]
	run        run.Run
	revision   uint64     // of run's key
	stating    sync.Mutex // holds back the journal, which asks whether we still lead, while the state changes

	saver        *saver
	journal      *journal
	steps, pairs *stream // what the journal publishes to
	replay       replay

	base    *pretrained.Pretrained // the model that the run was given
	prompts prompts
	policy  *policy // the model in training; nil between stages that a restart skipped
}

// policy is the model in training and what its weights are.
type policy struct {
	model  *model.Model
	digest string                 // weights_sha256 that training started from
	files  *pretrained.Pretrained // those weights; closed where training needs them no more
}

// play is the run, stage by stage: θ_0, then the iterations, then the control experiment. A stage
// that an earlier leader finished is skipped.
func (l *lead) play(ctx context.Context, id string) error {
	if err := l.take(ctx, id); err != nil || l.run.Status != run.Running {
		return err
	}
	fault.Point(fault.TrainerTaken)
	ctx, err := l.openBooks(ctx)
	if err != nil {
		return err
	}
	defer l.saver.close()
	if err := l.bus.OpenQueue(ctx, id); err != nil {
		return err
	}
	at, err := l.publishBase(ctx)
	if err != nil {
		return err
	}
	fault.Point(fault.TrainerBase)
	spec := l.run.Spec
	if spec.SFT.Epochs > 0 {
		if at, err = l.stage(ctx, run.SFTStage, 0, at, l.sft); err != nil {
			return err
		}
	}
	theta0 := at
	for t := 0; t < l.run.Plays(); t++ { // the stop rule may end it
		if at, err = l.stage(ctx, run.SPINStage, t, at, l.iteration); err != nil {
			return err
		}
	}
	if spec.Control == "sft" {
		if _, err = l.stage(ctx, run.ControlStage, 0, theta0, l.control); err != nil {
			return err
		}
	}
	if err := l.journal.flush(ctx); err != nil { // however long it takes: no step is dropped
		return err
	}
	if err := l.saver.remove(ctx); err != nil {
		return err
	}
	if err := l.bus.CloseQueue(ctx, id); err != nil {
		return err
	}
	fault.Point(fault.TrainerFinished)
	reason := ""
	if l.run.Stop != nil {
		reason = l.run.Stop.Reason
	}
	return l.command(ctx, run.Finish, reason)
}

// openBooks takes over what is kept beside the run's state: the save, which fences off who led before,
// and the streams, with what was left to publish. The context that it returns ends when the run is
// found to be somebody else's.
func (l *lead) openBooks(ctx context.Context) (context.Context, error) {
	var err error
	if l.saver, err = l.openSaver(ctx); err != nil {
		return ctx, err
	}
	if l.steps, err = l.openStream(ctx, event.Steps, &event.Step{RunId: l.run.ID}); err != nil {
		return ctx, err
	}
	if l.pairs, err = l.openStream(ctx, event.Pairs, &event.PairTraces{RunId: l.run.ID}); err != nil {
		return ctx, err
	}
	training, end := context.WithCancelCause(ctx)
	if l.journal, err = openJournal(ctx, l.scratch(l.run.ID, "journal"), l.cfg.JournalBytes, l.cfg.Metrics.Journal, l.send, end, l.log.With().Str("run", l.run.ID).Logger()); err != nil {
		end(err)
		return ctx, err
	}
	return training, l.replayJournal(training)
}

// take reads the run, and marks it as running on this engine.
func (l *lead) take(ctx context.Context, id string) error {
	var err error
	if l.run, l.revision, err = l.state.Load(ctx, run.Key(id)); err != nil {
		return err
	}
	if l.run.Status != run.Submitted && l.run.Status != run.Running {
		return nil
	}
	engine := l.fingerprint()
	if l.run.Fingerprint != "" && l.run.Fingerprint != engine {
		if !l.cfg.AcceptEngineChange {
			return fmt.Errorf("run %s was begun by engine %s, this is %s: results would differ; --accept-engine-change goes on all the same", id, l.run.Fingerprint, engine)
		}
		l.event(ctx, event.Level_LEVEL_WARN, "engine_change", 0, fmt.Sprintf("from %s to %s", l.run.Fingerprint, engine))
	}
	spec, forget, err := l.fetchSources(ctx)
	if err != nil {
		return err
	}
	defer forget()
	if l.base, err = pretrained.Open(spec.Model.Path); err != nil {
		return err
	}
	if l.prompts, err = l.readPrompts(spec); err != nil {
		return err
	}
	l.run.Fingerprint = engine
	return l.command(ctx, run.Start, "")
}

// command changes the run's status by compare-and-set.
func (l *lead) command(ctx context.Context, c run.Command, reason string) error {
	next, err := l.run.Apply(c, reason)
	if err != nil {
		return err
	}
	return l.swap(ctx, next)
}

// giveUp records why the run does not go on: blocked where a person can help, failed else.
func (l *lead) giveUp(ctx context.Context, cause error) error {
	c, kind := run.Fail, failureKind(cause)
	if kind == "blocked" {
		c = run.Block
	}
	if err := l.command(ctx, c, cause.Error()); err != nil {
		return fmt.Errorf("record that the run is %s: %w", kind, err)
	}
	l.event(ctx, event.Level_LEVEL_ALARM, kind, uint32(l.run.Iteration), cause.Error())
	return nil
}

func (l *lead) swap(ctx context.Context, next run.Run) error {
	l.stating.Lock()
	defer l.stating.Unlock()
	revision, err := l.state.Swap(ctx, run.Key(next.ID), next, l.revision)
	if err != nil {
		return err
	}
	l.run, l.revision = next, revision
	return nil
}

// theta is weights that a stage starts from or ends with.
type theta struct {
	digest string
	seq    uint64 // of its Checkpoint message
}

// turn is one stage in work: its state in the control bucket.
type turn struct {
	run.Iteration
	key      string
	revision uint64
	lead     *lead
}

// apply moves the turn's state on, by compare-and-set.
func (t *turn) apply(ctx context.Context, events ...run.Event) error {
	next, err := run.Fold(t.Iteration, events...)
	if err != nil {
		return err
	}
	revision, err := t.lead.iterations.Swap(ctx, t.key, next, t.revision)
	if err != nil {
		return err
	}
	t.Iteration, t.revision = next, revision
	return nil
}

// stage plays one stage, unless its state says that it is done, and returns the weights it ends
// with. learn trains l.policy, from where
// a save left it, and returns where it ends.
func (l *lead) stage(ctx context.Context, stage run.Stage, number int, from theta, learn func(context.Context, *turn) (cursor, error)) (theta, error) {
	t := &turn{key: run.IterationKey(l.run.ID, stage, number), lead: l}
	var err error
	t.Iteration, t.revision, err = l.iterations.Load(ctx, t.key)
	switch {
	case errors.Is(err, bus.ErrNotFound):
		t.Iteration = run.NewIteration(l.run.ID, stage, number)
		if t.revision, err = l.iterations.Create(ctx, t.key, t.Iteration); err != nil {
			return theta{}, err
		}
	case err != nil:
		return theta{}, err
	case t.Phase == run.Done:
		l.drop()
		return theta{t.Result, t.Manifest}, nil
	case t.Phase == run.Evaluating: // its weights are published
		l.drop()
		return theta{t.Result, t.Manifest}, l.judge(ctx, t)
	default: // what an earlier leader began goes on from its save, or starts again from its opponent
		t.Iteration = restarted(t.Iteration)
	}
	l.run.Stage, l.run.Iteration = stage, number
	if err := l.swap(ctx, l.run); err != nil {
		return theta{}, err
	}
	games := 0
	if stage == run.SPINStage {
		games = len(l.prompts.train) + len(l.prompts.heldout)
	}
	if err := t.apply(ctx, run.Started{Opponent: from.digest, Games: games}); err != nil {
		return theta{}, err
	}
	fault.Point(fault.TrainerStarted)
	if err := l.ready(ctx, from, stage); err != nil {
		return theta{}, err
	}
	began := time.Now()
	at, err := learn(ctx, t)
	if err != nil {
		return theta{}, fmt.Errorf("%s %d: %w", stage, number, err)
	}
	l.journal.flushWithin(ctx, settleWithin)
	if err := l.saver.secure(ctx); err != nil {
		return theta{}, err
	}
	to, err := l.publishPolicy(ctx, t, at)
	if err != nil {
		return theta{}, err
	}
	fault.Point(fault.TrainerPublished)
	if err := l.saver.finish(ctx); err != nil {
		return theta{}, err
	}
	if err := l.Retain(ctx, l.run.ID); err != nil && ctx.Err() == nil { // a full disk will say so itself
		l.log.Warn().Err(err).Str("run", l.run.ID).Msg("drop old checkpoints")
	}
	l.log.Info().Str("run", l.run.ID).Str("stage", string(stage)).Int("iteration", number).Int("steps", at.Step).
		Str("weights", to.digest[:12]).Dur("took", time.Since(began)).Msg("stage done")
	return to, l.judge(ctx, t)
}

// restarted is an interrupted turn as it is taken up again, with its holes.
func restarted(it run.Iteration) run.Iteration {
	next := run.NewIteration(it.Run, it.Stage, it.Number)
	next.Attempt, next.Holes = it.Attempt+1, it.Holes
	return next
}

// ready makes l.policy a trainable model with the weights of from. The policy of the last stage is
// them already, unless this stage starts from others.
func (l *lead) ready(ctx context.Context, from theta, stage run.Stage) error {
	adapters := l.run.Spec.LoRA.Rank > 0 && stage == run.SPINStage
	if l.policy != nil && l.policy.digest == from.digest && l.policy.model.LoRA == nil && !adapters {
		return nil
	}
	l.drop()
	files, err := l.fetch(ctx, from)
	if err != nil {
		return err
	}
	spec := l.run.Spec
	opt := model.Options{DType: dtype(spec), Full: true, MaxContext: l.contextTokens()}
	p := &policy{digest: from.digest, files: files}
	if adapters {
		opt.Full = false
		opt.LoRA = &model.LoRA{Rank: spec.LoRA.Rank, Alpha: spec.LoRA.Alpha, Targets: spec.LoRA.Targets, Seed: spec.Seed}
	}
	if p.model, err = model.New(l.dev, l.dev.NewBackend(), files.ModelConfig, files, opt); err != nil {
		return errors.Join(err, files.Close())
	}
	l.policy = p
	if opt.LoRA == nil {
		return files.Close()
	}
	return nil
}

// contextTokens is the longest sequence that the run can meet: the RoPE tables need be no longer.
func (l *lead) contextTokens() int {
	return l.run.Spec.Data.MaxPromptTokens + l.run.Spec.Sampling.MaxNewTokens
}

// drop frees the policy.
func (l *lead) drop() {
	if l.policy != nil {
		l.policy.model.Free()
		if l.policy.model.LoRA != nil {
			l.policy.files.Close()
		}
		l.policy = nil
	}
}

func (l *lead) close() {
	if l.journal != nil {
		ctx, cancel := context.WithTimeout(context.Background(), settleWithin)
		defer cancel()
		l.journal.flushWithin(ctx, settleWithin)
		l.journal.close()
	}
	if l.run.ID != "" {
		os.RemoveAll(l.scratch(l.run.ID, ""))
	}
	l.drop()
	if l.base != nil {
		l.base.Close()
	}
}

// settings of a Learner for this run.
func (l *lead) settings(o run.Optimizer, maxNorm float64) (Settings, error) {
	rule, err := optim.ParseRule(o.Name)
	if err != nil {
		return Settings{}, err
	}
	rule.Alpha, rule.Beta1, rule.Beta2, rule.Eps, rule.WeightDecay = o.Alpha, o.Beta1, o.Beta2, o.Eps, o.WeightDecay
	return Settings{MicroTokens: l.run.Spec.Engine.MicroTokens, Memory: int64(l.run.Spec.Engine.Memory), Rule: rule, MaxNorm: maxNorm}, nil
}

func dtype(s run.Spec) compute.DType {
	if s.Engine.DType == "bf16" {
		return compute.BF16
	}
	return compute.F32
}

// fingerprint is the engine of this run: the device and the dtype.
func (l *lead) fingerprint() string { return l.dev.Fingerprint() + "/" + l.run.Spec.Engine.DType }
