package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/seed-8780d58e/spin/pkg/event"
)

// Streams. Subjects are in pkg/event.
const (
	Prompts     = "SPIN_PROMPTS"     // work queue of chunks, bounded for each run
	Games       = "SPIN_GAMES"       // one game a prompt and iteration, first write wins
	Steps       = "SPIN_STEPS"       // steps and their pairs, one subject each
	Checkpoints = "SPIN_CHECKPOINTS" // manifests
	Scores      = "SPIN_SCORES"      // one figure a checkpoint and metric, first write wins
	Events      = "SPIN_EVENTS"      // lifecycle and alarms, oldest dropped
	Dead        = "SPIN_DEAD"        // what nobody could work on
)

// Buckets.
const (
	controlBucket  = "spin_control"
	leaseBucket    = "spin_lease"
	attemptsBucket = "spin_attempts"
)

// Limits bounds what the broker keeps and how patient it is.
type Limits struct {
	QueuePerRun  int           `json:"queue_per_run"` // chunks waiting or leased in one run's queue; beyond: ErrFull
	GamesBytes   int64         `json:"games_bytes"`   // all games kept; beyond: ErrFull. They stay until nobody needs them: see the recorder
	StepsBytes   int64         `json:"steps_bytes"`   // all steps and pairs kept; beyond: ErrFull
	EventsBytes  int64         `json:"events_bytes"`  // all events kept; beyond: the oldest go
	MaxAge       time.Duration `json:"max_age"`       // of games, steps and scores, a second bound behind purging; 0: none, so that a paused run loses nothing
	AckWait      time.Duration `json:"ack_wait"`      // a task without progress for this long goes to another worker
	RetryDelay   time.Duration `json:"retry_delay"`   // a failed or released task comes again after this
	LeaseTTL     time.Duration `json:"lease_ttl"`     // Lead and Join: silence after which somebody counts as gone; at least a second
	MaxInstances int           `json:"max_instances"` // distinct instances that may fail or die on one prompt before it is a dead letter
	MaxAttempts  int           `json:"max_attempts"`  // attempts on one prompt whoever makes them, so that a lone worker does not retry for ever
	Replicas     int           `json:"replicas"`      // copies of streams and buckets: 1, or 3 in a cluster
}

// DefaultLimits are those of one machine.
func DefaultLimits() Limits {
	return Limits{
		QueuePerRun: 4096, GamesBytes: 16 << 30, StepsBytes: 4 << 30, EventsBytes: 256 << 20,
		AckWait: 10 * time.Second, RetryDelay: time.Second, LeaseTTL: 6 * time.Second, MaxInstances: 3, MaxAttempts: 10, Replicas: 1,
	}
}

// streams is the broker's whole configuration.
func (l Limits) streams() []jetstream.StreamConfig {
	day := 24 * time.Hour
	streams := []jetstream.StreamConfig{
		{
			Name: Prompts, Subjects: []string{event.Filter("", event.Prompts)}, Retention: jetstream.WorkQueuePolicy,
			MaxMsgsPerSubject: int64(l.QueuePerRun), Discard: jetstream.DiscardNew, DiscardNewPerSubject: true, Duplicates: time.Hour,
			Description: "chunks of prompts to play",
		},
		{
			Name: Games, Subjects: []string{event.Filter("", event.Games)}, MaxBytes: l.GamesBytes, MaxAge: l.MaxAge,
			MaxMsgsPerSubject: 1, Discard: jetstream.DiscardNew, DiscardNewPerSubject: true,
			Description: "one game a prompt and iteration, first write wins",
		},
		{
			// One message a subject, replaced by a later one: a step that is trained again after a crash.
			Name: Steps, Subjects: []string{event.Filter("", event.Steps), event.Filter("", event.Pairs)}, MaxBytes: l.StepsBytes, MaxAge: l.MaxAge,
			MaxMsgsPerSubject: 1, Discard: jetstream.DiscardNew,
			Description: "steps and their pairs",
		},
		{
			Name: Checkpoints, Subjects: []string{event.Filter("", event.Checkpoints)}, MaxMsgsPerSubject: 16,
			Description: "manifests of checkpoints",
		},
		{
			Name: Scores, Subjects: []string{event.Filter("", event.Scores)}, MaxAge: l.MaxAge,
			MaxMsgsPerSubject: 1, Discard: jetstream.DiscardNew, DiscardNewPerSubject: true,
			Description: "scores of checkpoints, first write wins",
		},
		{
			Name: Events, Subjects: []string{event.Filter("", event.Events)}, MaxBytes: l.EventsBytes, MaxAge: 30 * day, Duplicates: time.Hour,
			Description: "lifecycle and alarms",
		},
		{
			Name: Dead, Subjects: []string{event.Filter("", event.Dead)}, MaxAge: 90 * day, Duplicates: time.Hour,
			Description: "messages that nobody could work on",
		},
	}
	for i := range streams {
		streams[i].Storage, streams[i].Replicas, streams[i].AllowDirect = jetstream.FileStorage, l.Replicas, true
	}
	return streams
}

