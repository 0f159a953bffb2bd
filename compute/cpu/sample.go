package cpu

import (
	"math"
	"unsafe"

	"github.com/seed-8780d58e/spin/compute"
)

// sampleChunk is the ids whose largest logit and whose sum of exponentials are kept: sums over the
// vocabulary are chunk sums in F32, added up in float64 in id order.
const sampleChunk = 256

// sampleJob is cut into rows.
type sampleJob struct {
	k                                     *vectorKernels
	ids, logp, z                          view
	key, counter, temperature, topP, topK view
	memory                                []float32 // [threads, sampleFloats(V)]
}

// sampleRow is one row being drawn.
type sampleRow struct {
	k    *vectorKernels
	z, e []float32 // [V] logits, and exp((z − top)/temperature)
	tops []float32 // [chunks] largest logits
	sums []float32 // [chunks] Σ e
	// The candidates, and their copies that selection permutes: [V].
	id     []int32
	cz, ce []float32
}

func sampleFloats(vocab int) int { return 4*vocab + 2*parts(vocab, sampleChunk) }

func (b *Backend) sampleScratch(vocab int) int64 {
	return scratchBytes(b.pool.threads*sampleFloats(vocab), 4)
}

func (j *sampleJob) do(thread, r int) {
	v := j.z.cols
	chunks := parts(v, sampleChunk)
	memory := j.memory[thread*sampleFloats(v):]
	piece := func(n int) []float32 {
		p := memory[:n:n]
		memory = memory[n:]
		return p
	}
	s := sampleRow{k: j.k, z: j.z.floats(r), e: piece(v), tops: piece(chunks), sums: piece(chunks), cz: piece(v), ce: piece(v)}
	s.id = unsafe.Slice((*int32)(unsafe.Pointer(&memory[0])), v)

	id, logp := -1, math.NaN()
	if top := s.largest(); top-top == 0 { // neither NaN nor infinite
		lse := float64(top) + math.Log(s.exponentials(top, 1))
		switch t := j.temperature.float(r); {
		case t == 0:
			id = s.first(top)
		case t > 0:
			if t != 1 {
				s.exponentials(top, t)
			}
			id = s.draw(top, t, j.topK.int(r), j.topP.float(r), j.uniform(r))
		}
		if id >= 0 {
			logp = float64(s.z[id]) - lse
		}
	}
	*(*int32)(j.ids.row(r)) = int32(id)
	j.logp.set(r, float32(logp))
}

func (j *sampleJob) uniform(r int) float64 {
	c := (*[4]uint32)(j.counter.row(r))
	return compute.Uniform(*c, *(*[2]uint32)(j.key.row(r)))
}

// largest is the largest logit, or NaN where there is one.
func (s *sampleRow) largest() float32 {
	for c := range s.tops {
		from, to := part(c, sampleChunk, len(s.z))
		s.tops[c] = s.k.maximum(to-from, unsafe.Pointer(&s.z[from]))
	}
	return s.k.maximum(len(s.tops), unsafe.Pointer(&s.tops[0]))
}

// exponentials fills e and sums, and returns Σ e.
func (s *sampleRow) exponentials(top, temperature float32) float64 {
	var total float64
	for c := range s.sums {
		from, to := part(c, sampleChunk, len(s.z))
		s.sums[c] = s.k.expSum(to-from, unsafe.Pointer(&s.e[from]), unsafe.Pointer(&s.z[from]), top, temperature)
		total += float64(s.sums[c])
	}
	return total
}

// first is the lowest id whose logit is top.
func (s *sampleRow) first(top float32) int {
	for c, t := range s.tops {
		if t != top {
			continue
		}
		for i := c * sampleChunk; ; i++ {
			if s.z[i] == top {
				return i
			}
		}
	}
	panic("unreachable: top is some chunk's")
}

// draw takes the first id at which the cumulative share of the kept ids exceeds u.
func (s *sampleRow) draw(top, temperature float32, topK int, topP float32, u float64) int {
	least := float32(math.Inf(-1))
	if topK > 0 && topK < len(s.z) {
		least = s.kthLargest(topK)
	}
	if topP < 1 {
		least = s.nucleus(top, temperature, least, float64(topP))
	}
	if math.IsInf(float64(least), -1) {
		return s.drawAll(u)
	}
	n, total := s.candidates(least)
	target, sum := u*total, 0.0
	for i, id := range s.id[:n] {
		if sum += float64(s.ce[i]); sum > target {
			return int(id)
		}
	}
	return s.lastOf(s.id[:n])
}

// drawAll draws where nothing is cut: it looks only into the chunk that holds the draw.
func (s *sampleRow) drawAll(u float64) int {
	var total, sum float64
	for _, x := range s.sums {
		total += float64(x)
	}
	target, last := u*total, 0
	for c, x := range s.sums {
		if x == 0 {
			continue
		}
		last = c
		if sum+float64(x) > target {
			break
		}
		sum += float64(x)
	}
	// The elements of a chunk may add up to a little less than its sum: then the last one is it.
	id := 0
	from, to := part(last, sampleChunk, len(s.z))
	for i := from; i < to; i++ {
		if s.e[i] == 0 {
			continue
		}
		id = i
		if sum += float64(s.e[i]); sum > target {
			break
		}
	}
	return id
}

