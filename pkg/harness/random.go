package harness

import (
	"math"
	"math/bits"
)

// pythonRandom is Python's random.Random(seed): MT19937 seeded by init_by_array (CPython, Modules/_randommodule.c), and
// sample (Lib/random.py, 3.12). lm-eval draws few-shot examples by it, so a prompt is the same only with the same numbers.
type pythonRandom struct {
	state [624]uint32
	next  int
}

func newPythonRandom(seed uint32) *pythonRandom {
	r := &pythonRandom{}
	s := &r.state
	s[0] = 19650218
	for i := 1; i < len(s); i++ {
		s[i] = 1812433253*(s[i-1]^s[i-1]>>30) + uint32(i)
	}
	i := 1
	for range s {
		s[i] = (s[i] ^ (s[i-1]^s[i-1]>>30)*1664525) + seed // a key of one word: + key[0] + 0
		if i++; i == len(s) {
			s[0], i = s[len(s)-1], 1
		}
	}
	for range len(s) - 1 {
		s[i] = (s[i] ^ (s[i-1]^s[i-1]>>30)*1566083941) - uint32(i)
		if i++; i == len(s) {
			s[0], i = s[len(s)-1], 1
		}
	}
	s[0] = 1 << 31
	r.next = len(s)
	return r
}

func (r *pythonRandom) uint32() uint32 {
	s := &r.state
	if r.next == len(s) {
		for i := range s {
			y := s[i]&(1<<31) | s[(i+1)%len(s)]&(1<<31-1)
			s[i] = s[(i+397)%len(s)] ^ y>>1 ^ (y&1)*0x9908b0df
		}
		r.next = 0
	}
	y := s[r.next]
	r.next++
	y ^= y >> 11
	y ^= y << 7 & 0x9d2c5680
	y ^= y << 15 & 0xefc60000
	return y ^ y>>18
}

// below is _randbelow_with_getrandbits, for 0 < n < 2³².
func (r *pythonRandom) below(n int) int {
	k := bits.Len(uint(n))
	for {
		if v := int(r.uint32() >> (32 - k)); v < n {
			return v
		}
	}
}

// sample draws k different indices of n, as random.sample does.
func (r *pythonRandom) sample(n, k int) []int {
	out := make([]int, k)
	setSize := 21
	if k > 5 {
		setSize += int(math.Pow(4, math.Ceil(math.Log(float64(k*3))/math.Log(4))))
	}
	if n <= setSize {
		pool := make([]int, n)
		for i := range pool {
			pool[i] = i
		}
		for i := range out {
			j := r.below(n - i)
			out[i], pool[j] = pool[j], pool[n-i-1]
		}
		return out
	}
	taken := map[int]bool{}
	for i := range out {
		j := r.below(n)
		for taken[j] {
			j = r.below(n)
		}
		taken[j] = true
		out[i] = j
	}
	return out
}
