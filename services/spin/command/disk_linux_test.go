package command_test

import (
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
