package main

import (
	"math"
	"testing"

	"github.com/seed-8780d58e/spin/pkg/model"
)

func smollm2() shape {
	return shape{model.Config{Hidden: 576, Intermediate: 1536, Layers: 30, Heads: 9, KVHeads: 3, HeadDim: 64, Vocab: 49152, Tied: true}}
}

func TestShape(t *testing.T) {
	m := smollm2()
	if n := m.linearWeights() + m.headWeights() + float64((2*m.Layers+1)*m.Hidden); n != 134515008 {
		t.Errorf("%v parameters, SmolLM2-135M has 134515008", n)
	}
	if v := causal(3, 2); v != 4+5 {
		t.Errorf("two tokens after three see %v keys, want 9", v)
	}
}

// The forest's work, counted token by token.
func TestStepFLOP(t *testing.T) {
	m := smollm2()
	const games, length, half = 4, 16, 8
	forward := 0.0
	token := func(position int) {
		forward += 2*m.linearWeights() + float64(position+1)*4*float64(m.Heads*m.HeadDim*m.Layers)
	}
	for range games {
		for p := range half {
			token(p)
		}
		for range 2 {
			for p := half; p < length-1; p++ {
				token(p)
			}
			forward += half * 2 * m.headWeights()
		}
	}
	if got, want := m.stepFLOP(games, length), 3*forward; !(math.Abs(got-want) <= 1e-9*want) {
		t.Errorf("%v FLOP, want %v", got, want)
	}
}

// Decoding: batch sequences advance new−1 times, each seeing its prompt and what was drawn.
func TestDecodeFLOP(t *testing.T) {
	m := smollm2()
	want := 0.0
	for i := range 3 {
		want += 5 * (2*(m.linearWeights()+m.headWeights()) + float64(10+i+1)*m.pairFLOP())
	}
	if got := m.decodeFLOP(5, 10, 4); !(math.Abs(got-want) <= 1e-9*want) {
		t.Errorf("%v FLOP, want %v", got, want)
	}
	bytes := 2*(m.linearWeights()+m.headWeights()) + 4*12*float64(m.KVWidth()*m.Layers)
	if got := m.stepBytes(10, 4); got != bytes {
		t.Errorf("%v bytes a step, want %v", got, bytes)
	}
}