// lastOf is the last id with a probability above 0.
func (s *sampleRow) lastOf(ids []int32) int {
	for i := len(ids) - 1; i > 0; i-- {
		if s.e[ids[i]] > 0 {
			return int(ids[i])
		}
	}
	return int(ids[0])
}

// candidates lists the ids whose logit is at least least, in id order, with their logits and
// exponentials beside them, and returns their number and the sum of their exponentials.
func (s *sampleRow) candidates(least float32) (n int, total float64) {
	whole := len(s.z) &^ 7
	n = s.k.above(whole, unsafe.Pointer(&s.z[0]), least, 0, unsafe.Pointer(&s.id[0]))
	for i := whole; i < len(s.z); i++ {
		if s.z[i] >= least {
			s.id[n] = int32(i)
			n++
		}
	}
	for i, id := range s.id[:n] {
		s.cz[i], s.ce[i] = s.z[id], s.e[id]
		total += float64(s.ce[i])
	}
	return n, total
}

// kthLargest is the k-th largest logit, counting ties, for k < V. The k-th largest of the chunks'
// largest is a bound below it.
func (s *sampleRow) kthLargest(k int) float32 {
	bound := float32(math.Inf(-1))
	if k <= len(s.tops) {
		bound = nth(s.cz[:copy(s.cz, s.tops)], nil, float64(k))
	}
	n, _ := s.candidates(bound)
	return nth(s.cz[:n], nil, float64(k))
}

// fewIDs are so few candidates that selection among them costs little.
const fewIDs = 2048

// nucleus is the largest logit x such that the ids of logits ≥ x hold the share topP of the
// probability of those ≥ least.
func (s *sampleRow) nucleus(top, temperature, least float32, topP float64) float32 {
	// Nearly always few ids are left, or those within a factor e¹⁰ of the first are few and enough.
	near := max(least, top-10*temperature)
	n, sum := s.candidates(near)
	total := sum
	if near > least {
		total = s.mass(least)
	}
	if n <= fewIDs && sum >= topP*total {
		return nth(s.cz[:n], s.ce[:n], topP*total)
	}
	// Else the interval that x lies in is halved until it holds little.
	low := max(least, top-90*temperature, -math.MaxFloat32) // below, exponentials are 0
	high := math.Nextafter32(top, float32(math.Inf(1)))
	fromLow, fromHigh := s.mass(low), 0.0
	target := topP * fromLow // fromLow ≥ target > fromHigh
	for i := 0; i < 24 && fromLow-fromHigh > total/64; i++ {
		mid := low/2 + high/2
		if mid <= low || mid >= high {
			break
		}
		if m := s.mass(mid); m >= target {
			low, fromLow = mid, m
		} else {
			high, fromHigh = mid, m
		}
	}
	n, _ = s.candidates(low)
	m := 0
	for i := range n {
		if s.cz[i] < high {
			s.cz[m], s.ce[m] = s.cz[i], s.ce[i]
			m++
		}
	}
	return nth(s.cz[:m], s.ce[:m], target-fromHigh)
}

// mass is Σ e over the logits ≥ cut.
func (s *sampleRow) mass(cut float32) (sum float64) {
	for c, top := range s.tops {
		if top >= cut {
			from, to := part(c, sampleChunk, len(s.z))
			sum += float64(s.k.sumAbove(to-from, unsafe.Pointer(&s.e[from]), unsafe.Pointer(&s.z[from]), cut))
		}
	}
	return sum
}

// nth is the largest z such that the elements ≥ z weigh target or more: w of each, or 1 where w is
// nil. Elements that all together weigh less give the smallest. It permutes z and w.
func nth(z, w []float32, target float64) float32 {
	for {
		if len(z) == 1 {
			return z[0]
		}
		first, mid, last := z[0], z[len(z)/2], z[len(z)-1]
		pivot := max(min(first, mid), min(max(first, mid), last))
		// z[:a] > pivot, z[a:i] = pivot, z[b:] < pivot
		var above, equal float64
		a, b := 0, len(z)
		for i := 0; i < b; {
			x, weight := z[i], 1.0
			if w != nil {
				weight = float64(w[i])
			}
			switch {
			case x > pivot:
				swap(z, w, i, a)
				above += weight
				a++
				i++
			case x == pivot:
				equal += weight
				i++
			default:
				b--
				swap(z, w, i, b)
			}
		}
		switch {
		case above >= target && a > 0:
			b, a = a, 0
		case above+equal >= target || b == len(z):
			return pivot
		default:
			target -= above + equal
			a, b = b, len(z)
		}
		z = z[a:b]
		if w != nil {
			w = w[a:b]
		}
	}
}

func swap(z, w []float32, i, j int) {
	z[i], z[j] = z[j], z[i]
	if w != nil {
		w[i], w[j] = w[j], w[i]
	}
}

// Sample draws a token id a row; see compute.Backend and compute.Sampling.
func (b *Backend) Sample(ids, logp, logits compute.Tensor, s *compute.Sampling) {
	compute.CheckSample(ids, logp, logits, s)
	b.scratch.reset()
	j := &b.vector.sample
	*j = sampleJob{
		k: &b.k.vector, ids: b.view(ids), logp: b.view(logp), z: b.view(logits),
		key: b.view(s.Key), counter: b.view(s.Counter), temperature: b.view(s.Temperature), topP: b.view(s.TopP), topK: b.view(s.TopK),
		memory: take[float32](&b.scratch, b.pool.threads*sampleFloats(logits.Cols)),
	}
	b.pool.run(logits.Rows, j)
}
