// Package train is the trainer: it leads a run, learns from games, and publishes what it learnt.
//
// Learner is the arithmetic of it, with no bus and no files: games in, one optimizer step out. The
// service around it is Service; `spin train` drives the same Learner from a file of pairs.
package train

import (
	"fmt"
	"slices"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/pkg/model"
	"github.com/seed-8780d58e/spin/pkg/optim"
	"github.com/seed-8780d58e/spin/pkg/safetensors"
	"github.com/seed-8780d58e/spin/pkg/spin"
)

// Answer is a response to a game's prompt.
type Answer struct {
	IDs []int32
	// OpponentLogp is log p(IDs | prompt) under θ_t, summed by spin.LogP.
	OpponentLogp float64
}

// Draw is a generated answer.
type Draw struct {
	Answer
	Iteration uint32 // that sampled it
	Draw      uint32
}

// Game is one prompt with its human answer and the draws to tell it from.
type Game struct {
	PromptID string
	Prompt   []int32
	Real     Answer
	Draws    []Draw
}

// tree is the game as the model sees it: the human answer first, then, with draws, those. Its
// Answers lie behind those of other trees, in ids.
func (g *Game) tree(ids [][]int32, draws bool) (model.Tree, [][]int32) {
	from := len(ids)
	ids = append(ids, g.Real.IDs)
	for i := range g.Draws {
		if draws {
			ids = append(ids, g.Draws[i].IDs)
		}
	}
	return model.Tree{Prompt: g.Prompt, Answers: ids[from:len(ids):len(ids)]}, ids
}

// Trace is one pair at one step.
type Trace struct {
	PromptID        string
	Draw            uint32
	SampleIteration uint32
	spin.Result
}

// Outcome is what one step did.
type Outcome struct {
	spin.Metrics         // of the pairs; empty for Imitate
	Traces       []Trace // in training order; valid until the next step
	Loss         float64 // the objective's: mean over pairs, or nats per token for Imitate
	NLL          float64 // of the human answers, nats per token
	Entropy      float64 // of the generated answers (Imitate: the human ones), nats per token
	LengthReal   float64 // mean tokens
	LengthDraws  float64
	GradNorm     float64 // before clipping
	Games        int
	Copies       int // pairs whose draw is the human answer, token by token
	Tokens       int // of the packed batches, shared prompts counted once
}

// Settings are a Learner's.
type Settings struct {
	// MicroTokens bounds a packed batch. It decides the order in which gradients add up, so it is
	// part of the run spec.
	MicroTokens int
	// Memory bounds the activations kept, in bytes; 0: no bound. It changes no bit.
	Memory  int64
	Rule    compute.Optimizer
	MaxNorm float64 // of the gradient; 0: no clipping
}

// Learner trains one model. Optimizer state is new with each Learner, as the reference starts each
// iteration.
type Learner struct {
	model     *model.Model
	pass      *model.Pass
	arena     compute.Arena
	optimizer *optim.Optimizer
	batch     model.Batch

	// of the step at hand, kept for the next one's use
	trees  []model.Tree
	ids    [][]int32 // the trees' answers
	micro  [][]model.Tree
	coef   []float64
	traces []Trace
}

// NewLearner prepares a model that was made to be trained. All memory is taken here.
func NewLearner(m *model.Model, s Settings) (*Learner, error) {
	var parameters []optim.Parameter
	var bytes int64
	for _, p := range m.Params() {
		if p.Trainable() {
			parameters = append(parameters, optim.Parameter{Name: p.Name, Weight: p.W, Master: p.Master, Grad: p.Grad, NoDecay: len(p.Shape()) == 1})
			bytes += optim.StateBytes(s.Rule.Kind, int64(p.Rows)*int64(p.Cols))*int64(p.Master.DType.Size())/4 + 4*64
		}
	}
	l := &Learner{model: m, arena: m.Device().NewArena(bytes + 1024)}
	l.pass = m.NewPass(model.PassConfig{Tokens: s.MicroTokens, Backward: true, Memory: s.Memory})
	var err error
	if l.optimizer, err = optim.New(l.pass.Backend(), l.arena, parameters, s.Rule, s.MaxNorm); err != nil {
		l.Free()
		return nil, err
	}
	return l, nil
}

