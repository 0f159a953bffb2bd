package fleet_test

import (
	"container/heap"
	"encoding/csv"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/fleet"
	"github.com/seed-8780d58e/spin/pkg/run"
)

var figures = flag.String("figures", "", "folder for the simulation's figures, CSV")

// world is what is simulated: one iteration of a run, its trainer, its queue, and generators that join,
// die and differ. What becomes of tasks is decided by the code that decides it in production; only the
// clock, the broker and the work are played.
type world struct {
	hedging   bool
	slow      float64 // share of generators that are slowFactor times slower
	queue     int     // tasks that the queue holds
	patience  fleet.Patience
	hedge     fleet.Hedging
	limits    bus.Limits
	spec      run.Spec
	step      time.Duration // that a step takes the trainer
	chunkTime time.Duration // that a chunk takes the median generator
	lifetime  time.Duration // mean of a generator's
	joining   time.Duration // over which the fleet joins

	random *rand.Rand
	now    time.Duration
	events events
	took   fleet.Durations

	planned, urgent []*task // waiting
	unplanned       []*task // not published yet: the queue is full
	idleWorkers     []*worker
	played          []bool
	of              []*task // newest task of each game
	hedged          []int
	lastWorker      int

	out result
}

const (
	generators = 1000
	slowFactor = 20.0
	lookEvery  = 200 * time.Millisecond // of the trainer, while it waits (trainer/train)
	rejoin     = 30 * time.Second       // until a dead generator is replaced
)

// task is a chunk, or a copy or a part of one.
type task struct {
	games    []int
	attempts []fleet.Attempt
	taken    time.Duration // negative: not in anybody's hands
	counted  bool
	urgent   bool
}

type worker struct {
	name string
	slow float64
	dead bool
}

// result is what a simulation comes to.
type result struct {
	total, idle   time.Duration
	redeliveries  int // tasks that came again after a lease ran out
	splits        int
	hedges        int
	twice         int // games that were played more than once
	waiting       []sample
	idleBySecond  []sample
	deepest, used int
}

type sample struct {
	at    time.Duration
	value float64
}

func (r result) idleShare() float64 { return r.idle.Seconds() / r.total.Seconds() }

// events is a queue by time; equal times in the order in which they were made.
type events struct {
	list []timed
	made int
}

type timed struct {
	at time.Duration
	no int
	do func()
}

func (e *events) Len() int { return len(e.list) }
func (e *events) Less(i, j int) bool {
	a, b := e.list[i], e.list[j]
	return a.at < b.at || a.at == b.at && a.no < b.no
}
func (e *events) Swap(i, j int) { e.list[i], e.list[j] = e.list[j], e.list[i] }
func (e *events) Push(x any)    { e.list = append(e.list, x.(timed)) }
func (e *events) Pop() any {
	last := e.list[len(e.list)-1]
	e.list = e.list[:len(e.list)-1]
	return last
}

func (w *world) after(d time.Duration, do func()) {
	w.events.made++
	heap.Push(&w.events, timed{w.now + d, w.events.made, do})
}

func newWorld(seed uint64) *world {
	spec, err := run.Preset("paper")
	if err != nil {
		panic(err)
	}
	limits := bus.DefaultLimits()
	p := fleet.DefaultPatience()
	p.Instances, p.Attempts = limits.MaxInstances, limits.MaxAttempts
	return &world{
		hedging: true, slow: 0.02, queue: limits.QueuePerRun, patience: p, hedge: fleet.DefaultHedging(), limits: limits, spec: spec,
		step: 250 * time.Millisecond, chunkTime: 5 * time.Second, lifetime: 5 * time.Minute, joining: 30 * time.Second,
		random: rand.New(rand.NewPCG(seed, 2401_01335)),
	}
}

// simulate plays the iteration to its last step.
func (w *world) simulate() result {
	games := w.spec.Data.Prompts
	w.played, w.of, w.hedged = make([]bool, games), make([]*task, games), make([]int, games)
	order := run.Order(w.spec.Seed, run.SPINStage, 0, 1, games)
	for _, c := range run.PlanChunks(order, 0, w.spec.ChunkSize(0)) {
		t := &task{games: c.Games, taken: -1}
		w.unplanned = append(w.unplanned, t)
		for _, g := range c.Games {
			w.of[g] = t
		}
	}
	for i := range generators {
		w.after(time.Duration(float64(w.joining)*float64(i)/generators), w.join)
	}
	done := false
	batches := run.Batches(order, w.spec.GamesPerStep(0), nil)
	w.after(0, func() { w.train(batches, 0, w.now, &done) })
	var observe func()
	observe = func() {
		w.out.waiting = append(w.out.waiting, sample{w.now, float64(len(w.planned) + len(w.urgent))})
		w.out.idleBySecond = append(w.out.idleBySecond, sample{w.now, w.out.idle.Seconds()})
		w.after(time.Second, observe)
	}
	w.after(0, observe)
	w.top()
	for !done {
		e := heap.Pop(&w.events).(timed)
		w.now = e.at
		e.do()
	}
	w.out.total = w.now
	return w.out
}

