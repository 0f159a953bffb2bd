package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/run"
)

// dead shows the dead letters of a run, and says what becomes of the games that they are about.
type dead struct {
	broker
	id     string
	all    bool
	reason string
}

func (c *dead) flags(f *pflag.FlagSet) {
	f.StringVar(&c.id, "run", "", "run id or the beginning of one (default: the newest)")
	f.BoolVar(&c.all, "all", false, "requeue, skip: every letter that is open")
	f.StringVar(&c.reason, "reason", "", "skip: why, for people; it becomes part of the run's rows (default: the one that max_missing gives)")
	c.broker.flags(f)
}

// deadUse is said where the arguments are none of a word's.
const deadUse = "want spin dead ls, show SEQ, requeue SEQ … or skip SEQ …; the numbers are those of `spin dead ls`"

func (c *dead) run(ctx context.Context, args []string, s Streams) error {
	verb := "ls"
	if len(args) > 0 {
		verb, args = args[0], args[1:]
	}
	var seqs []uint64
	for _, a := range args {
		n, err := strconv.ParseUint(a, 10, 64)
		if err != nil || n == 0 {
			return badInput(fmt.Errorf("%q is not the number of a letter: %s", a, deadUse))
		}
		seqs = append(seqs, n)
	}
	action := run.Action(verb)
	switch {
	case verb == "ls" && len(seqs) == 0 && !c.all, verb == "show" && len(seqs) == 1:
	case (action == run.Requeue || action == run.Skip) && (len(seqs) > 0) != c.all:
	default:
		return badInput(errors.New(deadUse))
	}
	if a := (run.Answer{Action: action, Reason: c.reason}); c.reason != "" && (action != run.Skip || a.Validate() != nil) {
		return badInput(errors.New("--reason goes with skip, and has at most 1000 bytes"))
	}
	conn, disconnect, err := c.connect(ctx, false)
	if err != nil {
		return err
	}
	defer disconnect()
	r, _, err := findRun(ctx, conn, c.id)
	if err != nil {
		return err
	}
	letters, err := readLetters(ctx, conn, r)
	if err != nil {
		return err
	}
	switch verb {
	case "ls":
		return list(letters, s)
	case "show":
		l, err := find(letters, seqs[0], r)
		if err != nil {
			return err
		}
		return show(l, s)
	}
	return c.answer(ctx, conn, r, letters, seqs, action, s)
}

// letter is a dead letter with what has become of it.
type letter struct {
	*event.DeadLetter
	seq   uint64
	at    time.Time
	state string
}

// States of a letter.
const (
	letterOpen    = "open"    // somebody must say what is to be done
	letterPlayed  = "played"  // the game is there after all
	letterHole    = "hole"    // the run goes on without the game
	letterRefused = "refused" // not a task: a message that is out of the way already
)

