// Package bus moves pkg/event's messages over NATS JetStream, and is the only package that knows NATS.
//
// Six things can be done, each with its own promise:
//
//	PublishOnce       games, scores: the first write to a subject wins, so that a message exists once whoever sends it how often
//	PublishAfter      steps, pairs, checkpoints: written only behind the newest of the run that the writer knows, so that a woken old leader changes nothing
//	PublishExpected   the same for one subject: written only over the sequence that the writer knows
//	Append            events, dead letters: deduplicated by id
//	Enqueue, Work     prompts: a bounded queue per run, and leases that last only while the work makes progress
//	Read              any stream in order, from any sequence, through reconnects and restarts of the broker
//
// Around them: State, JSON in a key-value bucket by compare-and-set, the truth about a run; and Lead, a lease for being the only one, which is an
// optimisation (safety is the compare-and-set). Acknowledged is not fsynced unless the broker is told so: ClickHouse and the checkpoints are the
// archive, and every writer can make again what it published.
//
// Calls retry while the broker is away, until their context ends; what comes back as an error is the broker's answer or the context's end.
package bus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/seed-8780d58e/spin/pkg/telemetry"
)

// Errors that callers decide by.
var (
	// ErrFull: the queue or stream is at its bound. Wait and try again: it is back-pressure.
	ErrFull = errors.New("full")
	// ErrFenced: somebody else wrote since; this writer is no longer the leader.
	ErrFenced = errors.New("fenced off by a later write")
	// ErrConflict: a compare-and-set met another revision.
	ErrConflict = errors.New("changed by another writer")
	// ErrHeld: somebody else holds the lease.
	ErrHeld = errors.New("held by somebody else")
	// ErrNotFound: no such key or message.
	ErrNotFound = errors.New("not found")
	// ErrRelease, returned by a handler of Work, gives the task back without counting it as a failure: weights not there, run paused.
	ErrRelease = errors.New("task released")
	// ErrDenied: this role may not do that.
	ErrDenied = errors.New("permission denied")
	// ErrLeaseLost is the cause of a context that ended because its lease went to somebody else.
	ErrLeaseLost = errors.New("lease lost")
)

// Config says how to reach the broker.
type Config struct {
	// Server, if not nil, is a broker in this process (embedded.Server); URL is then unused.
	Server interface{ InProcessConn() (net.Conn, error) }
	// URL of the broker, nats://host:port, several separated by commas.
	URL string
	// Token authenticates; empty: none.
	Token string
	// Identity and TLS, all of them paths of files; see secure.go.
	Security
	// Name of the connection in the broker's monitoring: service/instance.
	Name string
	// Limits of streams, queue and leases are the same for all services of a broker. The zero value takes those that the broker has, or makes it one
	// of DefaultLimits; others are set by Init, and refused by Connect where the broker's differ.
	Limits Limits
	// Replicas, for Init: copies of every stream and bucket, whatever the limits say; 0: what they say.
	Replicas int
	// Metrics of the connection; nil: nobody reads them.
	Metrics *telemetry.Bus
}

// Conn is one service's connection. All methods may be called from several goroutines.
type Conn struct {
	nats    *nats.Conn
	js      jetstream.JetStream
	limits  Limits
	log     zerolog.Logger
	metrics *telemetry.Bus

	control, lease, attempts *Bucket

	mu      sync.Mutex
	session context.Context // ends, and is replaced, when the connection was lost and is back
	denied  denials
}

