package train

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/rs/zerolog"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/cpu"
	"github.com/seed-8780d58e/spin/pkg/model"
	"github.com/seed-8780d58e/spin/pkg/optim"
	"github.com/seed-8780d58e/spin/pkg/pretrained"
	"github.com/seed-8780d58e/spin/pkg/telemetry"
)

// BenchmarkSave is what a save costs of SmolLM2-135M with AdamW, masters and both moments: "held_up" is
// the copy into files, for which training stops; "hashed" goes on beside it.
func BenchmarkSave(b *testing.B) {
	dir := os.Getenv("SPIN_CACHE")
	if dir == "" {
		cache, err := os.UserCacheDir()
		must(b, err)
		dir = filepath.Join(cache, "spin")
	}
	path := filepath.Join(dir, "SmolLM2-135M-Instruct.Q4_1.gguf")
	p, err := pretrained.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		b.Skip("no SmolLM2 in the cache folder")
	}
	must(b, err)
	defer p.Close()
	dev, err := cpu.New(cpu.Config{})
	must(b, err)
	defer dev.Close()
	m, err := model.New(dev, dev.NewBackend(), p.ModelConfig, p, model.Options{DType: compute.BF16, Full: true, MaxContext: 512})
	must(b, err)
	defer m.Free()
	learner, err := NewLearner(m, Settings{MicroTokens: 256, Rule: optim.AdamW()})
	must(b, err)
	defer learner.Free()
	j, err := openJournal(b.Context(), filepath.Join(b.TempDir(), "journal"), 1, telemetry.NewTrainer(nil).Journal, nil, nil, zerolog.Nop())
	must(b, err)
	defer j.close()
	s := &saver{lead: &lead{journal: j}, run: "r"}
	out := filepath.Join(b.TempDir(), "save")
	var paths []string
	b.Run("held_up", func(b *testing.B) {
		for b.Loop() {
			paths, err = s.copyOut(out, learner, cursor{Step: 1})
			must(b, err)
		}
		var bytes int64
		for _, path := range paths[:len(paths)-1] {
			info, err := os.Stat(path)
			must(b, err)
			bytes += info.Size()
		}
		b.SetBytes(bytes)
	})
	b.Run("hashed", func(b *testing.B) {
		for b.Loop() {
			for _, path := range paths[:len(paths)-1] {
				f, err := digest(path)
				must(b, err)
				b.SetBytes(f.Size * int64(len(paths)-1))
			}
		}
	})
}
