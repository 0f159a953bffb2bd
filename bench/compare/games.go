package main

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"

	"github.com/seed-8780d58e/spin/bench/unit"
)

// makeGames writes the games that units read, beside games-chat.jsonl, which `spinbench games` made:
// games-256 and games-512, four of random tokens, sequences of that length, half of them prompt; and
// games-64, the first of games-chat.
func makeGames(folder string, vocab int) error {
	r := rand.New(rand.NewPCG(1, 1))
	tokens := func(n int) []int32 {
		ids := make([]int32, n)
		for i := range ids {
			ids[i] = int32(17 + r.IntN(vocab-17)) // none of the special ones
		}
		return ids
	}
	for _, length := range []int{256, 512} {
		var games []unit.Game
		for range 4 {
			games = append(games, unit.Game{Prompt: tokens(length / 2), Real: tokens(length / 2), Generated: tokens(length / 2)})
		}
		if err := unit.WriteGames(filepath.Join(folder, fmt.Sprintf("games-%d.jsonl", length)), games); err != nil {
			return err
		}
	}
	const prompts = 64
	chat, err := unit.ReadGames(filepath.Join(folder, "games-chat.jsonl"))
	if err != nil {
		return err
	}
	if len(chat) < prompts {
		return fmt.Errorf("games-chat.jsonl has %d games, want %d", len(chat), prompts)
	}
	return unit.WriteGames(filepath.Join(folder, fmt.Sprintf("games-%d.jsonl", prompts)), chat[:prompts])
}
