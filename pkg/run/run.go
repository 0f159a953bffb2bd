// Package run is what a run is: its specification, its plan, and its state.
//
//   - A Spec is everything that decides the result, read from a run file (YAML or JSON, unknown keys refused) over a preset's defaults.
//   - The plan is arithmetic on the Spec: in which order games are used (Order), how they are cut into tasks (PlanChunks), how many steps, samples
//     and pairs there must be. It depends on nothing else: not on arrival, not on who is there.
//   - The state is two small values in the control bucket, Run and Iteration, changed by pure folds: Apply(event) returns the next value or says why
//     there is none. Only the run's leader writes them, by compare-and-set (pkg/bus).
//
// Nothing here does input or output.
package run

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// NewID returns a run id: a UUIDv7 in 32 hexadecimal digits, so that ids sort by time and are tokens of a subject.
func NewID() (string, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", fmt.Errorf("make a run id: %w", err)
	}
	return strings.ReplaceAll(id.String(), "-", ""), nil
}

// Status of a run.
type Status string

const (
	Submitted Status = "submitted" // waits for a trainer
	Running   Status = "running"
	Halted    Status = "paused"  // a person said so; nothing is handed out
	Blocked   Status = "blocked" // a dead letter is needed: requeue or skip it
	Finished  Status = "done"
	Broken    Status = "failed" // an error that trying again did not help
	Aborted   Status = "aborted"
)

// Final reports whether nothing follows.
func (s Status) Final() bool { return s == Finished || s == Aborted }

// Run is the value of run.<run>: the frozen spec and where the run is.
type Run struct {
	ID         string    `json:"id"`
	Spec       Spec      `json:"spec"`
	SpecDigest string    `json:"spec_digest"`
	Status     Status    `json:"status"`
	Reason     string    `json:"reason,omitempty"` // of paused, blocked, failed
	Stage      Stage     `json:"stage"`            // in work
	Iteration  int       `json:"iteration"`        // in work
	CreatedAt  time.Time `json:"created_at"`
	Stop       *Stop     `json:"stop,omitempty"` // nil: its stop rule has not ended it
	// Fingerprint of the trainer's engine, set by the first one; another engine resumes only when told to.
	Fingerprint string `json:"fingerprint,omitempty"`
}

// NewRun is a submitted run of a valid spec whose dtype is settled.
func NewRun(id string, spec Spec, at time.Time) (Run, error) {
	if err := spec.Validate(); err != nil {
		return Run{}, err
	}
	if spec.Engine.DType == "auto" {
		return Run{}, errors.New("engine.dtype is auto: want bf16 or f32 in a run that is submitted")
	}
	r := Run{ID: id, Spec: spec, SpecDigest: spec.Digest(), Status: Submitted, CreatedAt: at.UTC(), Stage: SPINStage}
	if spec.SFT.Epochs > 0 {
		r.Stage = SFTStage
	}
	return r, nil
}

// Key of the run in the control bucket.
func Key(run string) string { return "run." + run }

// KeyPattern matches every run's key.
const KeyPattern = "run.*"

// Command changes a run's status; a person's or the leader's.
type Command string

const (
	Start  Command = "start"
	Pause  Command = "pause"
	Resume Command = "resume"
	Block  Command = "block"
	Finish Command = "finish"
	Fail   Command = "fail"
	Abort  Command = "abort"
)

// ErrTransition is wrapped by every refused change of state.
var ErrTransition = errors.New("not possible in this state")

// Apply returns the run after a command; reason is for people.
func (r Run) Apply(c Command, reason string) (Run, error) {
	from := map[Command][]Status{
		Start:  {Submitted, Running},
		Pause:  {Submitted, Running, Blocked},
		Resume: {Halted, Blocked, Broken, Running},
		Block:  {Running, Blocked},
		Finish: {Running},
		Fail:   {Submitted, Running, Blocked, Halted},
		Abort:  {Submitted, Running, Halted, Blocked, Broken},
	}
	to := map[Command]Status{
		Start: Running, Pause: Halted, Resume: Running, Block: Blocked, Finish: Finished, Fail: Broken, Abort: Aborted,
	}
	if !slices.Contains(from[c], r.Status) {
		return r, fmt.Errorf("%s a run that is %s: %w", c, r.Status, ErrTransition)
	}
	r.Status, r.Reason = to[c], reason
	return r, nil
}
