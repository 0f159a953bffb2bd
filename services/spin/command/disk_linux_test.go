package command_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/seed-8780d58e/spin/pkg/store/storetest"
)

// A disk that is too small is found before anything starts.
func TestRunFullDisk(t *testing.T) {
	storetest.Library(t)
	small := t.TempDir()
	if err := unix.Mount("none", small, "tmpfs", 0, "size=20m"); err != nil {
		t.Skipf("mount a small disk: %v", err)
	}
	defer unix.Unmount(small, 0)
	code, stdout, stderr := play(t, small+"/data", "--data", answers(t, 8))
	if code != 2 || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, small+"/data has 20 MiB free, the run will write ") {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
}

// A disk that others fill ends the run in one line before writes fail.
func TestRunDiskFills(t *testing.T) {
	storetest.Library(t)
	small := t.TempDir()
	if err := unix.Mount("none", small, "tmpfs", 0, "size=400m"); err != nil {
		t.Skipf("mount a small disk: %v", err)
	}
	defer unix.Unmount(small, 0)
	ballast := filepath.Join(small, "ballast")
	ended := make(chan struct{})
	go func() { // once there is a run
		defer close(ended)
		for t.Context().Err() == nil {
			if found, _ := filepath.Glob(small + "/data/blobs/??/*"); len(found) > 0 {
				break
			}
		}
		var stat unix.Statfs_t
		f, err := os.Create(ballast)
		if err == nil {
			err = unix.Statfs(small, &stat)
		}
		if err == nil {
			err = unix.Fallocate(int(f.Fd()), 0, 0, int64(stat.Bavail)*int64(stat.Bsize)-(24<<20))
		}
		if err != nil {
			t.Error(err)
		}
		f.Close()
	}()
	data := answers(t, 8)
	code, _, stderr := play(t, small+"/data", "--data", data, "--iterations", "500", "--log-level", "error")
	<-ended
	if code != 2 || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, small+"/data has ") || !strings.Contains(stderr, "MiB left: make room") {
		t.Fatalf("exit %d: %s", code, stderr)
	}
}
