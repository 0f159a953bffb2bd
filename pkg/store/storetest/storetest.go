// Package storetest gives tests a real, empty ClickHouse: the embedded engine on
// a folder of the test's own.
package storetest

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/seed-8780d58e/spin/pkg/store"
	"github.com/seed-8780d58e/spin/pkg/store/embedded"
)

// Library is the engine's path in the project's cache folder ($SPIN_CACHE, else
// the user's cache folder + /spin). Where it isn't there the test is skipped, or
// fails if $SPIN_CHDB_REQUIRED is set.
func Library(t testing.TB) string {
	t.Helper()
	cache := os.Getenv("SPIN_CACHE")
	if cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(dir, "spin")
	}
	lib := embedded.LibraryPath(cache)
	if _, err := os.Stat(lib); err != nil {
		if os.Getenv("SPIN_CHDB_REQUIRED") != "" {
			t.Fatalf("SPIN_CHDB_REQUIRED is set: %v", err)
		}
		t.Skipf("no ClickHouse engine in the cache folder: %v", err)
	}
	return lib
}

// Serve runs an engine on dir until the test ends or stop is called. There is
// one engine in a process: tests that use it don't call t.Parallel.
func Serve(t testing.TB, dir string) (srv *embedded.Server, stop func()) {
	t.Helper()
	srv, err := embedded.Open(embedded.Config{Library: Library(t), Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(stop)
	return srv, stop
}

// Open is a migrated store on an engine of the test's own.
func Open(t testing.TB) *store.Store {
	t.Helper()
	srv, _ := Serve(t, t.TempDir())
	s, err := store.Open(t.Context(), store.Options{URL: srv.URL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}
