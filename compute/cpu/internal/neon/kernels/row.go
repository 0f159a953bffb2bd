package kernels

import (
	"fmt"
	"strings"

	"github.com/seed-8780d58e/spin/compute/cpu/internal/neon"
)

// dtype of a pointer argument. act stands for the kernel's activation dtype.
type dtype int

const (
	f32 dtype = iota
	bf16
	act
)

func (d dtype) String() string { return [...]string{"F32", "BF16"}[d] }
func (d dtype) size() int      { return [...]int{4, 2}[d] }

// role of an argument of a row kernel.
type role int

const (
	in     role = iota // pointer, loaded
	out                // pointer, stored
	inout              // pointer, loaded and stored
	scalar             // a float32, in every lane
)

type argument struct {
	name string
	role role
	dt   dtype
}

// rowKernel is a loop over the elements of one row (or of rows, each pointer with its own stride), eight
// at a time.
//
// Loaded arguments come to body in the pairs V0, V2, V4, V6 in their order, scalars in V20 and V21; V6
// to V13 are free where nothing was loaded to them, V14 and V15 hold the mask of the lanes that are
// there (in a tail only; the others load as 0), and V16 to V19 the constants of exp. Stored arguments
// are left in the pairs that stores names. With sums, the row's sum is returned: body adds to the pair
// it is given. Step v of a row goes to accumulator v mod 4 and the tail to the last one, so that the
// order of the sum depends on the row's length alone.
type rowKernel struct {
	name   string
	args   []argument
	body   func(f *neon.Func, acc pair, tail bool)
	stores map[string]pair
	sums   bool
	exp    bool // the body uses exp
	rows   bool // 2-D: rows first, a byte stride after each pointer
	doc    string
}

// Registers of row kernels: the elements left, the pointers, then what a tail needs. In 2-D kernels
// the pointers' rows and strides lie behind.
const (
	rkLeft r = 0
	rkPtr  r = 1 // to 6
	rkBuf  r = 7
	rkFrom r = 8
	rkTo   r = 9
	rkN    r = 10
	rkBits r = 11
	rkRow  r = 12
	rkStep r = 19
	rkRows r = 15
)

const rkMask v = 14

// takesAct reports whether the kernel depends on the activation dtype.
func (k rowKernel) takesAct() bool {
	for _, a := range k.args {
		if a.dt == act {
			return true
		}
	}
	return false
}

// slot is an argument with its registers.
type slot struct {
	argument
	ptr   r
	load  *pair
	store *pair
}

// program is the kernel for one activation dtype.
func (k rowKernel) program(dt dtype) *neon.Func {
	name := symbol(k.name)
	if k.takesAct() {
		name += dt.String()
	}
	params, result := "n int", ""
	if k.rows {
		params = "rows, n int"
	}
	if k.sums {
		result = "float32"
	}
	var slots []slot
	loads := v(0)
	for _, a := range k.args {
		if a.dt == act {
			a.dt = dt
		}
		s := slot{argument: a}
		if a.role == scalar {
			params += ", " + a.name + " float32"
			slots = append(slots, s)
			continue
		}
		params += ", " + a.name + " unsafe.Pointer"
		if k.rows {
			params += ", " + a.name + "Stride int"
		}
		s.ptr = rkPtr + r(len(slots))
		if a.role != out {
			p := pairAt(loads)
			s.load, loads = &p, loads+2
		}
		if p, ok := k.stores[a.name]; ok {
			s.store = &p
		}
		slots = append(slots, s)
	}
	f := neon.New(name, params, result, fmt.Sprintf("%s %s", name, k.doc))
	f.Frame = 32
	scalars := v(20)
	for i, s := range slots {
		switch {
		case s.role == scalar:
			f.Scalar(s.name, scalars)
			scalars++
		case k.rows:
			f.Arg(s.name, rkRow+r(i))
			f.Arg(s.name+"Stride", rkStep+r(i))
		default:
			f.Arg(s.name, s.ptr)
		}
	}
	if k.exp {
		loadConstants(f, rkFrom)
	}
	if k.sums {
		for i := range v(8) {
			f.Zero(24 + i)
		}
	}
	if k.rows {
		f.Arg("rows", rkRows)
		f.Label("row")
		for i, s := range slots {
			f.Go("MOVD %v, %v", rkRow+r(i), s.ptr)
		}
	}
	f.Arg("n", rkLeft)
	k.loop(f, slots)
	k.tail(f, slots)
	f.Label("done")
	if k.rows {
		for i := range slots {
			f.Go("ADD %v, %v", rkStep+r(i), rkRow+r(i))
		}
		f.Go("SUB $1, %v\nCBNZ %v, row", rkRows, rkRows)
	}
	if k.sums {
		three(f, "fadd", pairAt(24), pairAt(24), pairAt(26))
		three(f, "fadd", pairAt(28), pairAt(28), pairAt(30))
		three(f, "fadd", pairAt(24), pairAt(24), pairAt(28))
		sumPair(f, pairAt(24))
		f.Go("FMOVS %s, %s", v(24).F(), f.Param("ret"))
	}
	return f
}