// top publishes planned chunks while the queue has room: the back-pressure.
func (w *world) top() {
	for len(w.unplanned) > 0 && len(w.planned)+w.out.used < w.queue {
		w.planned, w.unplanned = append(w.planned, w.unplanned[0]), w.unplanned[1:]
	}
	w.out.deepest = max(w.out.deepest, len(w.planned)+len(w.urgent))
	w.serve()
}

// serve hands waiting tasks to idle generators, urgent ones first.
func (w *world) serve() {
	for len(w.idleWorkers) > 0 && len(w.planned)+len(w.urgent) > 0 {
		from := &w.planned
		if len(w.urgent) > 0 {
			from = &w.urgent
		}
		t := (*from)[0]
		*from = (*from)[1:]
		worker := w.idleWorkers[0]
		w.idleWorkers = w.idleWorkers[1:]
		if worker.dead {
			*from = append([]*task{t}, *from...)
			continue
		}
		w.take(worker, t)
	}
}

// join adds a generator, which lives for a while and is replaced.
func (w *world) join() {
	w.lastWorker++
	g := &worker{name: fmt.Sprint("generator-", w.lastWorker), slow: math.Exp(0.25 * w.random.NormFloat64())}
	if w.random.Float64() < w.slow {
		g.slow *= slowFactor
	}
	w.after(time.Duration(w.random.ExpFloat64()*float64(w.lifetime)), func() {
		g.dead = true
		w.after(rejoin, w.join)
	})
	w.free(g)
}

func (w *world) free(g *worker) {
	if !g.dead {
		w.idleWorkers = append(w.idleWorkers, g)
		w.serve()
	}
}

// take is a delivery: what becomes of the task is decided by who tried it before.
func (w *world) take(g *worker, t *task) {
	switch w.patience.Verdict(t.attempts, len(t.games)) {
	case fleet.Split:
		w.out.splits++
		for _, id := range t.games {
			single := &task{games: []int{id}, taken: -1, urgent: true}
			w.of[id] = single
			w.urgent = append(w.urgent, single)
		}
		w.free(g)
		return
	case fleet.Bury:
		panic("a prompt was given up: nothing in this world is poisoned")
	}
	if len(t.attempts) > 0 {
		w.out.redeliveries++
	}
	t.attempts = append(t.attempts, fleet.Attempt{Instance: g.name})
	t.taken = w.now
	if !t.urgent {
		w.out.used++
	}
	work := time.Duration(float64(w.chunkTime) * g.slow * (0.8 + 0.4*w.random.Float64()) * float64(len(t.games)) / float64(w.spec.ChunkSize(0)))
	w.after(work, func() {
		if g.dead {
			return // and its lease runs out
		}
		w.finish(t)
		w.free(g)
	})
	var watch func()
	watch = func() { // the lease: renewed by a generator that lives, lost by one that does not
		if t.taken < 0 || t.counted || t.attempts[len(t.attempts)-1].Instance != g.name {
			return
		}
		if !g.dead {
			w.after(w.limits.AckWait/4, watch)
			return
		}
		w.after(w.limits.AckWait, func() {
			t.taken = -1
			if !t.urgent {
				w.out.used--
				w.planned = append([]*task{t}, w.planned...) // what comes again comes first
			} else {
				w.urgent = append([]*task{t}, w.urgent...)
			}
			w.serve()
		})
	}
	w.after(w.limits.AckWait/4, watch)
}

// finish publishes a task's games; the first write of each counts.
func (w *world) finish(t *task) {
	for _, id := range t.games {
		if w.played[id] {
			w.out.twice++
		}
		w.played[id] = true
	}
	w.took.Add(w.now - t.taken)
	t.counted = true
	if !t.urgent {
		w.out.used--
	}
	w.top()
}

// train takes the steps in their order, and waits where games are missing.
func (w *world) train(batches [][]int, at int, since time.Duration, done *bool) {
	if at == len(batches) {
		*done = true
		return
	}
	var missing []int
	for _, id := range batches[at] {
		if !w.played[id] {
			missing = append(missing, id)
		}
	}
	if len(missing) == 0 {
		w.after(w.step, func() { w.train(batches, at+1, w.now, done) })
		return
	}
	if w.hedging && w.now > since {
		w.lookAfter(missing)
	}
	w.out.idle += lookEvery
	w.after(lookEvery, func() { w.train(batches, at, since, done) })
}

