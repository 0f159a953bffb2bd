package run

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

var sha = strings.Repeat("0123456789abcdef", 4)

func TestIteration(t *testing.T) {
	played := []Event{Started{sha, 256}, Played{}}
	trained := append(played[:2:2], Sealed{sha}, Trained{sha, 24, 9000})
	for _, c := range []struct {
		name   string
		stage  Stage
		events []Event
		want   Phase
		from   Phase
		refuse bool // of the last event
	}{
		{"from the start to the end", SPINStage, append(trained[:4:4], Published{9}, Evaluated{}), Done, "", false},
		{"sft has no games", SFTStage, []Event{Started{sha, 0}, Trained{sha, 72, 9000}, Published{1}, Evaluated{}}, Done, "", false},
		{"sft with games", SFTStage, []Event{Started{sha, 1}}, Planned, "", true},
		{"spin without games", SPINStage, []Event{Started{sha, 0}}, Planned, "", true},
		{"opponent without a digest", SPINStage, []Event{Started{"", 5}}, Planned, "", true},
		{"seal without a digest", SPINStage, append(played[:2:2], Sealed{}), Sealing, "", true},
		{"no shortcut", SPINStage, []Event{Started{sha, 5}, Trained{sha, 1, 9}}, Generating, "", true},
		{"twice", SPINStage, append(played[:2:2], Played{}), Sealing, "", true},
		{"pause and go on", SPINStage, append(played[:2:2], Halt{}, GoOn{}, Sealed{sha}), Training, "", false},
		{"paused does nothing", SPINStage, append(played[:2:2], Halt{}, Sealed{sha}), Paused, Sealing, true},
		{"fail while paused", SPINStage, append(played[:2:2], Halt{}, Broke{"disk"}), Failed, Sealing, false},
		{"try again", SPINStage, append(played[:2:2], Broke{"disk"}, GoOn{}), Sealing, "", false},
		{"nothing to resume", SPINStage, []Event{GoOn{}}, Planned, "", true},
		{"skip while paused", SPINStage, []Event{Started{sha, 5}, Halt{}, Skipped{"p1"}}, Paused, Generating, false},
		{"skip twice", SPINStage, []Event{Started{sha, 5}, Skipped{"p1"}, Skipped{"p1"}}, Generating, "", true},
		{"skip the last", SPINStage, []Event{Started{sha, 1}, Skipped{"p1"}}, Generating, "", true},
		{"skip after the seal", SPINStage, append(played[:2:2], Skipped{"p1"}), Sealing, "", true},
		{"done is done", SPINStage, append(trained[:4:4], Published{9}, Evaluated{}, Broke{"late"}), Done, "", true},
	} {
		it := NewIteration("r", c.stage, 0)
		before, err := Fold(it, c.events[:len(c.events)-1]...)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		after, err := before.Apply(c.events[len(c.events)-1])
		if c.refuse != errors.Is(err, ErrTransition) || (err == nil) == c.refuse {
			t.Errorf("%s: got %v", c.name, err)
		}
		if c.refuse && !reflect.DeepEqual(before, after) {
			t.Errorf("%s: refused, but changed to %+v", c.name, after)
		}
		if after.Phase != c.want || after.From != c.from {
			t.Errorf("%s: %s from %q, want %s from %q", c.name, after.Phase, after.From, c.want, c.from)
		}
	}
}

func TestHolesAreOrderedAndNotShared(t *testing.T) {
	one, err := Fold(NewIteration("r", SPINStage, 0), Started{sha, 9}, Skipped{"p7"}, Skipped{"p3"})
	if err != nil {
		t.Fatal(err)
	}
	two, err := one.Apply(Skipped{"p1"})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(one.Holes, []string{"p3", "p7"}) || !reflect.DeepEqual(two.Holes, []string{"p1", "p3", "p7"}) {
		t.Errorf("got %v, then %v", one.Holes, two.Holes)
	}
	again, err := two.Apply(TakenOver{})
	if err != nil || again.Attempt != 2 {
		t.Errorf("attempt %d, %v", again.Attempt, err)
	}
}

func TestRun(t *testing.T) {
	id, err := NewID()
	if err != nil {
		t.Fatal(err)
	}
	if len(id) != 32 || strings.Trim(id, "0123456789abcdef") != "" {
		t.Errorf("id %q", id)
	}
	spec, err := Preset("default")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewRun(id, spec, time.Unix(1, 0)); err == nil {
		t.Error("a run whose dtype is not settled was submitted")
	}
	spec.Engine.DType = "f32"
	r, err := NewRun(id, spec, time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	if r.Stage != SFTStage || r.Status != Submitted {
		t.Errorf("a new run starts with %s, %s", r.Stage, r.Status)
	}
	for _, c := range []struct {
		commands []Command
		want     Status
		refuse   bool
	}{
		{[]Command{Start, Pause, Resume, Finish}, Finished, false},
		{[]Command{Start, Block, Resume}, Running, false},
		{[]Command{Start, Fail, Resume}, Running, false},
		{[]Command{Start, Start}, Running, false}, // a second leader takes over
		{[]Command{Abort}, Aborted, false},
		{[]Command{Abort, Resume}, Aborted, true},
		{[]Command{Start, Finish, Pause}, Finished, true},
		{[]Command{Finish}, Submitted, true},
		{[]Command{"explode"}, Submitted, true},
	} {
		now := r
		var err error
		for i, command := range c.commands {
			now, err = now.Apply(command, "because")
			if (err != nil) != (c.refuse && i == len(c.commands)-1) {
				t.Errorf("%v: %s: %v", c.commands, command, err)
			}
		}
		if now.Status != c.want {
			t.Errorf("%v: %s, want %s", c.commands, now.Status, c.want)
		}
	}
	if _, err := NewRun(id, Spec{}, time.Now()); err == nil {
		t.Error("an empty spec was accepted")
	}
}