// readLetters reads a run's letters, the oldest first.
func readLetters(ctx context.Context, conn *bus.Conn, r run.Run) ([]letter, error) {
	var letters []letter
	err := conn.Read(ctx, bus.ReadConfig{Stream: bus.Dead, Filters: []string{event.Filter(r.ID, event.Dead)}}, func(d bus.Delivery) error {
		if m, ok := d.Message.(*event.DeadLetter); ok {
			letters = append(letters, letter{DeadLetter: m, seq: d.Seq, at: d.Time})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i := range letters {
		if letters[i].state, err = letterState(ctx, conn, r, letters[i]); err != nil {
			return nil, err
		}
	}
	return letters, nil
}

func letterState(ctx context.Context, conn *bus.Conn, r run.Run, l letter) (string, error) {
	if l.GetStream() != event.Prompts {
		return letterRefused, nil
	}
	if l.GetPromptId() != "" {
		m, _, err := conn.Last(ctx, &event.Game{RunId: r.ID, Iteration: l.GetIteration(), PromptId: l.GetPromptId()})
		switch g, _ := m.(*event.Game); {
		case err == nil && g.GetHole() != nil:
			return letterHole, nil
		case err == nil:
			return letterPlayed, nil
		case !errors.Is(err, bus.ErrNotFound) && !errors.Is(err, event.ErrInvalid):
			return "", err
		}
	} else if m, err := event.Unmarshal(l.GetSchema(), l.GetPayload()); err != nil || event.Schema(m) != event.Schema(&event.Chunk{}) {
		return letterRefused, nil
	}
	a, _, err := bus.State[run.Answer]{Bucket: conn.Control()}.Load(ctx, run.AnswerKey(r.ID, l.seq))
	if errors.Is(err, bus.ErrNotFound) {
		return letterOpen, nil
	}
	return string(a.Action), err
}

func find(letters []letter, seq uint64, r run.Run) (letter, error) {
	i := slices.IndexFunc(letters, func(l letter) bool { return l.seq == seq })
	if i < 0 {
		return letter{}, badInput(fmt.Errorf("run %s has no dead letter %d: `spin dead ls` lists them", r.ID, seq))
	}
	return letters[i], nil
}

func list(letters []letter, s Streams) error {
	if len(letters) == 0 {
		_, err := fmt.Fprintln(s.Out, "no dead letters")
		return err
	}
	w := tabwriter.NewWriter(s.Out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SEQ\tTIME\tSTATE\tSTREAM\tITERATION\tPROMPT\tTRIED BY\tREASON")
	for _, l := range letters {
		instances := map[string]bool{}
		why := ""
		for _, a := range l.GetAttempts() {
			instances[a.GetInstance()] = true
			if a.GetError() != "" && a.GetError() != l.GetReason() {
				why = ", the last with: " + a.GetError()
			}
		}
		prompt := l.GetPromptId()
		if prompt == "" {
			prompt = "–"
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%d\t%s\t%d\t%s\n", l.seq, l.at.UTC().Format(time.DateTime), l.state, l.GetStream(), l.GetIteration(), prompt, len(instances),
			strings.Join(strings.Fields(l.GetReason()+why), " "))
	}
	return w.Flush()
}

// show prints one letter as JSON, with the message that it is about where it can be read.
func show(l letter, s Streams) error {
	out := struct {
		Seq     uint64          `json:"seq"`
		Time    time.Time       `json:"time"`
		State   string          `json:"state"`
		Letter  json.RawMessage `json:"letter"`
		Message json.RawMessage `json:"message,omitempty"`
		Error   string          `json:"error,omitempty"` // why the message can't be read
	}{Seq: l.seq, Time: l.at, State: l.state}
	marshal := protojson.MarshalOptions{UseProtoNames: true}
	m, err := event.Unmarshal(l.GetSchema(), l.GetPayload())
	if err == nil {
		if out.Message, err = marshal.Marshal(m); err != nil {
			return err
		}
		l.Payload = nil // said already
	} else {
		out.Error = err.Error()
	}
	if out.Letter, err = marshal.Marshal(l.DeadLetter); err != nil {
		return err
	}
	e := json.NewEncoder(s.Out)
	e.SetIndent("", "  ")
	return e.Encode(out)
}

// answer says what a person wants, once for each letter, and lets the run go on where it was blocked. Its
// trainer does it: a new task with a new identity, or a hole in the game's place.
func (c *dead) answer(ctx context.Context, conn *bus.Conn, r run.Run, letters []letter, seqs []uint64, action run.Action, s Streams) error {
	if r.Status.Final() {
		return badInput(fmt.Errorf("run %s is %s: nothing waits for its letters", r.ID, r.Status))
	}
	var chosen []letter
	for _, l := range letters {
		if c.all && l.state == letterOpen {
			chosen = append(chosen, l)
		}
	}
	for _, seq := range seqs { // all are looked at before any is answered
		l, err := find(letters, seq, r)
		if err != nil {
			return err
		}
		if l.state != letterOpen {
			return badInput(fmt.Errorf("letter %d is not open, its state is %s: nothing waits for an answer", seq, l.state))
		}
		chosen = append(chosen, l)
	}
	state := bus.State[run.Answer]{Bucket: conn.Control()}
	for _, l := range chosen {
		a := run.Answer{Action: action, Reason: c.reason, At: time.Now().UTC()}
		if _, err := state.Create(ctx, run.AnswerKey(r.ID, l.seq), a); errors.Is(err, bus.ErrConflict) {
			return badInput(fmt.Errorf("letter %d was answered by somebody else at this moment", l.seq))
		} else if err != nil {
			return err
		}
	}
	if r.Status == run.Blocked {
		var err error
		if r, err = command(ctx, conn, r.ID, run.Resume, ""); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(s.Out, "%d letters: %s; run %s is %s\n", len(chosen), action, r.ID, r.Status)
	return err
}
