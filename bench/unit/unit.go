// Package unit is what the benchmark harness and the processes that it measures say to each other.
//
// A process is started with a Config as its one argument, prepares, and then performs one unit of
// work (a training step, a batch of answers, …) for each line that it reads, answering with a Result
// in JSON on a line of its own. So two rivals can both be warm and take turns, A B A B, and neither
// computes while the other is timed. bench/spinbench speaks it for this project, bench/peers/worker.py
// for PyTorch, TRL, transformers and llama.cpp.
package unit

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
)

// Kind is a sort of work.
type Kind string

const (
	GEMM      Kind = "gemm"      // products of the model's shapes
	Train     Kind = "train"     // one optimizer step over all games of the file
	Score     Kind = "score"     // log-probabilities of all answers of the file
	Decode    Kind = "decode"    // Batch answers of New tokens
	Iteration Kind = "iteration" // sample, score, train one epoch
	Curve     Kind = "curve"     // Steps steps, their losses
)

// Config is what a process does. Both rivals are given the same one, but for Engine, Model and DType.
type Config struct {
	Kind   Kind   `json:"kind"`
	Engine string `json:"engine"` // of the peer: torch, trl, transformers, llama
	Model  string `json:"model"`  // GGUF file or Hugging Face folder
	DType  string `json:"dtype"`  // f32, bf16; of the peer also f32-medium, bf16-autocast

	Games     string  `json:"games,omitempty"` // file of Game, one a line
	Optimizer string  `json:"optimizer,omitempty"`
	LR        float64 `json:"lr,omitempty"`
	Beta      float64 `json:"beta,omitempty"`
	Batch     int     `json:"batch,omitempty"` // games of a step, or sequences decoded at once
	Steps     int     `json:"steps,omitempty"`
	Micro     int     `json:"micro,omitempty"`   // tokens of a packed batch; ours only
	Compile   bool    `json:"compile,omitempty"` // torch.compile; the peer's only

	Prompt int      `json:"prompt,omitempty"` // tokens
	New    int      `json:"new,omitempty"`
	Shapes [][2]int `json:"shapes,omitempty"` // [out, in] of GEMM's weights
	Rows   int      `json:"rows,omitempty"`   // of GEMM's activations

	// FreshMemory leaves the C library's allocator as it is; see compare's allocator.
	FreshMemory bool `json:"fresh_memory,omitempty"`
}

// Game is a prompt with two answers, as token ids.
type Game struct {
	Prompt    []int32 `json:"prompt"`
	Real      []int32 `json:"real"`
	Generated []int32 `json:"generated"`
}

// Result is what one unit of work gave.
type Result struct {
	Seconds float64            `json:"seconds"`
	Parts   map[string]float64 `json:"parts,omitempty"`  // seconds of each, where the unit has parts
	Losses  []float64          `json:"losses,omitempty"` // of each step
	// PeakBytes is the process's resident high-water mark since it was ready; WholeBytes since it
	// started.
	PeakBytes  int64  `json:"peak_bytes"`
	WholeBytes int64  `json:"whole_bytes"`
	Error      string `json:"error,omitempty"`
}

// Ready is the first line of a process.
type Ready struct {
	Versions map[string]string `json:"versions"` // of everything that decides the figures
	Error    string            `json:"error,omitempty"`
}

// ReadGames reads a file of Game.
func ReadGames(path string) (games []Game, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for d := json.NewDecoder(bufio.NewReader(f)); ; {
		var g Game
		if err := d.Decode(&g); err == io.EOF {
			return games, nil
		} else if err != nil {
			return nil, fmt.Errorf("%s: game %d: %w", path, len(games)+1, err)
		}
		games = append(games, g)
	}
}

// WriteGames writes what ReadGames reads.
func WriteGames(path string, games []Game) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	e := json.NewEncoder(w)
	for _, g := range games {
		if err := e.Encode(g); err != nil {
			f.Close()
			return err
		}
	}
	if err := w.Flush(); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// Serve is the loop of a process: it says that it is ready, and calls work for each line of in.
func Serve(in io.Reader, out io.Writer, versions map[string]string, work func() (Result, error)) error {
	e := json.NewEncoder(out)
	whole := PeakBytes()
	if err := ResetPeak(); err != nil {
		return err
	}
	if err := e.Encode(Ready{Versions: versions}); err != nil {
		return err
	}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		r, err := work()
		if err != nil {
			r.Error = err.Error()
		}
		r.PeakBytes = PeakBytes()
		r.WholeBytes = max(whole, r.PeakBytes)
		if err := e.Encode(r); err != nil {
			return err
		}
	}
	return nil
}
