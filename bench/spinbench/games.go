package main

import (
	"fmt"

	"github.com/seed-8780d58e/spin/bench/unit"
	"github.com/seed-8780d58e/spin/compute/cpu"
	"github.com/seed-8780d58e/spin/pkg/dataset"
	"github.com/seed-8780d58e/spin/pkg/engine"
	"github.com/seed-8780d58e/spin/pkg/model"
	"github.com/seed-8780d58e/spin/pkg/pretrained"
)

// The games of a file: as many as 50 steps of 4 take.
const (
	gamesWanted = 200
	gamesNew    = 64
	gamesPrompt = 128
)

// makeGames writes games as the default run has them: prompts and human answers of the chit-chat
// corpus, and answers that the model samples.
func makeGames(modelPath, answers, out string) error {
	p, err := pretrained.Open(modelPath)
	if err != nil {
		return err
	}
	defer p.Close()
	rows, err := dataset.ChitChat(answers)
	if err != nil {
		return err
	}
	rows, _, err = dataset.Split(rows, 4*gamesWanted, 0, 1)
	if err != nil {
		return err
	}
	var games []unit.Game
	for _, row := range rows {
		prompt, err := p.Template.Prompt(row.Prompt)
		if err != nil {
			return err
		}
		if real := p.Template.Response(row.Response, true); len(prompt) <= gamesPrompt && len(games) < gamesWanted {
			games = append(games, unit.Game{Prompt: prompt, Real: real[:min(len(real), gamesNew)]})
		}
	}
	if len(games) < gamesWanted {
		return fmt.Errorf("%s: %d prompts of at most %d tokens, want %d", answers, len(games), gamesPrompt, gamesWanted)
	}
	dev, err := cpu.New(cpu.Config{})
	if err != nil {
		return err
	}
	defer dev.Close()
	act, err := dtype("f32")
	if err != nil {
		return err
	}
	m, err := model.New(dev, dev.NewBackend(), p.ModelConfig, p, model.Options{DType: act, MaxContext: 256})
	if err != nil {
		return err
	}
	const sequences = 32
	e := engine.New(m.NewDecoder(model.DecoderConfig{Rows: 256, Sequences: sequences, Pages: sequences * 8, PageTokens: pageTokens}))
	for i, g := range games {
		err := e.Submit(&engine.Request{ID: fmt.Sprint(i), Prompt: g.Prompt, Draws: 1, MaxNew: gamesNew, Stop: p.Stops(), Temperature: 1, TopP: 1, Seed: 1, Index: uint32(i)})
		if err != nil {
			return err
		}
	}
	for !e.Idle() {
		done, err := e.Step()
		if err != nil {
			return err
		}
		for _, r := range done {
			games[r.Request.Index].Generated = r.Answers[0].IDs
		}
	}
	return unit.WriteGames(out, games)
}
