package event

import (
	"fmt"
	"strconv"
	"strings"
)

// Subjects: spin.<run>.<kind>.…, every token out of [a-z0-9_-], so that no id can widen a subject. A reader filters by prefix:
//
//	spin.<run>.prompts.<iteration>[.<prompt> or .c<chunk>-h<hedge>]
//	spin.<run>.games.<iteration>.<prompt>
//	spin.<run>.steps.<iteration>.<phase>.<step>
//	spin.<run>.pairs.<iteration>.<step>
//	spin.<run>.checkpoints.<iteration>.<phase>
//	spin.<run>.scores.<iteration>.<phase>.<task>.<metric>.<split>
//	spin.<run>.events.<service>.<kind>
//	spin.<run>.dead.<stream>
const root = "spin"

// Kinds of subjects, each the third token.
const (
	Prompts     = "prompts"
	Games       = "games"
	Steps       = "steps"
	Pairs       = "pairs"
	Checkpoints = "checkpoints"
	Scores      = "scores"
	Events      = "events"
	Dead        = "dead"
)

// Filter is the subject filter of one kind of messages; an empty run means all runs, and further tokens narrow it: Filter(run, Games, "3") is
// every game of iteration 3.
func Filter(run, kind string, more ...string) string {
	if run == "" {
		run = "*"
	}
	return subject(run, kind, append(more, ">")...)
}

// IterationFilter is Filter for one iteration.
func IterationFilter(run, kind string, iteration uint32) string {
	return Filter(run, kind, number(iteration))
}

// GameSubject is where the game of one prompt lies.
func GameSubject(run string, iteration uint32, prompt string) string {
	return subject(run, Games, number(iteration), prompt)
}

// ParseSubject takes a subject apart: its run, its kind, and what follows. ok is false where it is none of ours.
func ParseSubject(s string) (run, kind string, rest []string, ok bool) {
	tokens := strings.Split(s, ".")
	if len(tokens) < 3 || tokens[0] != root || !IsToken(tokens[1]) {
		return "", "", nil, false
	}
	return tokens[1], tokens[2], tokens[3:], true
}

// CheckpointSubject is where theta_t is announced.
func CheckpointSubject(run string, iteration uint32, phase Phase) string {
	return subject(run, Checkpoints, number(iteration), phase.Token())
}

// StepSubject is where a step's aggregates lie.
func StepSubject(run string, iteration uint32, phase Phase, step uint32) string {
	return subject(run, Steps, number(iteration), phase.Token(), number(step))
}

// PairsSubject is where a step's pairs lie.
func PairsSubject(run string, iteration, step uint32) string {
	return subject(run, Pairs, number(iteration), number(step))
}

// QueueSubjects are the subjects of a run's prompts queue.
func QueueSubjects(run string) string { return subject(run, Prompts, ">") }

// PlannedSubjects are those of the queue's planned chunks.
func PlannedSubjects(run string) string { return subject(run, Prompts, "*") }

// UrgentSubjects are those of the queue's tasks that somebody may be waiting for: prompts split off, hedges, what is tried again.
func UrgentSubjects(run string) string { return subject(run, Prompts, "*", "*") }

// Subject of the chunk: one per iteration, so that the broker can bound a run's queue; split and repeated chunks have one each, so that a full queue
// can't refuse them, and workers can take them first.
func (m *Chunk) Subject() string {
	switch {
	case m.GetSingle() && len(m.GetPrompts()) == 1:
		return subject(m.GetRunId(), Prompts, number(m.GetIteration()), m.GetPrompts()[0].GetPromptId())
	case m.GetHedge() > 0:
		return subject(m.GetRunId(), Prompts, number(m.GetIteration()), fmt.Sprintf("c%d-h%d", m.GetChunk(), m.GetHedge()))
	}
	return subject(m.GetRunId(), Prompts, number(m.GetIteration()))
}

// Subject of the game, its identity.
func (m *Game) Subject() string { return GameSubject(m.GetRunId(), m.GetIteration(), m.GetPromptId()) }

// Subject of the step, its identity.
func (m *Step) Subject() string {
	return StepSubject(m.GetRunId(), m.GetIteration(), m.GetPhase(), m.GetStep())
}

// Subject of the step's pairs, their identity.
func (m *PairTraces) Subject() string {
	return PairsSubject(m.GetRunId(), m.GetIteration(), m.GetStep())
}

// Subject of the checkpoint, its identity.
func (m *Checkpoint) Subject() string {
	return CheckpointSubject(m.GetRunId(), m.GetIteration(), m.GetPhase())
}

// Subject of the score, its identity.
func (m *Score) Subject() string {
	return subject(m.GetRunId(), Scores, number(m.GetIteration()), m.GetPhase().Token(), m.GetTask(), m.GetMetric(), m.GetSplit().Token())
}

// Subject of the event.
func (m *Event) Subject() string { return subject(m.GetRunId(), Events, m.GetService(), m.GetKind()) }

// Subject of the dead letter.
func (m *DeadLetter) Subject() string { return subject(m.GetRunId(), Dead, m.GetStream()) }

// Token of the phase in subjects and columns: base, sft, spin, control; of none, "unspecified".
func (p Phase) Token() string { return strings.ToLower(strings.TrimPrefix(p.String(), "PHASE_")) }

// Token of the split in subjects and columns: train, heldout; of none, "unspecified".
func (s Split) Token() string { return strings.ToLower(strings.TrimPrefix(s.String(), "SPLIT_")) }

// Token of the finish reason in columns: stop, length; of none, "unspecified".
func (f FinishReason) Token() string {
	return strings.ToLower(strings.TrimPrefix(f.String(), "FINISH_REASON_"))
}

// Token of the level in columns and logs: info, warn, alarm.
func (l Level) Token() string { return strings.ToLower(strings.TrimPrefix(l.String(), "LEVEL_")) }

// SampleID is the identity of a draw: run/iteration/prompt/draw.
func SampleID(run string, iteration uint32, prompt string, draw uint32) string {
	return fmt.Sprintf("%s/%d/%s/%d", run, iteration, prompt, draw)
}

// Task is the identity of a chunk inside its run, a key token: what attempts are counted by. A hedge is a task of its own.
func (m *Chunk) Task() string {
	task := fmt.Sprintf("%d.c%d.h%d", m.GetIteration(), m.GetChunk(), m.GetHedge())
	if m.GetSingle() && len(m.GetPrompts()) == 1 {
		task += "." + m.GetPrompts()[0].GetPromptId()
	}
	return task
}

// Split returns one chunk a prompt, sharing the prompts with m.
func (m *Chunk) Split() []*Chunk {
	var singles []*Chunk
	for _, p := range m.GetPrompts() {
		singles = append(singles, &Chunk{
			RunId: m.GetRunId(), Iteration: m.GetIteration(), Chunk: m.GetChunk(), Hedge: m.GetHedge(), Single: true,
			WeightsSha256: m.GetWeightsSha256(), TemplateId: m.GetTemplateId(), Sampling: m.GetSampling(), Draws: m.GetDraws(),
			Engines: m.GetEngines(), Prompts: []*Prompt{p}, Circumstance: m.GetCircumstance(),
		})
	}
	return singles
}

// IsToken reports whether s can be one token of a subject or key: 1 to 64 of [a-z0-9_-].
func IsToken(s string) bool {
	if len(s) == 0 || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '-' {
			return false
		}
	}
	return true
}

func subject(run, kind string, more ...string) string {
	return root + "." + run + "." + kind + "." + strings.Join(more, ".")
}

func number(n uint32) string { return strconv.FormatUint(uint64(n), 10) }
