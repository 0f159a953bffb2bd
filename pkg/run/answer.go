package run

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Action is what a person wants done about a dead letter.
type Action string

const (
	Requeue Action = "requeue" // play the game again, as a new task
	Skip    Action = "skip"    // go on without it: a hole
)

// Answer is a person's word about a dead letter: the value of dead.<run>.<seq>. It is said once.
type Answer struct {
	Action Action    `json:"action"`
	Reason string    `json:"reason,omitempty"` // of skip: becomes the hole's
	At     time.Time `json:"at"`
}

// Validate checks the action.
func (a Answer) Validate() error {
	if a.Action != Requeue && a.Action != Skip {
		return fmt.Errorf("action is %q: want requeue or skip", a.Action)
	}
	if len(a.Reason) > 1000 {
		return errors.New("the reason is longer than 1000 bytes")
	}
	return nil
}

// AnswerKey is the answer's key in the control bucket; seq is the letter's in the stream of dead letters.
func AnswerKey(run string, seq uint64) string {
	return "dead." + run + "." + strconv.FormatUint(seq, 10)
}

// AnswerSeq is the letter that an answer's key names.
func AnswerSeq(key string) (seq uint64, ok bool) {
	seq, err := strconv.ParseUint(key[strings.LastIndexByte(key, '.')+1:], 10, 64)
	return seq, err == nil
}

// AnswerPattern matches the keys of a run's answers.
func AnswerPattern(run string) string { return "dead." + run + ".*" }

// GamesKey is the key under which the leader of a run writes which game of iteration t it is about to refuse.
func GamesKey(run string, t int) string { return fmt.Sprintf("games.%s.%d", run, t) }

// GamesPattern matches those keys of a run.
func GamesPattern(run string) string { return "games." + run + ".*" }
