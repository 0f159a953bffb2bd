package e2e

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/run"
)

// trialPoison has generators that die on one prompt. With max_missing it becomes a hole; without it the
// run is blocked, and says so, until a person skips it.
func trialPoison(t *testing.T, bin binaries, spec run.Spec, want result) string {
	limits := hasty()
	limits.AckWait = time.Second
	play := func(what string, generators, maxMissing int) (result, string) {
		spec := spec
		spec.MaxMissing = maxMissing
		d := deploy(t, bin, setup{limits: limits, poison: want.poison})
		defer d.stop()
		d.fleet(generators)
		id := d.submit(spec)
		reason, skipped := "", 0
		d.wait("the end of a run with "+what, 90*time.Second, func() bool {
			switch r := d.state(id); r.Status {
			case run.Blocked:
				if reason = r.Reason; maxMissing > 0 {
					t.Fatalf("blocked in spite of max_missing: %s", reason)
				}
				d.spin("dead", "skip", "--all", "--run", id)
				d.wait("the run to go on", 10*time.Second, func() bool { return d.state(id).Status != run.Blocked })
				skipped++
			case run.Finished:
				return true
			case run.Broken, run.Aborted:
				t.Fatalf("the run is %s: %s", r.Status, r.Reason)
			}
			return false
		})
		r := d.settled(id, spec)
		if holes := ask(t, d.store, "SELECT count() FROM games FINAL WHERE hole != '' AND run_id = '"+id+"'"); holes[0] != fmt.Sprint(spec.Iterations) {
			t.Errorf("%s: %s holes, want one in each iteration", what, holes[0])
		}
		if maxMissing == 0 && (skipped == 0 || !strings.Contains(reason, "spin dead skip")) {
			t.Errorf("%s: skipped %d times, the reason was %q", what, skipped, reason)
		}
		return r, reason
	}
	two, _ := play("max_missing: 1 and two generators", 2, 1)
	if *chaos {
		three, _ := play("max_missing: 1 and three generators", 3, 1)
		same(t, "the same hole", three, two)
	}
	asked, reason := play("no max_missing", 2, 0)
	for i := range two.weights {
		if asked.weights[i] != two.weights[i] {
			t.Errorf("a hole by dead skip: iteration %d ends with weights %.12s, by max_missing with %.12s", i, asked.weights[i], two.weights[i])
		}
	}
	if two.weights[0] == want.weights[0] {
		t.Error("a run with a hole comes to the weights of one without")
	}
	return fmt.Sprintf("a hole in each iteration, the long form with 2 and 3 generators the same digests; without max_missing blocked (%q), and by `spin dead skip` the same weights", reason)
}

