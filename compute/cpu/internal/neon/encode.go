package neon

import "fmt"

// word appends an encoded instruction.
func (f *Func) word(w uint32, text string, args ...any) {
	f.Code = append(f.Code, Instr{w, fmt.Sprintf(text, args...)})
}

// op is an instruction's encoding with all registers 0, and its arrangements: of the destination, and
// of the sources where they differ.
type op struct {
	word     uint32
	dst, src string
}

// three are the instructions of a destination and two sources.
var three = map[string]op{
	"fadd":  {0x4e20d400, "4s", "4s"},
	"fsub":  {0x4ea0d400, "4s", "4s"},
	"fmul":  {0x6e20dc00, "4s", "4s"},
	"fdiv":  {0x6e20fc00, "4s", "4s"},
	"fmla":  {0x4e20cc00, "4s", "4s"},
	"fmls":  {0x4ea0cc00, "4s", "4s"},
	"fmax":  {0x4e20f400, "4s", "4s"},
	"faddp": {0x6e20d400, "4s", "4s"},
	"fcmeq": {0x4e20e400, "4s", "4s"},
	"fcmge": {0x6e20e400, "4s", "4s"},
	"fcmgt": {0x6ea0e400, "4s", "4s"},
	"add":   {0x4ea08400, "4s", "4s"},
	"cmgt":  {0x4ea03400, "4s", "4s"}, // signed
	"and":   {0x4e201c00, "16b", "16b"},
	"bic":   {0x4e601c00, "16b", "16b"},
	"orr":   {0x4ea01c00, "16b", "16b"},
	"bit":   {0x6ea01c00, "16b", "16b"}, // the first source where the second has ones
	"bif":   {0x6ee01c00, "16b", "16b"}, // where it has zeros
	"trn1s": {0x4e802800, "4s", "4s"},
	"trn2s": {0x4e806800, "4s", "4s"},
	"trn1d": {0x4ec02800, "2d", "2d"},
	"trn2d": {0x4ec06800, "2d", "2d"},
	"zip1":  {0x4e403800, "8h", "8h"},
	"zip2":  {0x4e407800, "8h", "8h"},
	"uzp1":  {0x4e401800, "8h", "8h"},
	"uzp2":  {0x4e405800, "8h", "8h"},
}

// two are the instructions of a destination and one source.
var two = map[string]op{
	"frintn": {0x4e218800, "4s", "4s"}, // round to nearest even
	"fcvtns": {0x4e21a800, "4s", "4s"}, // and to an integer
	"fsqrt":  {0x6ea1f800, "4s", "4s"},
	"fneg":   {0x6ea0f800, "4s", "4s"},
	"xtn":    {0x0e212800, "8b", "8h"},
}

// scalars are three-register instructions on one F32.
var scalars = map[string]uint32{
	"fadd": 0x1e202800,
	"fsub": 0x1e203800,
	"fmax": 0x1e204800,
}

// Three appends op d, n, m. Permutations of 32 and of 64 bits end in s and d: trn1s.
func (f *Func) Three(name string, d, n, m V) {
	o, ok := three[name]
	if !ok {
		panic("neon: three: " + name)
	}
	if l := len(name) - 1; name[:3] == "trn" {
		name = name[:l]
	}
	f.word(o.word|uint32(m)<<16|uint32(n)<<5|uint32(d), "%s %v.%s, %v.%s, %v.%s", name, d, o.dst, n, o.src, m, o.src)
}

// Two appends op d, n.
func (f *Func) Two(name string, d, n V) {
	o, ok := two[name]
	if !ok {
		panic("neon: two: " + name)
	}
	f.word(o.word|uint32(n)<<5|uint32(d), "%s %v.%s, %v.%s", name, d, o.dst, n, o.src)
}

// One appends op d, n, m on the first F32 of each.
func (f *Func) One(name string, d, n, m V) {
	w, ok := scalars[name]
	if !ok {
		panic("neon: one: " + name)
	}
	f.word(w|uint32(m)<<16|uint32(n)<<5|uint32(d), "%s s%d, s%d, s%d", name, d, n, m)
}

