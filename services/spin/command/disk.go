package command

import (
	"context"
	"fmt"
	"time"

	"github.com/seed-8780d58e/spin/services/trainer/train"
)

// A run stops while there is room to stop in: broker and ClickHouse lose nothing by a full disk, but
// they try for ever and say so in every line.
const (
	lowDisk    = 32 << 20
	lookAtDisk = time.Second
)

// watchDisk returns an error when the disk of dir is nearly full.
func watchDisk(ctx context.Context, dir string) error {
	tick := time.NewTicker(lookAtDisk)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		free, err := train.FreeDisk(dir)
		if err != nil {
			return err
		}
		if free < lowDisk {
			return badInput(fmt.Errorf("%s has %d MiB left: make room, the same command goes on where it was", dir, free>>20))
		}
	}
}