// lookAfter publishes slow tasks again: where one holds up training, all that are as late.
func (w *world) lookAfter(missing []int) {
	due := func(id int) bool {
		t := w.of[id]
		return !w.played[id] && t.taken >= 0 && w.hedge.Due(w.now-t.taken, w.hedged[id], true, &w.took)
	}
	if !slices.ContainsFunc(missing, due) {
		return
	}
	for id := range w.of {
		if !due(id) {
			continue
		}
		t := w.of[id]
		c := &task{taken: -1, urgent: true}
		for _, g := range t.games {
			if !w.played[g] {
				c.games = append(c.games, g)
				w.hedged[g]++
				w.of[g] = c
			}
		}
		w.out.hedges++
		w.urgent = append(w.urgent, c)
	}
	w.serve()
}

// A thousand generators that join over half a minute, live five minutes each, and of which some are
// twenty times slower than the others: hedging keeps the trainer busy, and costs little.
func TestThousandGenerators(t *testing.T) {
	type row struct {
		slow          float64
		with, without result
	}
	var rows []row
	for _, slow := range []float64{0, 0.01, 0.02, 0.05, 0.1} {
		simulate := func(hedging bool) result {
			w := newWorld(1)
			w.slow, w.hedging = slow, hedging
			return w.simulate()
		}
		r := row{slow, simulate(true), simulate(false)}
		rows = append(rows, r)
		t.Logf("%4.0f %% slow: the trainer idles %4.1f %% of %4.0f s with hedging (%d hedges, %d games twice), %4.1f %% of %4.0f s without; %d redeliveries, %d splits, the queue held up to %d tasks",
			100*slow, 100*r.with.idleShare(), r.with.total.Seconds(), r.with.hedges, r.with.twice, 100*r.without.idleShare(), r.without.total.Seconds(),
			r.with.redeliveries, r.with.splits, r.with.deepest)
		if r.with.redeliveries == 0 {
			t.Error("nobody died on a task")
		}
		if slow > 0 && !(r.with.idleShare() < r.without.idleShare()/2) {
			t.Errorf("%.0f %% slow: hedging leaves the trainer idle for %.1f %%, without it is %.1f %%", 100*slow, 100*r.with.idleShare(), 100*r.without.idleShare())
		}
		if !(float64(r.with.twice) < 0.05*float64(newWorld(1).spec.Data.Prompts)) {
			t.Errorf("%.0f %% slow: %d games were played twice", 100*slow, r.with.twice)
		}
	}
	// The bound of a run's queue is back-pressure, not a limit of the fleet.
	narrow := newWorld(1)
	narrow.queue, narrow.step = 64, 10*time.Millisecond
	wide := newWorld(1)
	wide.step = narrow.step
	a, b := narrow.simulate(), wide.simulate()
	t.Logf("a trainer of 10 ms a step takes %.0f s with a queue of 64 tasks, %.0f s with one of %d", a.total.Seconds(), b.total.Seconds(), wide.queue)
	if !(b.total < a.total/2) {
		t.Error("a queue for the whole fleet is no faster than one for 64 tasks")
	}
	again := newWorld(1)
	if x, y := again.simulate(), rows[2].with; x.total != y.total || x.idle != y.idle || x.hedges != y.hedges {
		t.Errorf("the same seed gives %v and %v", x.total, y.total)
	}
	if *figures == "" {
		return
	}
	write := func(name string, lines [][]string) {
		f, err := os.Create(filepath.Join(*figures, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := csv.NewWriter(f).WriteAll(lines); err != nil {
			t.Fatal(err)
		}
	}
	shares := [][]string{{"slow_share", "idle_with", "idle_without", "seconds_with", "seconds_without", "hedges", "games_twice", "redeliveries", "splits", "deepest_queue"}}
	for _, r := range rows {
		shares = append(shares, []string{
			fmt.Sprint(r.slow), fmt.Sprintf("%.4f", r.with.idleShare()), fmt.Sprintf("%.4f", r.without.idleShare()), fmt.Sprintf("%.1f", r.with.total.Seconds()),
			fmt.Sprintf("%.1f", r.without.total.Seconds()), fmt.Sprint(r.with.hedges), fmt.Sprint(r.with.twice), fmt.Sprint(r.with.redeliveries),
			fmt.Sprint(r.with.splits), fmt.Sprint(r.with.deepest),
		})
	}
	write("fleet-idle.csv", shares)
	times := [][]string{{"second", "waiting_with", "idle_seconds_with", "waiting_without", "idle_seconds_without"}}
	with, without := rows[2].with, rows[2].without
	for i := range without.waiting {
		line := []string{fmt.Sprintf("%.0f", without.waiting[i].at.Seconds()), "", "", fmt.Sprint(without.waiting[i].value), fmt.Sprintf("%.1f", without.idleBySecond[i].value)}
		if i < len(with.waiting) {
			line[1], line[2] = fmt.Sprint(with.waiting[i].value), fmt.Sprintf("%.1f", with.idleBySecond[i].value)
		}
		times = append(times, line)
	}
	write("fleet-time.csv", times)
}
