package e2e

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-8780d58e/spin/pkg/fault"
	"github.com/seed-8780d58e/spin/pkg/run"
)

// trialKills kills every process of a deployment again and again: each service once at each of its
// fault points, and all of them, broker and ClickHouse too, at random moments. The short form is over
// when every point was hit, the long one after 200 kills of runs of three iterations; runs of the same spec follow one another
// until then, and each must come to the same.
func trialKills(t *testing.T, bin binaries, spec run.Spec, want result) string {
	kills, pause := 0, 1500*time.Millisecond
	if *chaos {
		kills = 200
		spec.Iterations = 3
		want = undisturbed(t, bin, spec)
	}
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("moments by seed %d", seed)

	spec.CheckpointEvery = 2 // so that a save is met
	limits := hasty()
	// Here people kill, not prompts: whoever dies on a prompt says nothing about it.
	limits.MaxInstances, limits.MaxAttempts = 1000, 1000
	d := deploy(t, bin, setup{limits: limits})
	d.fleet(2)
	for _, p := range d.services {
		kind, _, _ := strings.Cut(p.name, "-")
		if p.name == "generator-1" {
			continue // somebody has to play meanwhile
		}
		for _, point := range fault.Points() {
			if strings.HasPrefix(point, kind+".") {
				p.dieAt(point)
			}
		}
	}
	stop := make(chan struct{})
	stopped := make(chan struct{})
	go func() { // the random kills
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(random.Int64N(int64(2 * pause)))):
				all := d.all()
				all[random.IntN(len(all))].kill()
			}
		}
	}()
	left := func() (points []string) {
		for _, p := range d.services {
			_, l := p.hits()
			points = append(points, l...)
		}
		return points
	}
	var runs []string
	for len(runs) == 0 || d.kills() < kills || len(left()) > 0 {
		if len(runs) == 100 {
			t.Fatalf("after %d runs and %d kills these points were not hit: %v", len(runs), d.kills(), left())
		}
		id := d.submit(spec)
		runs = append(runs, id)
		d.finish(id, 3*time.Minute)
	}
	close(stop)
	<-stopped
	for _, p := range d.all() {
		p.signal(syscall.SIGCONT)
	}
	for _, id := range runs {
		same(t, fmt.Sprintf("after %d kills", d.kills()), d.result(id, spec, want), want)
		d.exact(id, spec)
	}
	count := map[string]int{}
	for _, p := range d.all() {
		kind, _, _ := strings.Cut(p.name, "-")
		count[kind] += p.kills()
	}
	return fmt.Sprintf("%d kills over %d runs of %d iterations (trainer %d, generators %d, evaluator %d, recorder %d, broker %d, ClickHouse %d), all %d fault points hit: the undisturbed run's weights and rows",
		d.kills(), len(runs), spec.Iterations, count["trainer"], count["generator"], count["evaluator"], count["recorder"], count["broker"], count["clickhouse"], len(fault.Points()))
}