// spin runs a command of the command line against this deployment.
func (d *deployment) spin(args ...string) string {
	d.t.Helper()
	c := exec.Command(d.bin.path("spin"), append(args, "--nats-url", d.url, "--nats-token-file", d.tokenFile())...)
	out, err := c.CombinedOutput()
	if err != nil {
		d.t.Fatalf("spin %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// trialRefused sends what no run wants, before anybody plays: it is in the way of the right games.
func trialRefused(t *testing.T, bin binaries, spec run.Spec, want result) string {
	d := deploy(t, bin, setup{})
	d.service("recorder").start()
	d.service("trainer").start()
	d.service("evaluator").start()
	id := d.submit(spec)
	var prompts []*event.Prompt
	var chunk *event.Chunk
	d.wait("tasks in the queue", 30*time.Second, func() bool {
		info, err := d.admin.StreamInfo(t.Context(), bus.Prompts)
		prompts = nil
		for seq := info.First; err == nil && seq <= info.Last; seq++ {
			var m bus.Delivery
			if m, err = d.admin.At(t.Context(), bus.Prompts, seq); err == nil {
				chunk = m.Message.(*event.Chunk)
				prompts = append(prompts, chunk.GetPrompts()...)
			}
		}
		return err == nil && len(prompts) >= 4
	})
	forged := func(n int) *event.Game {
		p := prompts[n]
		answer := &event.Response{Text: "no", TokenIds: []uint32{5}, TokenLogps: []float32{-1}, FinishReason: event.FinishReason_FINISH_REASON_STOP}
		real := proto.CloneOf(p.GetReal())
		real.TokenLogps = make([]float32, len(real.GetTokenIds()))
		g := &event.Game{
			RunId: id, PromptId: p.GetPromptId(), Index: p.GetIndex(), Split: p.GetSplit(), WeightsSha256: chunk.GetWeightsSha256(), TemplateId: chunk.GetTemplateId(),
			Fingerprint: chunk.GetEngines()[0], Sampling: chunk.GetSampling(), Messages: p.GetMessages(), PromptIds: p.GetPromptIds(), Real: real,
			Circumstance: &event.Circumstance{Instance: "forger", Attempt: 1, CreatedAt: timestamppb.Now()},
		}
		for i := range spec.Draws {
			g.Draws = append(g.Draws, &event.Draw{SampleId: event.SampleID(id, 0, p.GetPromptId(), uint32(i)), Draw: uint32(i), Response: answer, SamplingLogps: []float32{-1}})
		}
		return g
	}
	weights, engine := forged(0), forged(1)
	weights.WeightsSha256 = strings.Repeat("00", 32)
	engine.Fingerprint = "abacus/f32"
	for _, g := range []*event.Game{weights, engine} {
		if _, err := d.admin.PublishOnce(t.Context(), g); err != nil {
			t.Fatal(err)
		}
	}
	conn, err := nats.Connect(d.url, nats.Token(brokerToken))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	unknown := &nats.Msg{Subject: event.GameSubject(id, 0, prompts[2].GetPromptId()), Header: nats.Header{"Spin-Schema": {"spin.v9.Game"}}, Data: []byte("?")}
	if _, err := conn.RequestMsg(unknown, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	// 9 MB are more than the broker takes, from whoever, and than our own publisher tries.
	if err := conn.Publish(event.GameSubject(id, 0, prompts[3].GetPromptId()), make([]byte, 9<<20)); !errors.Is(err, nats.ErrMaxPayload) {
		t.Errorf("9 MB to the broker: %v, want %v", err, nats.ErrMaxPayload)
	}
	huge := forged(3)
	huge.Draws[0].Response.Text = strings.Repeat("x", 9<<20)
	if _, err := d.admin.PublishOnce(t.Context(), huge); !errors.Is(err, event.ErrInvalid) {
		t.Errorf("a game of 9 MB: %v, want %v", err, event.ErrInvalid)
	}
	reasons := map[string]string{}
	d.wait("three dead letters", 20*time.Second, func() bool {
		err := d.admin.Read(t.Context(), bus.ReadConfig{Stream: bus.Dead, Filters: []string{event.Filter(id, event.Dead)}}, func(m bus.Delivery) error {
			l := m.Message.(*event.DeadLetter)
			reasons[l.GetPromptId()] = l.GetReason()
			return nil
		})
		return err == nil && len(reasons) >= 3
	})
	d.service("generator").start()
	d.finish(id, time.Minute)
	same(t, "refused games", d.result(id, spec, want), want)
	d.exact(id, spec)
	listed := d.spin("dead", "ls", "--run", id)
	for i := range 3 {
		if reasons[prompts[i].GetPromptId()] == "" {
			t.Errorf("no dead letter about prompt %d: %v", i, reasons)
		}
		if !strings.Contains(listed, prompts[i].GetPromptId()) {
			t.Errorf("`spin dead ls` does not name prompt %s:\n%s", prompts[i].GetPromptId(), listed)
		}
	}
	return fmt.Sprintf("wrong weights (%q), wrong engine (%q), unknown schema (%q): dead letters; 9 MB: refused by the broker and before it; the right games then came: the same weights and rows",
		reasons[prompts[0].GetPromptId()], reasons[prompts[1].GetPromptId()], reasons[prompts[2].GetPromptId()])
}