// Play takes one SPIN step on the mean loss over the games' pairs (equation 4.7): for each
// micro-batch one forward pass, the objective's coefficients, one backward pass; then clipping and
// the update with learning rate lr.
func (l *Learner) Play(games []Game, objective spin.Objective, lr float64) (Outcome, error) {
	pairs := 0
	for i := range games {
		pairs += len(games[i].Draws)
	}
	if pairs == 0 {
		return Outcome{}, fmt.Errorf("a step of %d games has no pair", len(games))
	}
	out := Outcome{Games: len(games), Traces: l.traces[:0]}
	var sft spin.SFT
	var generated meter
	done := 0
	err := l.accumulate(l.plant(games, true), &out, func(count int) error {
		answer := 0
		for i := done; i < done+count; i++ {
			var err error
			if answer, err = l.playGame(&games[i], answer, pairs, objective, &out, &sft, &generated); err != nil {
				return fmt.Errorf("game %s: %w", games[i].PromptID, err)
			}
		}
		done += count
		return nil
	})
	if err != nil {
		return out, err
	}
	l.traces = out.Traces
	out.Loss, out.NLL = out.Metrics.Loss(), sft.Loss()
	out.LengthReal, out.LengthDraws = float64(sft.Tokens())/float64(len(games)), generated.length()
	out.Entropy = generated.entropy()
	return out, l.update(&out, lr)
}

// playGame turns one game's log-probabilities, which start at the batch's answer index, into
// coefficients, and returns the index of the next game's.
func (l *Learner) playGame(g *Game, answer, pairs int, objective spin.Objective, out *Outcome, sft *spin.SFT, generated *meter) (int, error) {
	real := l.pass.Scored(&l.batch, answer)
	realSpan := l.batch.Answers[answer]
	realLogp := spin.LogP(real.Logps)
	if err := sft.Add(real.Logps); err != nil {
		return 0, err
	}
	realCoef := 0.0
	for d := range g.Draws {
		answer++
		draw := &g.Draws[d]
		s := l.pass.Scored(&l.batch, answer)
		generated.add(len(s.Logps), s.Entropy)
		r, err := objective.Eval(spin.Pair{
			PolicyReal: realLogp, PolicyGenerated: spin.LogP(s.Logps),
			OpponentReal: g.Real.OpponentLogp, OpponentGenerated: draw.OpponentLogp,
		})
		if err != nil {
			return 0, err
		}
		out.Metrics.Add(r)
		out.Traces = append(out.Traces, Trace{g.PromptID, draw.Draw, draw.Iteration, r})
		if slices.Equal(draw.IDs, g.Real.IDs) {
			out.Copies++
		}
		cr, cg := r.Coefficients(pairs)
		realCoef += cr
		l.fill(l.batch.Answers[answer], cg)
	}
	l.fill(realSpan, realCoef)
	return answer + 1, nil
}

// Imitate takes one step of supervised fine-tuning on the human answers alone.
func (l *Learner) Imitate(games []Game, lr float64) (Outcome, error) {
	tokens := 0
	for i := range games {
		tokens += len(games[i].Real.IDs)
	}
	if tokens == 0 {
		return Outcome{}, fmt.Errorf("a step of %d games has no human answer", len(games))
	}
	out := Outcome{Games: len(games)}
	var sft spin.SFT
	var human meter
	done := 0
	err := l.accumulate(l.plant(games, false), &out, func(count int) error {
		for i := range count {
			s := l.pass.Scored(&l.batch, i)
			if err := sft.Add(s.Logps); err != nil {
				return fmt.Errorf("game %s: %w", games[done+i].PromptID, err)
			}
			human.add(len(s.Logps), s.Entropy)
			l.fill(l.batch.Answers[i], spin.SFTCoefficient(tokens))
		}
		done += count
		return nil
	})
	if err != nil {
		return out, err
	}
	out.Loss, out.NLL, out.Entropy, out.LengthReal = sft.Loss(), sft.Loss(), human.entropy(), human.length()
	return out, l.update(&out, lr)
}

// plant makes the games' trees, valid until the next call.
func (l *Learner) plant(games []Game, draws bool) []model.Tree {
	l.trees, l.ids = l.trees[:0], l.ids[:0]
	for i := range games {
		var t model.Tree
		t, l.ids = games[i].tree(l.ids, draws)
		l.trees = append(l.trees, t)
	}
	return l.trees
}

// accumulate runs the trees micro-batch by micro-batch: forward, then coefficients (which fills
// l.coef for the number of trees it is given), then backward.
func (l *Learner) accumulate(trees []model.Tree, out *Outcome, coefficients func(trees int) error) (err error) {
	if l.micro, err = model.Split(l.micro[:0], trees, l.pass.Config().Tokens); err != nil {
		return err
	}
	for _, m := range l.micro {
		if err := l.batch.Pack(m); err != nil {
			return err
		}
		if _, err := l.pass.LogProbs(&l.batch); err != nil {
			return err
		}
		l.coef = l.coef[:0]
		for range l.batch.Targets {
			l.coef = append(l.coef, 0)
		}
		if err := coefficients(len(m)); err != nil {
			return err
		}
		l.pass.Backward(l.coef)
		out.Tokens += l.batch.Tokens()
	}
	return nil
}