// symbol is a kernel's name in the package: its instruction set comes first.
func symbol(name string) string { return "neon" + strings.ToUpper(name[:1]) + name[1:] }

// sumPair folds eight lanes into the first by a tree: halves, then neighbours, then pairs.
func sumPair(f *neon.Func, p pair) {
	f.Three("fadd", p[0], p[0], p[1])
	f.Three("faddp", p[0], p[0], p[0])
	f.Three("faddp", p[0], p[0], p[0])
}

// loop does what whole steps there are.
func (k rowKernel) loop(f *neon.Func, slots []slot) {
	if !k.sums {
		f.Label("loop")
		f.Go("CMP $8, %v\nBLT tail", rkLeft)
		k.step(f, slots, pair{})
		f.Go("SUB $8, %v\nB loop", rkLeft)
		return
	}
	f.Label("quad")
	f.Go("CMP $32, %v\nBLT single", rkLeft)
	for a := v(24); a < 32; a += 2 {
		k.step(f, slots, pairAt(a))
	}
	f.Go("SUB $32, %v\nB quad", rkLeft)
	f.Label("single")
	for a := v(24); a < 30; a += 2 {
		f.Go("CMP $8, %v\nBLT tail", rkLeft)
		k.step(f, slots, pairAt(a))
		f.Go("SUB $8, %v", rkLeft)
	}
}

// step does eight elements and moves the pointers on.
func (k rowKernel) step(f *neon.Func, slots []slot, acc pair) {
	for _, s := range slots {
		if s.load != nil {
			load(f, s, s.ptr, s.role == in)
		}
	}
	k.body(f, acc, false)
	for _, s := range slots {
		if s.store != nil {
			store(f, s, s.ptr, true)
		}
	}
}

func load(f *neon.Func, s slot, base r, next bool) {
	p := *s.load
	switch {
	case s.dt == bf16 && next:
		f.LoadNext(16, p[1], base)
	case s.dt == bf16:
		f.Load(16, p[1], base, 0)
	case next:
		f.LoadPairNext(p[0], p[1], base)
	default:
		f.LoadPair(p[0], p[1], base, 0)
	}
	if s.dt == bf16 {
		f.Widen(p[0], p[1], p[1])
	}
}

// store writes an argument's pair, which it may destroy, with V8 to V10.
func store(f *neon.Func, s slot, base r, next bool) {
	p := *s.store
	switch {
	case s.dt == bf16:
		roundBF16(f, p, pairAt(8), 10)
		if next {
			f.StoreNext(16, 8, base)
		} else {
			f.Store(16, 8, base, 0)
		}
	case next:
		f.StorePairNext(p[0], p[1], base)
	default:
		storePair(f, p, base, 0)
	}
}

// tail does the last elements, fewer than eight, by way of a buffer of eight on the stack: so nothing
// beside the row is touched, and each element has the same arithmetic as in a whole step.
func (k rowKernel) tail(f *neon.Func, slots []slot) {
	f.Label("tail")
	f.Go("CBZ %v, done\nMOVD $buffer-32(SP), %v", rkLeft, rkBuf)
	for _, s := range slots {
		if s.load != nil {
			f.Zero(rkMask)
			loadTail(f, s, rkMask)
		}
	}
	tailMask(f, pairAt(rkMask), rkLeft, rkFrom, 8)
	k.body(f, pairAt(30), true)
	for i, s := range slots {
		if s.store == nil {
			continue
		}
		store(f, s, rkBuf, false)
		f.Go("MOVD %v, %v\nMOVD %v, %v", rkBuf, rkFrom, s.ptr, rkTo)
		copyTail(f, fmt.Sprintf("store%d", i), s.dt)
	}
}

// loadTail loads rkLeft elements at s.ptr, and fill for those that are not there.
func loadTail(f *neon.Func, s slot, fill v) {
	storePair(f, pair{fill, fill}, rkBuf, 0)
	f.Go("MOVD %v, %v\nMOVD %v, %v", s.ptr, rkFrom, rkBuf, rkTo)
	copyTail(f, "load"+s.name, s.dt)
	load(f, s, rkBuf, false)
}

// copyTail copies rkLeft elements from rkFrom to rkTo.
func copyTail(f *neon.Func, name string, dt dtype) {
	move, size := "MOVWU", dt.size()
	if dt == bf16 {
		move = "MOVHU"
	}
	f.Go("MOVD %v, %v", rkLeft, rkN)
	f.Loop(name, rkN, func() {
		f.Go("%s.P %d(%v), %v\n%s.P %v, %d(%v)", move, size, rkFrom, rkBits, strings.TrimSuffix(move, "U"), rkBits, size, rkTo)
	})
}

// tailMask sets the lanes of m that are below n. It uses t and scratch.
func tailMask(f *neon.Func, m pair, n, t r, scratch v) {
	f.Go("MOVD $neonLanes<>(SB), %v", t)
	loadPair(f, m, t, 0)
	f.DupR(scratch, n)
	three(f, "cmgt", m, both(scratch), m)
}
