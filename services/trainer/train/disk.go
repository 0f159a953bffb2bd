package train

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-8780d58e/spin/pkg/model"
	"github.com/seed-8780d58e/spin/pkg/optim"
	"github.com/seed-8780d58e/spin/pkg/run"
)

// What a run takes on disk beside its checkpoints: broker and ClickHouse at rest, and a sample's rows
// and messages.
const (
	restBytes   = 256 << 20
	sampleBytes = 16 << 10
)

// DiskBytes is what a run writes at most: masters of the checkpoints that are there at once, two saves in
// the middle of a stage with their moments, and what is said about the samples.
func DiskBytes(spec run.Spec, cfg model.Config) int64 {
	chain := spec.Iterations
	if spec.SFT.Epochs > 0 {
		chain++
	}
	if last := spec.Retention.Last; last > 0 {
		chain = min(chain, last+2) // the best, and one that is being written
	}
	checkpoints := 1 + chain // and the model as given
	if spec.Control == "sft" {
		checkpoints++
	}
	saves := 2 * (4*cfg.Parameters() + max(momentBytes(spec.SFT.Optimizer, cfg), momentBytes(spec.SPIN.Optimizer, cfg)))
	samples := (spec.Data.Prompts + spec.Data.Heldout) * spec.Draws * spec.Iterations
	return int64(checkpoints)*4*cfg.Parameters() + saves + int64(samples)*sampleBytes + restBytes
}

// momentBytes is what an optimizer's state takes of a whole model.
func momentBytes(o run.Optimizer, cfg model.Config) int64 {
	rule, err := optim.ParseRule(o.Name)
	if err != nil {
		return 0
	}
	return optim.StateBytes(rule.Kind, cfg.Parameters())
}

// CheckDisk compares what a run will write below dir with the free disk there. What an interrupted
// run has left there counts as written.
func CheckDisk(spec run.Spec, cfg model.Config, dir string) error {
	var written int64
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			written += info.Size()
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // nothing yet, or a file that went away meanwhile
		return err
	}
	free, err := FreeDisk(dir)
	if err != nil {
		return err
	}
	if need := DiskBytes(spec, cfg) - written; free < need {
		return fmt.Errorf("%s has %s free, the run will write %s: make room, choose another folder, or lower retention.last, prompts or iterations", dir, size(free), size(need))
	}
	return nil
}

// FreeDisk is the room for files below dir, which may still be to be made.
func FreeDisk(dir string) (int64, error) {
	for at := filepath.Clean(dir); ; at = filepath.Dir(at) {
		var stat unix.Statfs_t
		err := unix.Statfs(at, &stat)
		if errors.Is(err, os.ErrNotExist) && at != filepath.Dir(at) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("ask for the free disk of %s: %w", dir, err)
		}
		return int64(stat.Bavail) * int64(stat.Bsize), nil
	}
}

// withRoom calls f until a disk has room for it. What f had written of it is gone by then.
func (l *lead) withRoom(ctx context.Context, what string, f func() error) error {
	for told := false; ; told = true {
		err := f()
		if !noRoom(err) {
			return err
		}
		if !told {
			l.log.Error().Err(err).Str("run", l.run.ID).Msgf("no room for %s: the run waits for it; make room in %s", what, l.cfg.Scratch)
		}
		select {
		case <-time.After(roomRetry):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// roomRetry is how often a full disk is tried again.
const roomRetry = 2 * time.Second

func size(n int64) string {
	if n < 1<<30 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
}