func (l *Learner) fill(s model.Span, c float64) {
	for i := s.From; i < s.To; i++ {
		l.coef[i] = c
	}
}

func (l *Learner) update(out *Outcome, lr float64) (err error) {
	out.GradNorm, err = l.optimizer.Step(lr)
	l.model.Refresh(l.pass.Backend())
	return err
}

// Score sets the opponent's log-probabilities of the games to the model's present ones: before the
// first step of an iteration the model is the opponent.
func (l *Learner) Score(games []Game) error {
	return l.pass.Score(l.plant(games, true), func(i, answer int, s model.Scored) {
		if answer == 0 {
			games[i].Real.OpponentLogp = spin.LogP(s.Logps)
		} else {
			games[i].Draws[answer-1].OpponentLogp = spin.LogP(s.Logps)
		}
	})
}

// Model is what the learner trains.
func (l *Learner) Model() *model.Model { return l.model }

// State lists what a save in the middle of an iteration must hold beside Steps: masters under their own
// names, each moment under its parameter's name and torch's for the moment, all F32.
func (l *Learner) State() []safetensors.Tensor {
	var all []safetensors.Tensor
	for _, p := range l.model.Params() {
		if p.Trainable() {
			all = append(all, safetensors.Tensor{Name: p.Name, DType: safetensors.F32, Shape: p.Shape()})
		}
	}
	for name, t := range l.optimizer.Moments() {
		all = append(all, safetensors.Tensor{Name: name, DType: safetensors.F32, Shape: []int{t.Rows, t.Cols}})
	}
	return all
}

// Steps counts the optimizer's steps, those before a Resume included.
func (l *Learner) Steps() int { return l.optimizer.Steps() }

// ReadState reads a tensor of State, between two steps.
func (l *Learner) ReadState(name string, dst []float32) error {
	t, err := l.stateTensor(name)
	if err != nil {
		return err
	}
	return compute.Read(l.pass.Backend(), dst, t)
}

// Resume sets the learner to where another one was after so many steps: read fills each tensor of State.
func (l *Learner) Resume(steps int, read func(name string, dst []float32) error) error {
	var values []float32
	for _, s := range l.State() {
		values = slices.Grow(values[:0], s.Len())[:s.Len()]
		if err := read(s.Name, values); err != nil {
			return err
		}
		t, err := l.stateTensor(s.Name)
		if err != nil {
			return err
		}
		if _, moment := l.moment(s.Name); moment {
			compute.Write(l.pass.Backend(), t, values)
		} else if err := l.model.WriteMaster(l.pass.Backend(), s.Name, values); err != nil {
			return err
		}
	}
	l.model.Refresh(l.pass.Backend())
	l.optimizer.Resume(steps)
	return nil
}

// stateTensor finds a tensor of State.
func (l *Learner) stateTensor(name string) (compute.Tensor, error) {
	t, found := l.moment(name)
	for _, p := range l.model.Params() {
		if !found && p.Trainable() && p.Name == name {
			t, found = p.Master, true
		}
	}
	if !found || t.DType != compute.F32 {
		return compute.Tensor{}, fmt.Errorf("%s is no F32 state of this training", name)
	}
	return t, nil
}

func (l *Learner) moment(name string) (compute.Tensor, bool) {
	for n, t := range l.optimizer.Moments() {
		if n == name {
			return t, true
		}
	}
	return compute.Tensor{}, false
}

// Bytes is the device memory of the pass and the optimizer, the model's own left out.
func (l *Learner) Bytes() int64 { return l.pass.Bytes() + l.arena.Peak() }

// Free gives the memory back; the model stays.
func (l *Learner) Free() {
	l.pass.Free()
	l.arena.Free()
}

// meter averages lengths over answers, and entropies over tokens.
type meter struct {
	answers, tokens int
	sum             float64
}

func (m *meter) add(tokens int, entropy float64) {
	m.answers++
	m.tokens += tokens
	m.sum += entropy * float64(tokens)
}

func (m *meter) length() float64 {
	if m.answers == 0 {
		return 0
	}
	return float64(m.tokens) / float64(m.answers)
}

func (m *meter) entropy() float64 {
	if m.tokens == 0 {
		return 0
	}
	return m.sum / float64(m.tokens)
}
