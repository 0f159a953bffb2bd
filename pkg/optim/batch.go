package optim

import "fmt"

// Steps returns how many steps it takes to use n items once in batches of batch; the
// last batch may be short, and weighs as much as the others.
func Steps(n, batch int) int {
	if batch <= 0 {
		panic("optim: a batch needs an item")
	}
	return (n + batch - 1) / batch
}

// MicroBatches cuts a batch into the parts whose gradients are accumulated one after
// the other, and returns where each ends: part i is items [ends[i-1], ends[i]), ends[-1]
// being 0. Items keep their order and are packed greedily: a part takes items while
// their tokens together stay within limit. The cut decides the order of summation, so
// it depends on nothing but its arguments. The gradients need no rescaling where the
// loss coefficients are those of the whole batch (see spin.Result.Coefficients).
//
// ends is appended to dst. An item of more than limit tokens is an error.
func MicroBatches(dst []int, tokens []int, limit int) ([]int, error) {
	sum := 0
	for i, n := range tokens {
		if n > limit {
			return dst, fmt.Errorf("item %d of the batch has %d tokens: want at most %d, the size of a micro-batch", i, n, limit)
		}
		if sum+n > limit {
			dst, sum = append(dst, i), 0
		}
		sum += n
	}
	if len(tokens) > 0 {
		dst = append(dst, len(tokens))
	}
	return dst, nil
}