// MAdd appends d = a + n·m, rounded once, on the first F32 of each.
func (f *Func) MAdd(d, n, m, a V) {
	f.word(0x1f000000|uint32(m)<<16|uint32(a)<<10|uint32(n)<<5|uint32(d), "fmadd s%d, s%d, s%d, s%d", d, n, m, a)
}

// byLane are the instructions that take one lane of their second source.
var byLane = map[string]uint32{"fmla": 0x4f801000, "fmls": 0x4f805000, "fmul": 0x4f809000}

// Lane appends op d, n, m[lane].
func (f *Func) Lane(name string, d, n, m V, lane int) {
	w, ok := byLane[name]
	if !ok || lane < 0 || lane > 3 {
		panic(fmt.Sprint("neon: by lane: ", name, lane))
	}
	f.word(w|uint32(lane&1)<<21|uint32(m)<<16|uint32(lane>>1)<<11|uint32(n)<<5|uint32(d), "%s %v.4s, %v.4s, %v.s[%d]", name, d, n, m, lane)
}

// Mov copies a register.
func (f *Func) Mov(d, n V) {
	f.word(three["orr"].word|uint32(n)<<16|uint32(n)<<5|uint32(d), "mov %v.16b, %v.16b", d, n)
}

// Dup copies one F32 of n to every lane of d.
func (f *Func) Dup(d, n V, lane int) {
	f.word(0x4e040400|uint32(lane)<<19|uint32(n)<<5|uint32(d), "dup %v.4s, %v.s[%d]", d, n, lane)
}

// DupR copies the low half of a general register to every lane of d.
func (f *Func) DupR(d V, r R) { f.word(0x4e040c00|uint32(r)<<5|uint32(d), "dup %v.4s, w%d", d, r) }

// MovR copies the low 64 bits of n.
func (f *Func) MovR(r R, n V) { f.word(0x9e660000|uint32(n)<<5|uint32(r), "fmov %s, d%d", r.x(), n) }

// MaxAcross sets d[0] to the largest lane of n, or NaN where there is one.
func (f *Func) MaxAcross(d, n V) {
	f.word(0x6e30f800|uint32(n)<<5|uint32(d), "fmaxv s%d, %v.4s", d, n)
}

// Shift appends shl, ushr, or usra (shift right and add to d) by bits of each dword.
func (f *Func) Shift(name string, d, n V, by int) {
	w := map[string]uint32{
		"shl":  0x4f005400 | uint32(32+by)<<16,
		"ushr": 0x6f000400 | uint32(64-by)<<16,
		"usra": 0x6f001400 | uint32(64-by)<<16,
	}[name]
	if w == 0 {
		panic("neon: shift: " + name)
	}
	f.word(w|uint32(n)<<5|uint32(d), "%s %v.4s, %v.4s, #%d", name, d, n, by)
}

// Widen makes F32 of BF16: lo of n's lower four, hi of its upper four. hi may be n.
func (f *Func) Widen(lo, hi, n V) {
	f.word(0x2e613800|uint32(n)<<5|uint32(lo), "shll %v.4s, %v.4h, #16", lo, n)
	f.word(0x6e613800|uint32(n)<<5|uint32(hi), "shll2 %v.4s, %v.8h, #16", hi, n)
}

// immediate places eight bits in a modified-immediate instruction.
func immediate(v uint32) uint32 { return v>>5<<16 | v&31<<5 }

// Zero clears d.
func (f *Func) Zero(d V) { f.word(0x4f000400|uint32(d), "movi %v.4s, #0x0", d) }

// LowOnes sets each dword of d to imm·2⁸ + 0xff.
func (f *Func) LowOnes(d V, imm uint32) {
	f.word(0x4f00c400|immediate(imm)|uint32(d), "movi %v.4s, #%#x, msl #8", d, imm)
}

