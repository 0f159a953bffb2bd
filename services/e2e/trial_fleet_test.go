package e2e

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/fault"
	"github.com/seed-8780d58e/spin/pkg/run"
)

// trialElastic plays the run with 1, 2 and 8 generators, and with 8 that each stand still now and then,
// so that games arrive in any order. (Arrival in the reverse order is TestLoop's.)
func trialElastic(t *testing.T, bin binaries, spec run.Spec, want result) string {
	figure := ""
	for _, c := range []struct {
		generators int
		delays     bool
	}{{1, false}, {2, false}, {8, false}, {8, true}} {
		d := deploy(t, bin, setup{})
		d.fleet(c.generators)
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for c.delays {
				g := d.services[3+rand.IntN(c.generators)]
				g.signal(syscall.SIGSTOP)
				time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
				g.signal(syscall.SIGCONT)
				select {
				case <-stop:
					return
				default:
				}
			}
		}()
		began := time.Now()
		id := d.submit(spec)
		d.finish(id, time.Minute)
		took := time.Since(began)
		close(stop)
		<-stopped
		what := fmt.Sprint(c.generators, " generators")
		if c.delays {
			what += " with random delays"
		}
		same(t, what, d.result(id, spec, want), want)
		d.exact(id, spec)
		who := ask(t, d.store, "SELECT uniqExact(generator) FROM games WHERE run_id = '"+id+"'")
		figure += fmt.Sprintf("%s: %.1f s, %s of them played; ", what, took.Seconds(), who[0])
		d.stop()
	}
	return figure + "the same weights and rows each time"
}

// trialHung stops a generator for longer than its lease, and wakes it when another has played its games.
func trialHung(t *testing.T, bin binaries, spec run.Spec, want result) string {
	d := deploy(t, bin, setup{})
	hung := d.service("generator") // alone at first, so that tasks are in its hands
	d.service("recorder").start()
	d.service("trainer").start()
	d.service("evaluator").start()
	hung.start()
	id := d.submit(spec)
	d.wait("a task in the generator's hands", 30*time.Second, func() bool {
		_, leased, err := d.admin.QueueDepth(t.Context(), id)
		return err == nil && leased > 0
	})
	hung.signal(syscall.SIGSTOP)
	began := time.Now()
	d.service("generator").start()
	d.played(id, spec.Data.Prompts+spec.Data.Heldout) // also those that were in its hands
	time.Sleep(time.Until(began.Add(hasty().AckWait + time.Second)))
	hung.signal(syscall.SIGCONT)
	slept := time.Since(began)
	d.finish(id, time.Minute)
	same(t, "a generator that slept", d.result(id, spec, want), want)
	d.exact(id, spec)
	return fmt.Sprintf("asleep for %.1f s with leases of %v, until the other had played all of its games; each is there once: the same weights and rows", slept.Seconds(), hasty().AckWait)
}

// trialTrainers has two trainers for one run, with the limits of production. The one that leads is
// stopped, and woken when the other leads; then that one is killed.
func trialTrainers(t *testing.T, bin binaries, spec run.Spec, want result) string {
	spec.CheckpointEvery = 2
	d := deploy(t, bin, setup{limits: bus.DefaultLimits()})
	first := d.service("trainer").start()
	d.service("recorder").start()
	d.service("evaluator").start()
	generator := d.service("generator")
	id := d.submit(spec)
	d.wait("a trainer that leads", 20*time.Second, func() bool { return first.said(`"leads"`) })
	second := d.service("trainer").start()
	d.wait("tasks in the queue", 30*time.Second, func() bool {
		waiting, _, err := d.admin.QueueDepth(t.Context(), id)
		return err == nil && waiting > 0
	})

	first.signal(syscall.SIGSTOP)
	began := time.Now()
	d.wait("the second trainer to lead", 20*time.Second, func() bool { return second.said(`"leads"`) })
	after := []time.Duration{time.Since(began)}
	// It plays half of the first iteration, woken rival beside it, and is killed there.
	generator.once = true
	generator.dieAt(fault.GeneratorGame + ":16") // of 14 to train on and 6 more: three steps' are there, the iteration's are not
	generator.start()
	first.signal(syscall.SIGCONT)
	generator.waitHit()
	d.wait("three steps, one of them behind the last save", 20*time.Second, func() bool {
		there, err := d.admin.Subjects(t.Context(), bus.Steps, event.Filter(id, event.Steps, "0", "spin"))
		return err == nil && len(there) >= 3
	})
	d.wait("the first one to stand back", 20*time.Second, func() bool { return first.said("lease lost") })
	leads := first.count(`"leads"`)
	second.down(syscall.SIGKILL)
	began = time.Now()
	d.wait("the first trainer to lead again", 20*time.Second, func() bool { return first.count(`"leads"`) > leads })
	after = append(after, time.Since(began))
	generator.up()
	d.finish(id, time.Minute)
	second.up()
	same(t, "two trainers", d.result(id, spec, want), want)
	d.exact(id, spec)
	for _, a := range after {
		if a >= 10*time.Second {
			t.Errorf("nobody led for %v, want less than 10 s", a)
		}
	}
	return fmt.Sprintf("the other leads %.1f s after a SIGSTOP and %.1f s after a kill -9 (lease %v), then loads %v ms and replays %v ms; the first, woken, changes nothing: the same weights and rows",
		after[0].Seconds(), after[1].Seconds(), bus.DefaultLimits().LeaseTTL, first.logged("load_ms"), first.logged("replay_ms"))
}
