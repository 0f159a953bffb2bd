package bus_test

import (
	"context"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/rs/zerolog"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/telemetry"
)

// A task, whoever has it in hand, and its game are one trace; another task is another one.
func TestTraceFollowsTheTask(t *testing.T) {
	b := newBroker(t, quick())
	c := b.init("test")
	open(t, c, "r1")
	enqueue(t, c, chunk("r1", 0, "p0"), chunk("r1", 1, "p1"))
	tasks := make(chan string, 2)
	generator(t, c, "g1", 1, func(ctx context.Context, l *bus.Lease) error {
		_, err := c.PublishOnce(ctx, game(l.Chunk.GetPrompts()[0].GetPromptId(), "yes"))
		tasks <- telemetry.TraceID(ctx)
		return err
	})
	want := []string{receive(t, tasks, "task"), receive(t, tasks, "task")}
	var got []string
	for len(got) < 2 {
		err := c.Read(t.Context(), bus.ReadConfig{Stream: bus.Games}, func(d bus.Delivery) error {
			got = append(got, d.Trace)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(want[0]) != 32 || want[0] == want[1] || want[0] != got[0] || want[1] != got[1] {
		t.Errorf("the tasks were of traces %q, their games of %q", want, got)
	}
}

func TestBusMetrics(t *testing.T) {
	b := newBroker(t, quick())
	b.init("trainer")
	m := telemetry.NewBus(telemetry.NewRegistry())
	c := must[*bus.Conn](t)(bus.Connect(t.Context(), bus.Config{Server: b, Name: "test", Metrics: m}, zerolog.Nop()))
	defer c.Close()
	if _, err := c.PublishExpected(t.Context(), step(1, 0.5), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := c.PublishExpected(t.Context(), step(1, 0.7), 0); err == nil {
		t.Fatal("a step was written over another one")
	}
	for what, got := range map[string]float64{
		"connected": testutil.ToFloat64(m.Connected), "published": testutil.ToFloat64(m.Published.WithLabelValues(bus.Steps)),
		"fenced": testutil.ToFloat64(m.Errors.WithLabelValues(bus.Steps, "fenced")),
	} {
		if got != 1 {
			t.Errorf("%s is %v, want 1", what, got)
		}
	}
	c.Close()
}
