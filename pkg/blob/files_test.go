package blob_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/seed-8780d58e/spin/pkg/blob"
	"github.com/seed-8780d58e/spin/pkg/blob/blobtest"
)

func TestFiles(t *testing.T) {
	blobtest.Run(t, func(t *testing.T) (blob.Driver, func(*testing.T, string, []byte)) {
		dir := t.TempDir()
		d, err := blob.NewFiles(dir)
		if err != nil {
			t.Fatal(err)
		}
		return d, func(t *testing.T, digest string, data []byte) {
			path := filepath.Join(dir, digest[:2], digest)
			if err := os.Chmod(path, 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, data, 0o444); err != nil {
				t.Fatal(err)
			}
		}
	})
}
