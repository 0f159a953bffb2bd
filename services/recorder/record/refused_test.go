package record

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/bus/bustest"
	"github.com/seed-8780d58e/spin/pkg/bus/embedded"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/store"
	"github.com/seed-8780d58e/spin/pkg/store/storetest"
)

func publishGame(t *testing.T, conn *bus.Conn, runID, prompt, text string, draws int) bus.Delivery {
	t.Helper()
	answer := func(text string) *event.Response {
		return &event.Response{Text: text, TokenIds: []uint32{7}, TokenLogps: []float32{-1}, FinishReason: event.FinishReason_FINISH_REASON_STOP}
	}
	m := &event.Game{
		RunId: runID, PromptId: prompt, Split: event.Split_SPLIT_TRAIN, WeightsSha256: strings.Repeat("ab", 32), Fingerprint: "cpu",
		Sampling: &event.Sampling{TopP: 1, MaxNewTokens: 4}, Messages: []*event.ChatMessage{{Role: "user", Content: text}}, PromptIds: []uint32{1}, Real: answer("yes"),
	}
	for d := range uint32(draws) {
		m.Draws = append(m.Draws, &event.Draw{SampleId: event.SampleID(runID, 0, prompt, d), Draw: d, Response: answer(text)})
	}
	ack, err := conn.PublishOnce(t.Context(), m)
	must(t, err)
	d, err := conn.At(t.Context(), bus.Games, ack.Seq)
	must(t, err)
	return d
}

// refuse is what a trainer does.
func refuse(t *testing.T, conn *bus.Conn, d bus.Delivery) {
	t.Helper()
	must(t, conn.Remove(t.Context(), bus.Games, d.Seq))
	must(t, conn.Refuse(t.Context(), d, "trainer-1", "played by other weights"))
}

// wantTexts are the run's samples, without FINAL: nothing but what the stream holds may be there.
func wantTexts(t *testing.T, archive *store.Store, runID, want string) {
	t.Helper()
	var out bytes.Buffer
	must(t, archive.Query(t.Context(), "SELECT arrayStringConcat(arraySort(groupArray(text)), ' ') FROM samples WHERE run_id = '"+runID+"'", "TSV", &out))
	if got := strings.TrimSpace(out.String()); got != want {
		t.Errorf("samples are %q, want %q", got, want)
	}
	games := fmt.Sprint(len(strings.Fields(want)))
	for _, table := range []string{"games", "prompts"} {
		if got := count(t, archive, table, runID); got != games {
			t.Errorf("%s rows in %s, want %s", got, table, games)
		}
	}
}

// A game that is refused leaves no row: whether it was recorded before, is recorded at the moment, or
// was never seen.
func TestRefusedGameLeavesNoRow(t *testing.T) {
	archive := storetest.Open(t)
	t.Run("recorded before", func(t *testing.T) {
		conn, id := newBus(t), newRunID(t)
		wrong := publishGame(t, conn, id, "p1", "wrong", 3)
		publishGame(t, conn, id, "p2", "good", 1)
		record(t, newRecorder(conn, archive))
		refuse(t, conn, wrong)
		publishGame(t, conn, id, "p1", "right", 1)
		record(t, newRecorder(conn, archive))
		wantTexts(t, archive, id, "good right")
	})
	t.Run("never seen", func(t *testing.T) {
		conn, id := newBus(t), newRunID(t)
		refuse(t, conn, publishGame(t, conn, id, "p1", "wrong", 2))
		publishGame(t, conn, id, "p1", "right", 1)
		record(t, newRecorder(conn, archive))
		wantTexts(t, archive, id, "right")
	})
	t.Run("on its way", func(t *testing.T) { // decoded, not inserted, when the letter comes
		conn, id := newBus(t), newRunID(t)
		wrong := publishGame(t, conn, id, "p1", "wrong", 2)
		s := newRecorder(conn, archive)
		l, err := s.openLedger(t.Context(), bus.Games)
		must(t, err)
		var batch store.Batch
		s.decode(wrong).add(&batch)
		refuse(t, conn, wrong)
		must(t, s.forget(t.Context(), &event.DeadLetter{RunId: id, PromptId: "p1", StreamSeq: wrong.Seq}))
		must(t, s.commit(t.Context(), bus.Games, l, plan{ID: l.ID, First: 1, Last: wrong.Seq}, &batch))
		publishGame(t, conn, id, "p1", "right", 1)
		record(t, newRecorder(conn, archive))
		wantTexts(t, archive, id, "right")
	})
	t.Run("a recorder died on it", func(t *testing.T) { // after its insert, before its plan was done
		conn, id := newBus(t), newRunID(t)
		wrong := publishGame(t, conn, id, "p1", "wrong", 2)
		s := newRecorder(conn, archive)
		l, err := s.openLedger(t.Context(), bus.Games)
		must(t, err)
		p := plan{ID: l.ID, First: 1, Last: wrong.Seq}
		var batch store.Batch
		s.decode(wrong).add(&batch)
		must(t, l.write(t.Context(), p))
		must(t, s.insert(t.Context(), p.token(bus.Games), &batch))
		refuse(t, conn, wrong)
		publishGame(t, conn, id, "p1", "right", 1)
		record(t, newRecorder(conn, archive))
		wantTexts(t, archive, id, "right")
	})
	t.Run("while it records", func(t *testing.T) {
		conn, id := newBus(t), newRunID(t)
		ctx, cancel := context.WithCancel(t.Context())
		s := newRecorder(conn, archive)
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		var want []string
		for i := range 40 {
			prompt := fmt.Sprintf("p%02d", i)
			if i%3 == 0 {
				refuse(t, conn, publishGame(t, conn, id, prompt, "wrong", 2))
			}
			publishGame(t, conn, id, prompt, prompt, 1)
			want = append(want, prompt)
		}
		must(t, s.Drain(t.Context()))
		cancel()
		<-done
		wantTexts(t, archive, id, strings.Join(want, " "))
	})
}

// What nobody can read becomes a dead letter, and holds up nothing.
func TestUnreadableMessage(t *testing.T) {
	archive := storetest.Open(t)
	server, err := embedded.Start(t.Context(), embedded.Config{Dir: t.TempDir()}, zerolog.Nop())
	must(t, err)
	defer server.Close()
	conn, err := bus.Init(t.Context(), server.Config("test"), zerolog.Nop())
	must(t, err)
	defer conn.Close()
	id := newRunID(t)
	bustest.PublishRaw(t, server, event.StepSubject(id, 0, event.Phase_PHASE_SPIN, 9), "spin.v9.Step", []byte("junk"))
	bustest.PublishRaw(t, server, "spin."+id+".events.x.y", "spin.v1.Event", []byte{0xff})
	publishSteps(t, conn, id, 1, 2)
	record(t, newRecorder(conn, archive))
	wantRows(t, archive, id, 2)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var streams []string
	_ = conn.Read(ctx, bus.ReadConfig{Stream: bus.Dead, Follow: true, Until: 2}, func(d bus.Delivery) error {
		m := d.Message.(*event.DeadLetter)
		if streams = append(streams, m.GetStream()); m.GetRunId() != id || m.GetReason() == "" {
			t.Errorf("letter %v", m)
		}
		return nil
	})
	if len(streams) != 2 {
		t.Errorf("letters about %v, want steps and events", streams)
	}
}
