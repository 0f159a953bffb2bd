package main

import (
	"fmt"
	"time"

	"github.com/seed-8780d58e/spin/bench/unit"
	"github.com/seed-8780d58e/spin/pkg/engine"
	"github.com/seed-8780d58e/spin/pkg/model"
)

const pageTokens = 32

// decode is Batch answers of New tokens, at temperature 1 from the whole vocabulary. Its seconds are
// those from the first token drawn to the last: all prompts are read in the first step.
func (b *bench) decode() (func() (unit.Result, error), error) {
	m, err := b.load(false)
	if err != nil {
		return nil, err
	}
	d := m.NewDecoder(model.DecoderConfig{
		Rows: b.Batch * b.Prompt, Sequences: b.Batch, Pages: b.Batch * ((b.Prompt+b.New)/pageTokens + 2), PageTokens: pageTokens,
	})
	seed := uint64(0)
	return func() (unit.Result, error) {
		seed++
		e := engine.New(d)
		for i := range b.Batch {
			r := &engine.Request{ID: fmt.Sprint(i), Draws: 1, MaxNew: b.New, Temperature: 1, TopP: 1, Seed: seed, Index: uint32(i)}
			for t := range b.Prompt {
				r.Prompt = append(r.Prompt, int32(1000+(i*7919+t*104729+int(seed)*31)%40000))
			}
			if err := e.Submit(r); err != nil {
				return unit.Result{}, err
			}
		}
		began := time.Now()
		if _, err := e.Step(); err != nil {
			return unit.Result{}, err
		}
		first := time.Now()
		if s := e.Stats(); s.PromptTokens != b.Batch*b.Prompt || s.SampledTokens != b.Batch {
			return unit.Result{}, fmt.Errorf("the first step read %d tokens and drew %d", s.PromptTokens, s.SampledTokens)
		}
		for !e.Idle() {
			if _, err := e.Step(); err != nil {
				return unit.Result{}, err
			}
		}
		if n := e.Stats().SampledTokens; n != b.Batch*b.New {
			return unit.Result{}, fmt.Errorf("%d tokens were drawn", n)
		}
		return unit.Result{Seconds: time.Since(first).Seconds(), Parts: map[string]float64{"prefill": first.Sub(began).Seconds()}}, nil
	}, nil
}