// HighOnes sets each dword of d to the complement of imm·2⁸ + 0xff.
func (f *Func) HighOnes(d V, imm uint32) {
	f.word(0x6f00c400|immediate(imm)|uint32(d), "mvni %v.4s, #%#x, msl #8", d, imm)
}

// OrHigh sets bits imm·2¹⁶ of each dword of d.
func (f *Func) OrHigh(d V, imm uint32) {
	f.word(0x4f005400|immediate(imm)|uint32(d), "orr %v.4s, #%#x, lsl #16", d, imm)
}

// at is an address in Arm's syntax.
func at(base R, off int) string {
	if off == 0 {
		return "[" + base.x() + "]"
	}
	return fmt.Sprintf("[%s, #%d]", base.x(), off)
}

// Load reads size bytes (16, 8 or 4) at base + off; what lies above in the register becomes 0.
func (f *Func) Load(size int, v V, base R, off int) {
	w := map[int]uint32{16: 0x3dc00000, 8: 0xfd400000, 4: 0xbd400000}[size]
	f.word(w|uint32(off/size)<<10|uint32(base)<<5|uint32(v), "ldr %s, %s", sized(size, v), at(base, off))
}

// Store writes size bytes.
func (f *Func) Store(size int, v V, base R, off int) {
	w := map[int]uint32{16: 0x3d800000, 8: 0xfd000000, 4: 0xbd000000}[size]
	f.word(w|uint32(off/size)<<10|uint32(base)<<5|uint32(v), "str %s, %s", sized(size, v), at(base, off))
}

// LoadNext reads size bytes at base and adds size to base.
func (f *Func) LoadNext(size int, v V, base R) {
	w := map[int]uint32{16: 0x3cc00400, 8: 0xfc400400, 4: 0xbc400400}[size]
	f.word(w|uint32(size)<<12|uint32(base)<<5|uint32(v), "ldr %s, [%s], #%d", sized(size, v), base.x(), size)
}

// StoreNext writes size bytes at base and adds size to base.
func (f *Func) StoreNext(size int, v V, base R) {
	w := map[int]uint32{16: 0x3c800400, 8: 0xfc000400, 4: 0xbc000400}[size]
	f.word(w|uint32(size)<<12|uint32(base)<<5|uint32(v), "str %s, [%s], #%d", sized(size, v), base.x(), size)
}

func sized(size int, v V) string {
	return fmt.Sprintf("%c%d", map[int]byte{16: 'q', 8: 'd', 4: 's'}[size], int(v))
}

// LoadIndexed reads 4 bytes at base + 4·index.
func (f *Func) LoadIndexed(v V, base, index R) {
	f.word(0xbc607800|uint32(index)<<16|uint32(base)<<5|uint32(v), "ldr s%d, [%s, %s, lsl #2]", v, base.x(), index.x())
}

// LoadPair reads a and b at base + off.
func (f *Func) LoadPair(a, b V, base R, off int) { f.pair(0xad400000, "ldp", a, b, base, off) }

// StorePair writes a and b.
func (f *Func) StorePair(a, b V, base R, off int) { f.pair(0xad000000, "stp", a, b, base, off) }

func (f *Func) pair(w uint32, name string, a, b V, base R, off int) {
	f.word(w|uint32(off/16&127)<<15|uint32(b)<<10|uint32(base)<<5|uint32(a), "%s q%d, q%d, %s", name, a, b, at(base, off))
}

// LoadPairNext reads a and b at base and adds 32 to base.
func (f *Func) LoadPairNext(a, b V, base R) {
	f.word(0xacc00000|2<<15|uint32(b)<<10|uint32(base)<<5|uint32(a), "ldp q%d, q%d, [%s], #32", a, b, base.x())
}

// StorePairNext writes a and b at base and adds 32 to base.
func (f *Func) StorePairNext(a, b V, base R) {
	f.word(0xac800000|2<<15|uint32(b)<<10|uint32(base)<<5|uint32(a), "stp q%d, q%d, [%s], #32", a, b, base.x())
}
