package record

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/seed-8780d58e/spin/pkg/store"
	"github.com/seed-8780d58e/spin/pkg/store/storetest"
)

// A ClickHouse whose disk, here a small tmpfs, is full takes no batch; the recorder says so and goes on
// by itself when there is room, with each row once.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=192m"); err != nil {
		t.Skipf("mount a small disk: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, 0) })
	server, _ := storetest.Serve(t, filepath.Join(dir, "clickhouse"))
	archive, err := store.Open(t.Context(), store.Options{URL: server.URL()})
	must(t, err)
	t.Cleanup(func() { archive.Close() })
	must(t, archive.Migrate(t.Context()))

	conn, id := newBus(t), newRunID(t)
	refused := make(chan bool, 100)
	hook := zerolog.HookFunc(func(_ *zerolog.Event, level zerolog.Level, _ string) {
		if level == zerolog.WarnLevel {
			select {
			case refused <- true:
			default:
			}
		}
	})
	s := newRecorder(conn, archive)
	s.log = zerolog.New(zerolog.NewTestWriter(t)).Hook(hook)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	publishSteps(t, conn, id, 1, 5)
	must(t, s.Drain(t.Context()))

	ballast, err := os.Create(filepath.Join(dir, "ballast"))
	must(t, err)
	for err == nil {
		_, err = ballast.Write(make([]byte, 16<<10))
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	publishSteps(t, conn, id, 6, 40)
	select {
	case <-refused:
	case <-time.After(20 * time.Second):
		t.Error("nothing is said of a full disk")
	}
	must(t, ballast.Close())
	must(t, os.Remove(ballast.Name()))
	must(t, s.Drain(t.Context()))
	wantRows(t, archive, id, 40)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("the recorder ended with %v", err)
	}
}
