package main

import (
	"fmt"
	"time"

	"github.com/seed-8780d58e/spin/bench/unit"
	"github.com/seed-8780d58e/spin/pkg/engine"
	"github.com/seed-8780d58e/spin/pkg/model"
)

// iteration samples an answer of New tokens to each game's prompt, scores both answers, and trains
// one epoch, Batch games a step. One model does all of it.
func (b *bench) iteration() (func() (unit.Result, error), error) {
	games, err := unit.ReadGames(b.Games)
	if err != nil {
		return nil, err
	}
	l, objective, err := b.learner()
	if err != nil {
		return nil, err
	}
	const sequences = 32
	longest := 0
	for _, g := range games {
		longest = max(longest, len(g.Prompt))
	}
	d := l.Model().NewDecoder(model.DecoderConfig{
		Rows: 512, Sequences: sequences, Pages: sequences * ((longest+b.New)/pageTokens + 2), PageTokens: pageTokens,
	})
	return func() (unit.Result, error) {
		began := time.Now()
		pairs := trainGames(games)
		e := engine.New(d)
		for i, g := range games {
			if err := e.Submit(&engine.Request{ID: fmt.Sprint(i), Prompt: g.Prompt, Draws: 1, MaxNew: b.New, Temperature: 1, TopP: 1, Seed: 1, Index: uint32(i)}); err != nil {
				return unit.Result{}, err
			}
		}
		for !e.Idle() {
			done, err := e.Step()
			if err != nil {
				return unit.Result{}, err
			}
			for _, r := range done {
				pairs[r.Request.Index].Draws[0].IDs = r.Answers[0].IDs
			}
		}
		sampled := time.Now()
		if err := l.Score(pairs); err != nil {
			return unit.Result{}, err
		}
		scored := time.Now()
		var losses []float64
		for from := 0; from < len(pairs); from += b.Batch {
			out, err := l.Play(pairs[from:min(from+b.Batch, len(pairs))], objective, b.LR)
			if err != nil {
				return unit.Result{}, err
			}
			losses = append(losses, out.Loss)
		}
		return unit.Result{Seconds: time.Since(began).Seconds(), Losses: losses, Parts: map[string]float64{
			"sample": sampled.Sub(began).Seconds(), "score": scored.Sub(sampled).Seconds(), "train": time.Since(scored).Seconds(),
		}}, nil
	}, nil
}
