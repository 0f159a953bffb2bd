//go:build cuda

package cuda

import (
	"fmt"

	"github.com/seed-8780d58e/spin/compute/cuda/driver"
)

// graph is what one key recorded.
type graph struct {
	exec  *driver.Graph
	plans []recordedPlan
}

// recordedPlan is a plan that recorded operations read, as they saw it.
type recordedPlan struct {
	p                  *plan
	tokens, pageTokens int
}

// Graph captures what body queues on the first call for a key and replays it afterwards; see
// compute.Backend. A replay reads plans and tensors as they are by then; it panics where a plan has
// another number of tokens than it had at the capture, since the launches are sized by it.
func (b *Backend) Graph(key uint64, body func()) {
	b.notRecording("Graph")
	if b.err != nil {
		return
	}
	g := b.graphs[key]
	if g == nil {
		g = &graph{}
		b.recording = g
		exec, err := b.capture(body)
		if err != nil {
			b.fail(fmt.Errorf("capture of graph %d: %w", key, err))
			return
		}
		g.exec = exec
		b.graphs[key] = g
	}
	for _, r := range g.plans {
		if r.p.tokens != r.tokens {
			panic(fmt.Sprintf("compute/cuda: graph %d was recorded for %d tokens, plan has %d", key, r.tokens, r.p.tokens))
		}
		r.p.holds("Graph", r.pageTokens)
	}
	b.fail(g.exec.Launch())
}

// capture also ends the recording where body panics.
func (b *Backend) capture(body func()) (*driver.Graph, error) {
	defer func() { b.recording = nil }()
	exec, err := b.stream.Capture(body)
	if err == nil && b.err != nil {
		err = b.err // a launch failed
	}
	return exec, err
}
