package telemetry

import (
	"github.com/prometheus/client_golang/prometheus"
)

// Bus is what each service's connection to the broker counts.
type Bus struct {
	Connected  prometheus.Gauge       // 0 or 1
	Reconnects prometheus.Counter     //
	Published  *prometheus.CounterVec // by stream
	Errors     *prometheus.CounterVec // by stream and reason: full, fenced, denied, invalid, other
}

// NewBus makes them in r.
func NewBus(r *Registry) *Bus {
	f := r.factory()
	return &Bus{
		Connected:  f.NewGauge(prometheus.GaugeOpts{Name: "spin_bus_connected", Help: "1 while the broker is connected, 0 else."}),
		Reconnects: f.NewCounter(prometheus.CounterOpts{Name: "spin_bus_reconnects_total", Help: "Times that a lost connection to the broker came back."}),
		Published: f.NewCounterVec(prometheus.CounterOpts{
			Name: "spin_bus_published_total", Help: "Messages that the broker has taken, or had already, by stream.",
		}, []string{"stream"}),
		Errors: f.NewCounterVec(prometheus.CounterOpts{
			Name: "spin_bus_publish_errors_total",
			Help: "Messages that the broker has not taken, by stream and reason: full (a bound is met: back-pressure, and usual for SPIN_PROMPTS), fenced (another leader wrote), denied (by its role), invalid (too large), other.",
		}, []string{"stream", "reason"}),
	}
}

// Generator is what a generator counts.
type Generator struct {
	Tracer        Tracer
	Games         prometheus.Counter
	Sampled       prometheus.Counter // tokens
	Prompt        prometheus.Counter // tokens
	Cached        prometheus.Counter // tokens
	InHand        prometheus.Gauge   // tasks
	Tasks         *prometheus.CounterVec
	TaskSeconds   prometheus.Histogram
	WeightChanges prometheus.Counter
	LoadSeconds   prometheus.Histogram
}

// NewGenerator makes them in r.
func NewGenerator(r *Registry) *Generator {
	f := r.factory()
	return &Generator{
		Tracer:  r.tracer(),
		Games:   f.NewCounter(prometheus.CounterOpts{Name: "spin_generator_games_total", Help: "Games that were played and published."}),
		Sampled: f.NewCounter(prometheus.CounterOpts{Name: "spin_generator_sampled_tokens_total", Help: "Tokens that the engine has sampled; their rate is the generator's tokens per second."}),
		Prompt:  f.NewCounter(prometheus.CounterOpts{Name: "spin_generator_prompt_tokens_total", Help: "Tokens of prompts that the engine has read."}),
		Cached:  f.NewCounter(prometheus.CounterOpts{Name: "spin_generator_cached_tokens_total", Help: "Tokens of prompts that the engine found in its key/value cache."}),
		InHand:  f.NewGauge(prometheus.GaugeOpts{Name: "spin_generator_tasks_in_hand", Help: "Tasks under lease, those that wait for their weights included."}),
		Tasks: f.NewCounterVec(prometheus.CounterOpts{
			Name: "spin_generator_tasks_total", Help: "Tasks by how they ended: done, released (another generator's or no room; uncounted), lease_lost, unplayable, failed.",
		}, []string{"result"}),
		TaskSeconds: f.NewHistogram(prometheus.HistogramOpts{
			Name: "spin_generator_task_seconds", Help: "Time from taking a task to its last published game, of tasks that were done.", Buckets: prometheus.ExponentialBuckets(0.1, 2, 14),
		}),
		WeightChanges: f.NewCounter(prometheus.CounterOpts{Name: "spin_generator_weight_changes_total", Help: "Times that other weights were loaded."}),
		LoadSeconds: f.NewHistogram(prometheus.HistogramOpts{
			Name: "spin_generator_load_seconds", Help: "Time to fetch and load weights.", Buckets: prometheus.ExponentialBuckets(0.1, 2, 14),
		}),
	}
}

// Trainer is what a trainer counts.
type Trainer struct {
	Tracer      Tracer
	Runs        *prometheus.GaugeVec // by status
	Led         prometheus.Gauge     // runs
	Steps       *prometheus.CounterVec
	Tokens      *prometheus.CounterVec
	StepSeconds *prometheus.HistogramVec
	Waiting     prometheus.Counter // seconds
	Generators  *prometheus.GaugeVec
	Queue       *prometheus.GaugeVec
	Journal     prometheus.Gauge // messages
	SaveSeconds prometheus.Histogram
	SaveStall   prometheus.Counter // seconds
	SaveErrors  prometheus.Counter
	Hedges      prometheus.Counter
	Refusals    prometheus.Counter
}