func (l Limits) buckets() []jetstream.KeyValueConfig {
	return []jetstream.KeyValueConfig{
		{Bucket: controlBucket, Description: "runs and iterations, by compare-and-set", History: 16, Replicas: l.Replicas},
		// History 1 and a TTL of the bucket, not of keys: with more history the server raises a TTL, and an update would never expire.
		{Bucket: leaseBucket, Description: "who leads, who is there", History: 1, TTL: l.LeaseTTL, LimitMarkerTTL: max(l.LeaseTTL, time.Second), Replicas: l.Replicas},
		{Bucket: attemptsBucket, Description: "who tried which task", History: 1, TTL: 7 * 24 * time.Hour, Replicas: l.Replicas},
	}
}

func (c *Conn) ensureStreams(ctx context.Context) error {
	for _, s := range c.limits.streams() {
		err := c.retry(ctx, "make stream "+s.Name, func(ctx context.Context, _ bool) error {
			_, err := c.js.CreateOrUpdateStream(ctx, s)
			return err
		})
		if err != nil {
			return fmt.Errorf("make stream %s: %w", s.Name, err)
		}
	}
	for _, b := range c.limits.buckets() {
		err := c.retry(ctx, "make bucket "+b.Bucket, func(ctx context.Context, _ bool) error {
			_, err := c.js.CreateOrUpdateKeyValue(ctx, b)
			return err
		})
		if err != nil {
			return fmt.Errorf("make bucket %s: %w", b.Bucket, err)
		}
	}
	return nil
}

func (c *Conn) bind(ctx context.Context) error {
	for _, s := range DefaultLimits().streams() {
		err := c.retry(ctx, "look for stream "+s.Name, func(ctx context.Context, _ bool) error {
			_, err := c.js.Stream(ctx, s.Name)
			return err
		})
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			return fmt.Errorf("the broker has no stream %s: start a trainer or `spin run` on it first", s.Name)
		}
		if err != nil {
			return fmt.Errorf("look for stream %s: %w", s.Name, err)
		}
	}
	for name, b := range map[string]**Bucket{controlBucket: &c.control, leaseBucket: &c.lease, attemptsBucket: &c.attempts} {
		err := c.retry(ctx, "open bucket "+name, func(ctx context.Context, _ bool) error {
			kv, err := c.js.KeyValue(ctx, name)
			*b = &Bucket{conn: c, kv: kv, name: name}
			return err
		})
		if err != nil {
			return fmt.Errorf("open bucket %s: %w", name, err)
		}
	}
	return nil
}

// Control is the bucket of runs and iterations: run.<run>, iter.<run>.<t>, recorder.<stream>.
func (c *Conn) Control() *Bucket { return c.control }

// Info is a stream's state.
type Info struct {
	First, Last uint64 // sequences; First > Last: empty
	Messages    uint64
	Bytes       uint64
}

// StreamInfo asks for a stream's state.
func (c *Conn) StreamInfo(ctx context.Context, stream string) (Info, error) {
	s, err := c.stream(ctx, stream)
	if err != nil {
		return Info{}, err
	}
	st := s.CachedInfo().State
	return Info{First: st.FirstSeq, Last: st.LastSeq, Messages: st.Msgs, Bytes: st.Bytes}, nil
}

// Subjects lists the subjects under a filter that hold a message, e.g. the games of an iteration that are there.
func (c *Conn) Subjects(ctx context.Context, stream, filter string) (map[string]uint64, error) {
	var found map[string]uint64
	err := c.retry(ctx, "list "+filter, func(ctx context.Context, _ bool) error {
		s, err := c.js.Stream(ctx, stream)
		if err != nil {
			return err
		}
		info, err := s.Info(ctx, jetstream.WithSubjectFilter(filter))
		if err != nil {
			return err
		}
		found = info.State.Subjects
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", filter, err)
	}
	return found, nil
}

// Purge removes the messages of a filter up to and including a sequence; 0: all of them.
func (c *Conn) Purge(ctx context.Context, stream, filter string, through uint64) error {
	err := c.retry(ctx, "purge "+filter, func(ctx context.Context, _ bool) error {
		s, err := c.js.Stream(ctx, stream)
		if err != nil {
			return err
		}
		options := []jetstream.StreamPurgeOpt{jetstream.WithPurgeSubject(filter)}
		if through > 0 {
			options = append(options, jetstream.WithPurgeSequence(through+1))
		}
		return s.Purge(ctx, options...)
	})
	if err != nil {
		return fmt.Errorf("purge %s: %w", filter, err)
	}
	return nil
}

// stream looks a stream up, with fresh state.
func (c *Conn) stream(ctx context.Context, name string) (jetstream.Stream, error) {
	var s jetstream.Stream
	err := c.retry(ctx, "look for stream "+name, func(ctx context.Context, _ bool) (err error) {
		s, err = c.js.Stream(ctx, name)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("look for stream %s: %w", name, err)
	}
	return s, nil
}
