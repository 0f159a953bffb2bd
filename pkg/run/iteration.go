package run

import (
	"fmt"
	"slices"
)

// Stage is what an iteration trains by.
type Stage string

const (
	SFTStage     Stage = "sft"     // fine-tuning on the human answers, before iteration 0
	SPINStage    Stage = "spin"    // self-play
	ControlStage Stage = "control" // fine-tuning that goes on where SPIN starts
)

// Phase of an iteration:
//
//	planned → generating → sealing → training → publishing → evaluating → done
//
// sft and control have no games and go from planned to training. From every phase but done an iteration can be paused or fail, and go on from there.
type Phase string

const (
	Planned    Phase = "planned"
	Generating Phase = "generating" // chunks are out; the trainer may already take steps
	Sealing    Phase = "sealing"    // every game is there or a hole; the training set gets its digest
	Training   Phase = "training"
	Publishing Phase = "publishing" // θ_{t+1} goes to the blob store and is announced
	Evaluating Phase = "evaluating"
	Done       Phase = "done"
	Failed     Phase = "failed"
	Paused     Phase = "paused"
)

// Iteration is the value of iter.<run>.<stage>.<t>: the truth about θ_t's turn, which messages only announce.
type Iteration struct {
	Run    string `json:"run"`
	Stage  Stage  `json:"stage"`
	Number int    `json:"iteration"`
	Phase  Phase  `json:"phase"`
	From   Phase  `json:"from,omitempty"` // where paused or failed came from

	Opponent string   `json:"opponent_sha256,omitempty"` // weights of θ_t: played the games, training starts from them
	Games    int      `json:"games"`                     // to be played, held-out ones included
	Holes    []string `json:"holes,omitempty"`           // prompts skipped, in order
	Dataset  string   `json:"dataset_sha256,omitempty"`  // over the training set in key order, set by sealing
	Result   string   `json:"result_sha256,omitempty"`   // weights that training left
	Steps    int      `json:"steps,omitempty"`           // optimizer steps taken
	Tokens   int      `json:"tokens,omitempty"`          // that they trained on, shared prompts counted once
	Manifest uint64   `json:"manifest,omitempty"`        // sequence of the checkpoint's message
	Attempt  int      `json:"attempt"`                   // leaders that have worked on it
	Error    string   `json:"error,omitempty"`
}

// IterationKey is the iteration's key in the control bucket.
func IterationKey(run string, stage Stage, t int) string {
	return fmt.Sprintf("iter.%s.%s.%d", run, stage, t)
}

// IterationPattern matches the keys of all iterations of a run; of all runs where run is empty.
func IterationPattern(run string) string {
	if run == "" {
		run = "*"
	}
	return "iter." + run + ".*.*"
}

// NewIteration is a planned one.
func NewIteration(run string, stage Stage, t int) Iteration {
	return Iteration{Run: run, Stage: stage, Number: t, Phase: Planned, Attempt: 1}
}

// Event moves an iteration on.
type Event interface{ apply(*Iteration) error }

// Events, in the order in which an iteration meets them.
type (
	// Started: θ_t is there. Games is 0 for sft and control.
	Started struct {
		Opponent string
		Games    int
	}
	// Skipped makes a hole, while games are being played.
	Skipped struct{ Prompt string }
	// Played: every game is there or a hole.
	Played struct{}
	// Sealed: the training set is fixed.
	Sealed struct{ Dataset string }
	// Trained: the last step is done.
	Trained struct {
		Result string
		Steps  int
		Tokens int
	}
	// Published: θ_{t+1} can be loaded by everybody.
	Published struct{ Manifest uint64 }
	// Evaluated: the scores that the run waits for are there.
	Evaluated struct{}
	// Halt: a person paused the run.
	Halt struct{}
	// Broke: an error that trying again did not help.
	Broke struct{ Error string }
	// GoOn after Halt or Broke, where it was.
	GoOn struct{}
	// TakenOver: another leader works on it now.
	TakenOver struct{}
)

