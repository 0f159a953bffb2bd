package train

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/seed-8780d58e/spin/pkg/blob"
	"github.com/seed-8780d58e/spin/pkg/pretrained"
	"github.com/seed-8780d58e/spin/pkg/run"
)

// TestSources: what a run was submitted with is fetched when it is led, leaves nothing behind, and stays
// in the store as long as the run does.
func TestSources(t *testing.T) {
	p := newPlane(t)
	blobs := p.trainer.blobs
	spec := tinySpec(t)
	spec.Data.SHA256 = strings.Repeat("0", 64) // known, as in every run that was submitted
	local := spec
	all := func(string) bool { return true }
	for _, path := range []*string{&spec.Model.Path, &spec.Data.Path} {
		digest, err := blobs.PutTree(t.Context(), *path, all)
		must(t, err)
		*path = blob.TreePath(digest, "a name")
	}
	if spec.Digest() != local.Digest() {
		t.Error("where a run's model lies changes what it computes")
	}
	id := p.submit(t, spec)
	l := &lead{Service: p.trainer, run: run.Run{ID: id, Spec: spec}}
	here, forget, err := l.fetchSources(t.Context())
	must(t, err)
	m, err := pretrained.Open(here.Model.Path)
	must(t, err)
	got, err := ReadPrompts(here, m)
	must(t, err)
	want, err := ReadPrompts(local, m)
	must(t, err)
	if got.Lengths() != want.Lengths() || len(got.heldout) != len(want.heldout) {
		t.Errorf("prompts by digest %+v, by path %+v", got.Lengths(), want.Lengths())
	}
	forget()
	must(t, m.Close())
	left, err := os.ReadDir(p.trainer.cfg.Scratch)
	if err != nil || len(left) > 0 {
		t.Errorf("left in the scratch folder: %v, %v", left, err)
	}

	orphan, err := blobs.Put(t.Context(), strings.NewReader("of a trainer that was killed"))
	must(t, err)
	before, err := blobs.List(t.Context())
	must(t, err)
	freed, err := SweepBlobs(t.Context(), p.conn, blobs)
	after, lookup := blobs.List(t.Context())
	before = slices.DeleteFunc(before, func(r blob.Ref) bool { return r == orphan })
	if err != nil || lookup != nil || freed != orphan.Size || !slices.Equal(after, before) {
		t.Errorf("swept %d bytes, %v; left %v, %v", freed, err, after, lookup)
	}
	_, revision := p.load(t, id)
	must(t, p.conn.Control().Delete(t.Context(), run.Key(id), revision))
	if _, err := SweepBlobs(t.Context(), p.conn, blobs); err != nil {
		t.Error(err)
	}
	if after, err := blobs.List(t.Context()); err != nil || len(after) > 0 {
		t.Errorf("without the run there are %v, %v", after, err)
	}
	l.run.Spec = spec
	if _, _, err := l.fetchSources(t.Context()); err == nil || !strings.Contains(err.Error(), "of the run: blob ") {
		t.Errorf("sources that are gone: %v", err)
	}
}
