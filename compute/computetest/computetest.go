// Package computetest holds the suite that every backend passes: each operation of the compute
// contract against compute/ref on tables of awkward shapes, and the contract's fixed order, bit by
// bit.
//
// A backend's own test is one call:
//
//	func TestRunAll(t *testing.T) {
//		computetest.RunAll(t, func(threads int) compute.Device { return cpu.New(threads) }, computetest.Options{})
//	}
//
// Subtests are named operation/dtype, so go test -run RunAll/LinearDW/bf16 runs one of them.
//
// How one operation is tested: a call hands it tensors that are random views (odd offsets, strides
// wider than the columns) with guard cells around them, and collects its results. The call is made
// on the oracle, on the device with one thread, on the device with several, and on selections of the
// rows; see lab.check. Afterwards every guard cell and every input must have kept its bits.
package computetest

import (
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/seed-8780d58e/spin/compute"
	"github.com/seed-8780d58e/spin/compute/ref"
)

// Options say how a backend is tested. The zero value is the common case.
type Options struct {
	// DTypes are the act dtypes to test; nil: F32 and BF16.
	DTypes []compute.DType
	// RoundedOperands widens the tolerance of attention and of the head's backward operation for a
	// device whose matrix units take the intermediate (probabilities, dS, dlogits) in the act dtype.
	RoundedOperands bool
	// Seed of the random shapes and values; Rounds multiplies the number of random cases (0: 1).
	Seed   uint64
	Rounds int
	// MaxWork leaves out cases of more multiply-adds than this, for a device that is emulated; 0: none.
	MaxWork int
	// Only are the subtests to run, for a backend that is being built; nil: all.
	Only []string
}

// manyThreads does not divide the sizes in the tables.
const manyThreads = 3

// limits hold for every case of the suite. roomy is for the device with several threads: what was
// reserved must not decide bits either.
func limits() compute.Limits {
	return compute.Limits{
		Tokens: 512, Width: 2048, Vocab: 33000, HeadRows: 512, Segments: 64, Context: 512,
		Heads: compute.Heads{Q: 16, KV: 16, Dim: 128}, Train: true,
	}
}

func roomy() compute.Limits {
	l := limits()
	l.Tokens, l.Width, l.HeadRows, l.Segments, l.Context = 700, 3000, 600, 100, 2000
	return l
}

// RunAll tests the devices that newDevice makes. threads is 1 or more; a device without threads
// ignores it.
func RunAll(t *testing.T, newDevice func(threads int) compute.Device, o Options) {
	if o.DTypes == nil {
		o.DTypes = []compute.DType{compute.F32, compute.BF16}
	}
	o.Rounds = max(o.Rounds, 1)
	one, many, oracle := newRig(t, newDevice(1), limits()), newRig(t, newDevice(manyThreads), roomy()), newRig(t, ref.New(), limits())
	oracle.oracle = true
	for _, op := range operations {
		if o.Only != nil && !slices.Contains(o.Only, op.name) {
			continue
		}
		t.Run(op.name, func(t *testing.T) {
			for _, dt := range o.DTypes {
				t.Run(dt.String(), func(t *testing.T) {
					h := fnv.New64a()
					h.Write([]byte(op.name + dt.String()))
					op.test(&lab{T: t, dt: dt, o: o, rand: rand.New(rand.NewPCG(o.Seed, h.Sum64())),
						one: one, many: many, ref: oracle})
				})
			}
		})
	}
}

var operations = []struct {
	name string
	test func(*lab)
}{
	{"Device", testDevice},
	{"Arena", testArena},
	{"Reserve", testReserve},
	{"Transfer", testTransfer},
	{"Graph", testGraph},
	{"Misfit", testMisfit},
	{"Store", testStore},
	{"Linear", testLinear},
	{"LinearDX", testLinearDX},
	{"LinearDW", testLinearDW},
	{"MatMul", testMatMul},
	{"Copy", testCopy},
	{"Gather", testGather},
	{"Zero", testZero},
	{"Embed", testEmbed},
	{"EmbedBackward", testEmbedBackward},
	{"AddBias", testAddBias},
	{"ColumnSum", testColumnSum},
	{"AddRMSNorm", testAddRMSNorm},
	{"AddRMSNormBackward", testAddRMSNormBackward},
	{"RoPE", testRoPE},
	{"SwiGLU", testSwiGLU},
	{"SwiGLUBackward", testSwiGLUBackward},
	{"Attention", testAttention},
	{"AttentionBackward", testAttentionBackward},
	{"WriteKV", testWriteKV},
	{"AttentionPaged", testAttentionPaged},
	{"CopyPages", testCopyPages},
	{"HeadLogProb", testHeadLogProb},
	{"HeadLogProbBackward", testHeadLogProbBackward},
	{"Sample", testSample},
	{"SumSquares", testSumSquares},
	{"ClipFactor", testClipFactor},
	{"Optimize", testOptimize},
}

// lab is where one operation is tested in one dtype.
type lab struct {
	*testing.T
	dt   compute.DType
	o    Options
	rand *rand.Rand
	one  *rig // the device with one thread
	many *rig // and with several
	ref  *rig
}

// on is l for a subtest.
func (l *lab) on(t *testing.T) *lab {
	sub := *l
	sub.T = t
	return &sub
}

// within leaves out the cases whose work, in multiply-adds, is above Options.MaxWork.
func within[T any](l *lab, cases []T, work func(T) int) []T {
	if l.o.MaxWork == 0 {
		return cases
	}
	return slices.DeleteFunc(cases, func(c T) bool { return work(c) > l.o.MaxWork })
}

// upTo is a random number in [1, n].
func (l *lab) upTo(n int) int { return 1 + l.rand.IntN(n) }

// actOrF32 is one of the dtypes that many operations allow.
func (l *lab) actOrF32() compute.DType {
	if l.rand.IntN(2) == 0 {
		return l.dt
	}
	return compute.F32
}

func (l *lab) coin() bool { return l.rand.IntN(2) == 0 }
