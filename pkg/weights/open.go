package weights

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/seed-8780d58e/spin/pkg/blob"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/pretrained"
)

// Open opens a published checkpoint: its blobs, checked, as the directory that they were. The
// directory is made below scratch, on the store's file system if it can be, and is gone when Open
// returns; the open files stay until the model is closed.
func Open(ctx context.Context, blobs *blob.Store, scratch string, m *event.Checkpoint) (*pretrained.Pretrained, error) {
	dir, err := os.MkdirTemp(scratch, "checkpoint-*")
	if err != nil {
		return nil, fmt.Errorf("open checkpoint %.12s: %w", m.GetWeightsSha256(), err)
	}
	defer os.RemoveAll(dir)
	for _, f := range m.GetFiles() { // names were checked to be base names
		if err := blobs.Fetch(ctx, f.GetSha256(), filepath.Join(dir, f.GetName())); err != nil {
			return nil, fmt.Errorf("open checkpoint %.12s: %s: %w", m.GetWeightsSha256(), f.GetName(), err)
		}
	}
	return pretrained.Open(dir)
}
