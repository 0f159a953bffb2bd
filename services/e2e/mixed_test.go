package e2e

import (
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/cpu"
	"github.com/seed-8780d58e/spin/pkg/blob"
	"github.com/seed-8780d58e/spin/pkg/store"
	"github.com/seed-8780d58e/spin/pkg/store/storetest"
	"github.com/seed-8780d58e/spin/pkg/weights"
	"github.com/seed-8780d58e/spin/services/generator/generate"
)

// A fleet whose only generator computes with other instructions than the trainer. In trainer mode the
// first loss of each iteration is ln 2 to the last bit; in generator mode it is near, and no alarm.
func TestForeignGenerator(t *testing.T) {
	archive := storetest.Open(t)
	own, err := cpu.New(cpu.Config{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	var foreign *cpu.Device
	for _, isa := range cpu.Instructions() {
		d, err := cpu.New(cpu.Config{Threads: 1, ISA: isa})
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		if d.Fingerprint() != own.Fingerprint() {
			foreign = d
			break
		}
	}
	if foreign == nil {
		t.Skip("this machine has one instruction set")
	}
	data := dataset(t)
	for _, mode := range []string{"trainer", "generator"} {
		t.Run(mode, func(t *testing.T) {
			spec := newSpec(t, data)
			spec.SPIN.OpponentLogps, spec.Control = mode, "none"
			spec.Engine.Engines = []string{foreign.Fingerprint() + "/f32"}
			p := newPlane(t, archive)
			s := p.start(fleet{threads: 1})
			defer s.stop()
			instance, conn := s.connect("generator")
			blobs, err := blob.New(filepath.Join(p.dir, "blobs"))
			if err != nil {
				t.Fatal(err)
			}
			g, err := generate.New(slots(4), instance, conn, weights.NewCache(conn, blobs, t.TempDir(), foreign, compute.F32, 0), p.log)
			if err != nil {
				t.Fatal(err)
			}
			s.serve("generator", g.Run)
			id := s.submit(spec)
			if err := s.trainer.Lead(s.ctx, id); err != nil {
				t.Fatal(err)
			}
			s.finish(id)
			var losses []float64
			for iteration := range spec.Iterations {
				losses = append(losses, number(t, archive, fmt.Sprintf("SELECT loss FROM steps FINAL WHERE run_id = '%s' AND phase = 'spin' AND step = 1 AND iteration = %d", id, iteration)))
			}
			for i, loss := range losses {
				if mode == "trainer" && loss != math.Ln2 || !(math.Abs(loss-math.Ln2) <= 0.02) {
					t.Errorf("the first loss of iteration %d is %v", i, loss)
				}
			}
			t.Logf("first losses %v, from ln 2: %.3g", losses, losses[0]-math.Ln2)
			if n := number(t, archive, "SELECT count() FROM events FINAL WHERE run_id = '"+id+"' AND kind = 'first_loss' AND level = 'alarm'"); n != 0 {
				t.Errorf("%v alarms about the first loss", n)
			}
			if n := number(t, archive, "SELECT count() FROM samples FINAL WHERE run_id = '"+id+"' AND fingerprint != '"+spec.Engine.Engines[0]+"'"); n != 0 {
				t.Errorf("%v samples of another engine", n)
			}
			drift := number(t, archive, "SELECT max(mean_abs) FROM engine_drift WHERE run_id = '"+id+"'")
			if !(drift <= 1e-4) {
				t.Errorf("decoding and scoring differ by %v nats a token", drift)
			}
		})
	}
}

// number asks for one.
func number(t *testing.T, archive *store.Store, sql string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(ask(t, archive, sql)[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