// NewTrainer makes them in r.
func NewTrainer(r *Registry) *Trainer {
	f := r.factory()
	return &Trainer{
		Tracer: r.tracer(),
		Runs: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "spin_trainer_runs", Help: "Runs of the broker by status, as every trainer sees them: blocked ones wait for a person.",
		}, []string{"status"}),
		Led: f.NewGauge(prometheus.GaugeOpts{Name: "spin_trainer_runs_led", Help: "Runs that this trainer leads: their leases are its own."}),
		Steps: f.NewCounterVec(prometheus.CounterOpts{
			Name: "spin_trainer_steps_total", Help: "Optimizer steps by phase: sft, spin, control. Steps that are taken again after a restart count again.",
		}, []string{"phase"}),
		Tokens: f.NewCounterVec(prometheus.CounterOpts{Name: "spin_trainer_tokens_total", Help: "Tokens trained on, by phase."}, []string{"phase"}),
		StepSeconds: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "spin_trainer_step_seconds", Help: "Time of a step, by phase, waiting for its games included.", Buckets: prometheus.ExponentialBuckets(0.01, 2, 16),
		}, []string{"phase"}),
		Waiting: f.NewCounter(prometheus.CounterOpts{Name: "spin_trainer_games_wait_seconds_total", Help: "Time that training has waited for games."}),
		Generators: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "spin_trainer_generators", Help: "Generators that hold a membership, seen by the leader of a run while it plays games.",
		}, []string{"run"}),
		Queue: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "spin_trainer_queue_tasks", Help: "Tasks of a run in the broker while it plays games, by state: waiting, or leased to a generator.",
		}, []string{"run", "state"}),
		Journal: f.NewGauge(prometheus.GaugeOpts{Name: "spin_trainer_journal_messages", Help: "Steps, pairs and alarms that the broker has not taken yet; training goes on meanwhile."}),
		SaveSeconds: f.NewHistogram(prometheus.HistogramOpts{
			Name: "spin_trainer_save_seconds", Help: "Time from the start of a save to its standing in the blob store, most of it beside training.", Buckets: prometheus.ExponentialBuckets(0.1, 2, 14),
		}),
		SaveStall:  f.NewCounter(prometheus.CounterOpts{Name: "spin_trainer_save_stall_seconds_total", Help: "Time that saves have held up training."}),
		SaveErrors: f.NewCounter(prometheus.CounterOpts{Name: "spin_trainer_save_errors_total", Help: "Saves that could not be written; training goes on and tries again."}),
		Hedges:     f.NewCounter(prometheus.CounterOpts{Name: "spin_trainer_hedges_total", Help: "Tasks that were published again because a generator was slow."}),
		Refusals:   f.NewCounter(prometheus.CounterOpts{Name: "spin_trainer_refused_games_total", Help: "Games that were no part of their run and went to the dead letters."}),
	}
}

// Evaluator is what an evaluator counts.
type Evaluator struct {
	Scores   *prometheus.CounterVec
	Seconds  *prometheus.HistogramVec
	Failures prometheus.Counter
}

// NewEvaluator makes them in r.
func NewEvaluator(r *Registry) *Evaluator {
	f := r.factory()
	return &Evaluator{
		Scores: f.NewCounterVec(prometheus.CounterOpts{Name: "spin_evaluator_scores_total", Help: "Scores that were published, by task."}, []string{"task"}),
		Seconds: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "spin_evaluator_measure_seconds", Help: "Time to measure a checkpoint on a task.", Buckets: prometheus.ExponentialBuckets(0.05, 2, 18),
		}, []string{"task"}),
		Failures: f.NewCounter(prometheus.CounterOpts{Name: "spin_evaluator_failures_total", Help: "Checkpoints that could not be measured."}),
	}
}

// Recorder is what a recorder counts.
type Recorder struct {
	Tracer        Tracer
	Rows          *prometheus.CounterVec
	InsertSeconds prometheus.Histogram
	Retries       prometheus.Counter
	Lag           *prometheus.GaugeVec
	LagSeconds    *prometheus.GaugeVec
	Missing       *prometheus.GaugeVec
}

// NewRecorder makes them in r.
func NewRecorder(r *Registry) *Recorder {
	f, stream := r.factory(), []string{"stream"}
	return &Recorder{
		Tracer: r.tracer(),
		Rows:   f.NewCounterVec(prometheus.CounterOpts{Name: "spin_recorder_rows_total", Help: "Rows that ClickHouse has taken, by table; a batch that is repeated after a restart counts again."}, []string{"table"}),
		InsertSeconds: f.NewHistogram(prometheus.HistogramOpts{
			Name: "spin_recorder_insert_seconds", Help: "Time of one try to insert a batch.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 16),
		}),
		Retries:    f.NewCounter(prometheus.CounterOpts{Name: "spin_recorder_insert_retries_total", Help: "Batches that ClickHouse did not take and that were tried again."}),
		Lag:        f.NewGaugeVec(prometheus.GaugeOpts{Name: "spin_recorder_lag_messages", Help: "Sequences of a stream that are not in ClickHouse; looked at every --look-every."}, stream),
		LagSeconds: f.NewGaugeVec(prometheus.GaugeOpts{Name: "spin_recorder_lag_seconds", Help: "Time that a stream has had something that is not in ClickHouse; 0: all is."}, stream),
		Missing:    f.NewGaugeVec(prometheus.GaugeOpts{Name: "spin_recorder_missing_messages", Help: "Sequences that went from a stream before they were recorded: their rows are lost, unless their run was removed."}, stream),
	}
}
