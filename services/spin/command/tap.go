package command

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/pflag"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/event"
)

// tap prints a run's messages as JSON lines, straight off the bus.
type tap struct {
	broker
	id    string
	kinds []string
	watch bool
}

// tapped are the kinds of messages that can be read without taking them from somebody, and where
// they are. Tasks can not: their stream is a queue.
var tapped = [...]struct{ kind, stream string }{
	{event.Games, bus.Games}, {event.Steps, bus.Steps}, {event.Pairs, bus.Steps}, {event.Checkpoints, bus.Checkpoints},
	{event.Scores, bus.Scores}, {event.Events, bus.Events}, {event.Dead, bus.Dead},
}

func kinds() []string {
	var out []string
	for _, t := range tapped {
		out = append(out, t.kind)
	}
	return out
}

func (c *tap) flags(f *pflag.FlagSet) {
	f.StringVar(&c.id, "run", "", "run id or the beginning of one (default: the newest)")
	f.StringSliceVar(&c.kinds, "kind", kinds(), "kinds of messages")
	f.BoolVar(&c.watch, "follow", false, "wait for more")
	c.broker.flags(f)
}

// tapLine is one message.
type tapLine struct {
	Stream  string          `json:"stream"`
	Seq     uint64          `json:"seq"`
	Time    time.Time       `json:"time"`
	Subject string          `json:"subject"`
	Schema  string          `json:"schema"`
	Message json.RawMessage `json:"message,omitempty"`
	Error   string          `json:"error,omitempty"` // why it could not be read
}

func (c *tap) run(ctx context.Context, _ []string, s Streams) error {
	for _, kind := range c.kinds {
		if !slices.Contains(kinds(), kind) {
			return badInput(fmt.Errorf("--kind %q, want some of %s", kind, strings.Join(kinds(), ",")))
		}
	}
	conn, disconnect, err := c.connect(ctx, c.watch)
	if err != nil {
		return err
	}
	defer disconnect()
	r, _, err := findRun(ctx, conn, c.id)
	if err != nil {
		return err
	}
	out := &lineWriter{w: s.Out}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var reading sync.WaitGroup
	for _, t := range tapped {
		if !slices.Contains(c.kinds, t.kind) {
			continue
		}
		read := bus.ReadConfig{Stream: t.stream, Filters: []string{event.Filter(r.ID, t.kind)}, Follow: c.watch}
		tapOne := func() {
			if err := conn.Read(ctx, read, func(d bus.Delivery) error { return out.write(d) }); err != nil {
				cancel(err)
			}
		}
		if c.watch {
			reading.Go(tapOne)
		} else {
			tapOne() // one kind after the other, so that two calls print the same
		}
	}
	reading.Wait()
	return context.Cause(ctx)
}

// lineWriter writes deliveries of several readers, a line each.
type lineWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *lineWriter) write(d bus.Delivery) error {
	line := tapLine{Stream: d.Stream, Seq: d.Seq, Time: d.Time, Subject: d.Subject, Schema: d.Schema}
	if d.Err != nil {
		line.Error = d.Err.Error()
	} else {
		b, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(d.Message)
		if err != nil {
			return err
		}
		line.Message = b
	}
	b, err := json.Marshal(line)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err = l.w.Write(append(b, '\n'))
	return err
}