// Apply returns the iteration after an event, or an error that wraps ErrTransition and the iteration unchanged.
func (it Iteration) Apply(e Event) (Iteration, error) {
	next := it
	next.Holes = slices.Clone(it.Holes)
	if err := e.apply(&next); err != nil {
		return it, fmt.Errorf("iteration %d of %s, %s: %w", it.Number, it.Stage, it.Phase, err)
	}
	return next, nil
}

// Fold applies events in order and stops at the first that is refused.
func Fold(it Iteration, events ...Event) (Iteration, error) {
	for _, e := range events {
		next, err := it.Apply(e)
		if err != nil {
			return it, err
		}
		it = next
	}
	return it, nil
}

// move goes from one phase to another.
func (it *Iteration) move(from, to Phase) error {
	if it.Phase != from {
		return fmt.Errorf("%s follows %s: %w", to, from, ErrTransition)
	}
	it.Phase = to
	return nil
}

func needDigest(what, digest string) error {
	if !isDigest(digest) {
		return fmt.Errorf("%s digest is %.70q, want 64 hexadecimal digits: %w", what, digest, ErrTransition)
	}
	return nil
}

func (e Started) apply(it *Iteration) error {
	if err := needDigest("opponent", e.Opponent); err != nil {
		return err
	}
	it.Opponent, it.Games = e.Opponent, e.Games
	if it.Stage == SPINStage {
		if e.Games <= 0 {
			return fmt.Errorf("no games to play: %w", ErrTransition)
		}
		return it.move(Planned, Generating)
	}
	if e.Games != 0 {
		return fmt.Errorf("%s plays no games: %w", it.Stage, ErrTransition)
	}
	return it.move(Planned, Training)
}

func (e Skipped) apply(it *Iteration) error {
	phase := it.Phase
	if phase == Paused || phase == Failed {
		phase = it.From
	}
	if phase != Generating {
		return fmt.Errorf("a game can be skipped while games are played: %w", ErrTransition)
	}
	at, found := slices.BinarySearch(it.Holes, e.Prompt)
	if e.Prompt == "" || found {
		return fmt.Errorf("prompt %q is skipped already: %w", e.Prompt, ErrTransition)
	}
	if len(it.Holes)+1 >= it.Games {
		return fmt.Errorf("the last game can't be skipped: %w", ErrTransition)
	}
	it.Holes = slices.Insert(it.Holes, at, e.Prompt)
	return nil
}

func (Played) apply(it *Iteration) error { return it.move(Generating, Sealing) }

func (e Sealed) apply(it *Iteration) error {
	it.Dataset = e.Dataset
	if err := needDigest("data set", e.Dataset); err != nil {
		return err
	}
	return it.move(Sealing, Training)
}

func (e Trained) apply(it *Iteration) error {
	it.Result, it.Steps, it.Tokens = e.Result, e.Steps, e.Tokens
	if err := needDigest("result", e.Result); err != nil {
		return err
	}
	return it.move(Training, Publishing)
}

func (e Published) apply(it *Iteration) error {
	it.Manifest = e.Manifest
	return it.move(Publishing, Evaluating)
}

func (Evaluated) apply(it *Iteration) error { return it.move(Evaluating, Done) }

func (Halt) apply(it *Iteration) error {
	if it.Phase == Done || it.Phase == Failed || it.Phase == Paused {
		return fmt.Errorf("nothing to pause: %w", ErrTransition)
	}
	it.From, it.Phase = it.Phase, Paused
	return nil
}

func (e Broke) apply(it *Iteration) error {
	switch it.Phase {
	case Done, Failed:
		return fmt.Errorf("nothing that could fail: %w", ErrTransition)
	case Paused: // goes on where the pause would have
	default:
		it.From = it.Phase
	}
	it.Phase, it.Error = Failed, e.Error
	return nil
}

func (GoOn) apply(it *Iteration) error {
	if it.Phase != Paused && it.Phase != Failed {
		return fmt.Errorf("it is not paused: %w", ErrTransition)
	}
	it.Phase, it.From, it.Error = it.From, "", ""
	return nil
}

func (TakenOver) apply(it *Iteration) error {
	if it.Phase == Done {
		return fmt.Errorf("nothing left to do: %w", ErrTransition)
	}
	it.Attempt++
	return nil
}