// Connect reaches the broker, waiting for it until ctx ends, and checks that its streams are there: one of the services (the trainer, spin run)
// calls Init first, which makes them.
func Connect(ctx context.Context, cfg Config, log zerolog.Logger) (*Conn, error) {
	c, err := dial(ctx, cfg, log)
	if err != nil {
		return nil, err
	}
	if err = c.bind(ctx); err == nil {
		err = c.adoptLimits(ctx)
	}
	if err == nil {
		err = c.check(ctx)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Init is Connect for the service that owns the broker's streams: it makes them, or changes their limits to cfg.Limits, before it binds to them.
func Init(ctx context.Context, cfg Config, log zerolog.Logger) (*Conn, error) {
	c, err := dial(ctx, cfg, log)
	if err != nil {
		return nil, err
	}
	if err = c.settleLimits(ctx); err == nil {
		if cfg.Replicas > 0 {
			c.limits.Replicas = cfg.Replicas
		}
		err = c.ensureStreams(ctx)
	}
	if err == nil {
		err = c.bind(ctx)
	}
	if err == nil {
		err = c.announceLimits(ctx)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func dial(ctx context.Context, cfg Config, log zerolog.Logger) (*Conn, error) {
	c := &Conn{limits: cfg.Limits, log: log, metrics: cfg.Metrics}
	if c.metrics == nil {
		c.metrics = telemetry.NewBus(nil)
	}
	session, renew := context.WithCancel(context.Background())
	c.session = session
	where := redacted(cfg.URL)
	connected := make(chan struct{}, 1)
	options := []nats.Option{
		nats.Name(cfg.Name),
		nats.MaxReconnects(-1),
		nats.RetryOnFailedConnect(true),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(100*time.Millisecond, time.Second),
		nats.PingInterval(5 * time.Second),
		nats.MaxPingsOutstanding(3),
		nats.ReconnectBufSize(-1), // what can't be sent is an error and retried here, not buffered blindly
		nats.ConnectHandler(func(*nats.Conn) { c.metrics.Connected.Set(1); connected <- struct{}{} }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			c.metrics.Connected.Set(0)
			if err != nil {
				log.Warn().Err(err).Msg("broker connection lost")
			}
		}),
		nats.ReconnectHandler(func(*nats.Conn) {
			log.Info().Msg("broker connection is back")
			c.metrics.Connected.Set(1)
			c.metrics.Reconnects.Inc()
			c.mu.Lock()
			defer c.mu.Unlock()
			renew()
			c.session, renew = context.WithCancel(context.Background())
		}),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			log.Warn().Err(err).Msg("broker")
			c.denied.note(err)
		}),
	}
	if cfg.Server != nil {
		options, where = append(options, nats.InProcessServer(cfg.Server)), "in process"
	}
	if cfg.Token != "" {
		options = append(options, nats.Token(cfg.Token))
	}
	secure, err := cfg.options()
	if err != nil {
		return nil, fmt.Errorf("connect to the broker %s: %w", where, err)
	}
	options = append(options, secure...)
	nc, err := nats.Connect(cfg.URL, options...)
	if err != nil {
		return nil, fmt.Errorf("connect to the broker %s: %w", where, err)
	}
	select {
	case <-connected:
	case <-ctx.Done():
		err := nc.LastError()
		nc.Close()
		return nil, fmt.Errorf("connect to the broker %s: %w", where, errors.Join(context.Cause(ctx), err))
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("connect to the broker %s: %w", where, err)
	}
	c.nats, c.js = nc, js
	if _, err := nc.TLSConnectionState(); err != nil && cfg.Server == nil && !onLoopback(cfg.URL) {
		log.Warn().Str("broker", where).Msg("the connection is not encrypted: tls://, or --nats-ca")
	}
	return c, nil
}

// Close ends the connection; what was acknowledged stays.
func (c *Conn) Close() { c.nats.Close() }

// Connected reports whether the broker answers at the moment, for readiness probes.
func (c *Conn) Connected() bool { return c.nats.IsConnected() }

// current is the connection's session. What waits for an answer, or reads from a consumer in the broker's memory, starts over when the session ends
// instead of waiting for what won't come.
func (c *Conn) current() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session
}

const (
	requestTimeout = 5 * time.Second
	retryMin       = 50 * time.Millisecond
	retryMax       = 2 * time.Second
)

// retry calls f until it returns something else than an outage of the broker, or ctx ends. again is true from the second call on, when the first
// may have been carried out without its answer coming through.
func (c *Conn) retry(ctx context.Context, what string, f func(ctx context.Context, again bool) error) error {
	return c.retryEach(ctx, requestTimeout, what, f)
}

// retryEach is retry with another patience for each call.
func (c *Conn) retryEach(ctx context.Context, timeout time.Duration, what string, f func(ctx context.Context, again bool) error) error {
	wait := retryMin
	for again := false; ; again = true {
		session := c.current()
		attempt, cancel := context.WithTimeout(ctx, timeout)
		stop := context.AfterFunc(session, cancel)
		denials := c.denied.count()
		err := f(attempt, again)
		lost := attempt.Err() != nil // also where f reports it in words of its own
		stop()
		cancel()
		if err == nil || !isOutage(err) && !lost {
			return err
		}
		if denied := c.denied.since(denials); denied != nil { // no answer comes to what the broker drops
			return fmt.Errorf("%s: %w (%v)", what, ErrDenied, denied)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s: %w", what, errors.Join(context.Cause(ctx), err))
		}
		if wait == retryMax {
			c.log.Warn().Err(err).Str("what", what).Msg("broker does not answer, still trying")
		}
		if !c.sleep(ctx, session, wait) {
			return fmt.Errorf("%s: %w", what, errors.Join(context.Cause(ctx), err))
		}
		wait = min(2*wait, retryMax)
	}
}

// isOutage reports whether err says that the broker is away, as opposed to its having answered.
func isOutage(err error) bool {
	var api *jetstream.APIError
	if errors.As(err, &api) {
		return api.Code == 503 && !isFull(err) // JetStream is starting, stopping or electing
	}
	for _, outage := range []error{
		context.DeadlineExceeded, nats.ErrTimeout, nats.ErrNoResponders, nats.ErrDisconnected, nats.ErrConnectionReconnecting,
		nats.ErrReconnectBufExceeded, nats.ErrNoServers, nats.ErrStaleConnection, jetstream.ErrNoStreamResponse, jetstream.ErrNoHeartbeat,
		jetstream.ErrServerShutdown, jetstream.ErrConsumerLeadershipChanged, nats.ErrJetStreamNotEnabled,
	} {
		if errors.Is(err, outage) {
			return true
		}
	}
	return false
}

// sleep waits until d is over or the session is, whichever is first, and reports false if ctx ended.
func (c *Conn) sleep(ctx, session context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	over := session.Done()
	if session.Err() != nil { // that end has been acted on: a new wait must be one
		over = nil
	}
	select {
	case <-t.C:
		return true
	case <-over:
		return true
	case <-ctx.Done():
		return false
	}
}
