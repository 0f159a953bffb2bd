package embedded_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/bus/embedded"
	"github.com/seed-8780d58e/spin/pkg/event"
)

// A broker on a disk that fills up (a small tmpfs) loses nothing that it acknowledged, and goes on by
// itself when there is room.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=48m"); err != nil {
		t.Skipf("mount a small disk: %v", err)
	}
	defer unix.Unmount(dir, 0)
	server, err := embedded.Start(t.Context(), embedded.Config{Dir: filepath.Join(dir, "broker"), MaxStore: 64 << 30}, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	}()
	conn, err := bus.Init(t.Context(), server.Config("test"), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ballast, err := os.Create(filepath.Join(dir, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Fallocate(int(ballast.Fd()), 0, 0, 32<<20); err != nil {
		t.Fatal(err)
	}
	run := strings.Repeat("a", 32)
	var pairs []*event.PairTrace
	for range 5000 { // half a mebibyte of them
		pairs = append(pairs, &event.PairTrace{PromptId: strings.Repeat("p", 64), Loss: 1, Margin: 1, PolicyRealLogp: -1, PolicyGeneratedLogp: -1})
	}
	filter := event.Filter(run, event.Pairs)
	last, acknowledged := uint64(0), 0
	put := func(ctx context.Context) error {
		m := &event.PairTraces{RunId: run, Step: uint32(acknowledged + 1), Pairs: pairs}
		seq, err := conn.PublishAfter(ctx, m, filter, last)
		if err == nil {
			last, acknowledged = seq, acknowledged+1
		}
		return err
	}
	for err = nil; err == nil; {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second) // it waits for room, as long as it is let
		err = put(ctx)
		cancel()
		if acknowledged > 80 {
			t.Fatal("40 MiB fit on a disk of 16")
		}
	}
	t.Logf("full after %d messages: %v", acknowledged, err)
	if err := os.Remove(ballast.Name()); err != nil {
		t.Fatal(err)
	}
	ballast.Close()
	for range 3 {
		if err := put(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	there := 0
	err = conn.Read(t.Context(), bus.ReadConfig{Stream: bus.Steps}, func(d bus.Delivery) error {
		there++
		if n := d.Message.(*event.PairTraces).GetStep(); n != uint32(there) {
			t.Errorf("message %d is step %d", there, n)
		}
		return d.Err
	})
	if err != nil || there != acknowledged {
		t.Errorf("%d messages are there, %v; %d were acknowledged", there, err, acknowledged)
	}
}
