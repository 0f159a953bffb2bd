package main

import (
	"time"

	"github.com/seed-8780d58e/spin/bench/unit"
	"github.com/seed-8780d58e/spin/pkg/model"
	"github.com/seed-8780d58e/spin/pkg/optim"
	"github.com/seed-8780d58e/spin/pkg/spin"
	"github.com/seed-8780d58e/spin/services/trainer/train"
)

// given stands for an opponent's log-probability where only time is measured.
const given = -500

func trainGames(games []unit.Game) []train.Game {
	var out []train.Game
	for _, g := range games {
		out = append(out, train.Game{
			Prompt: g.Prompt, Real: train.Answer{IDs: g.Real, OpponentLogp: given},
			Draws: []train.Draw{{Answer: train.Answer{IDs: g.Generated, OpponentLogp: given}}},
		})
	}
	return out
}

// learner loads the model and what trains it, as the trainer does.
func (b *bench) learner() (*train.Learner, spin.Objective, error) {
	rule, err := optim.ParseRule(b.Optimizer)
	if err != nil {
		return nil, spin.Objective{}, err
	}
	m, err := b.load(true)
	if err != nil {
		return nil, spin.Objective{}, err
	}
	l, err := train.NewLearner(m, train.Settings{MicroTokens: b.Micro, Memory: 1 << 30, Rule: rule})
	return l, spin.Objective{Loss: spin.Logistic, Beta: b.Beta}, err
}

// train is a step over all games of the file.
func (b *bench) train() (func() (unit.Result, error), error) {
	games, err := unit.ReadGames(b.Games)
	if err != nil {
		return nil, err
	}
	l, objective, err := b.learner()
	if err != nil {
		return nil, err
	}
	pairs := trainGames(games)
	return func() (unit.Result, error) {
		began := time.Now()
		out, err := l.Play(pairs, objective, b.LR)
		return unit.Result{Seconds: time.Since(began).Seconds(), Losses: []float64{out.Loss}}, err
	}, nil
}

// curve is Steps steps of Batch games each, after the opponent's log-probabilities were computed:
// the model as it is, so that the first loss is ln 2.
func (b *bench) curve() (func() (unit.Result, error), error) {
	games, err := unit.ReadGames(b.Games)
	if err != nil {
		return nil, err
	}
	l, objective, err := b.learner()
	if err != nil {
		return nil, err
	}
	return func() (r unit.Result, err error) {
		began := time.Now()
		pairs := trainGames(games)
		if err := l.Score(pairs); err != nil {
			return r, err
		}
		for step := range b.Steps {
			from := step * b.Batch % (len(pairs) - b.Batch + 1)
			out, err := l.Play(pairs[from:from+b.Batch], objective, b.LR)
			if err != nil {
				return r, err
			}
			r.Losses = append(r.Losses, out.Loss)
		}
		r.Seconds = time.Since(began).Seconds()
		return r, nil
	}, nil
}

// score is the log-probabilities of both answers of all games, by a model that is not trained.
func (b *bench) score() (func() (unit.Result, error), error) {
	games, err := unit.ReadGames(b.Games)
	if err != nil {
		return nil, err
	}
	m, err := b.load(false)
	if err != nil {
		return nil, err
	}
	var trees []model.Tree
	for _, g := range games {
		trees = append(trees, model.Tree{Prompt: g.Prompt, Answers: [][]int32{g.Real, g.Generated}})
	}
	p := m.NewPass(model.PassConfig{Tokens: b.Micro})
	return func() (unit.Result, error) {
		began := time.Now()
		sum := 0.0
		err := p.Score(trees, func(_, _ int, s model.Scored) { sum += spin.LogP(s.Logps) })
		return unit.Result{Seconds: time.Since(began).Seconds(), Losses: []float64{-sum}}, err
	}, nil
}
