// Package checkpoint is a model on disk: a folder as Hugging Face lays it out (config.json, safetensors, tokenizer.json)
// or one GGUF file. Whatever the form, weights have their Hugging Face names and layout, and [Checkpoint.Config] is
// a config.json:
//
//	c, err := checkpoint.Open(path)
//	for _, name := range c.Names() {
//		shape, _ := c.Shape(name)
//		err = c.ReadF32(name, dst)
//	}
//
// [Open] checks that the files hold exactly the weights that the configuration asks for, so that a damaged or lying model
// is refused in one line before anything is computed. [Write] makes a folder that transformers loads, [WriteGGUF] a file
// that llama.cpp loads, [Digest] the identity of weights: weights_sha256. All three take a [Source], so a policy in
// training is written and named by the same code as one on disk.
package checkpoint

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/seed-8780d58e/spin/pkg/file"
	"github.com/seed-8780d58e/spin/pkg/gguf"
	"github.com/seed-8780d58e/spin/pkg/safetensors"
)

// A Source gives a model's weights one at a time, under their Hugging Face names: a Checkpoint, or a policy in training.
type Source interface {
	Names() []string // each weight once
	Shape(name string) ([]int, bool)
	ReadF32(name string, dst []float32) error // row-major; len(dst) is the number of elements
}

// A Checkpoint is an open model. Its methods may be called by several goroutines at once, except Close.
type Checkpoint struct {
	config, generation         []byte
	tokenizer, tokenizerConfig []byte
	parameters                 map[string]parameter

	gguf     *gguf.File // nil: a folder
	permuted bool       // the GGUF keeps Q and K rows in llama.cpp's order
	tensors  *safetensors.Model
}

// maxJSON bounds config.json and its like; tokenizer.json may be larger.
const (
	maxJSON      = 16 << 20
	maxTokenizer = 256 << 20
)

// Open opens a folder or a GGUF file. Errors say in one line what is wrong, where, and what would be right.
func Open(path string) (*Checkpoint, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	c := &Checkpoint{}
	switch {
	case info.IsDir():
		err = c.openFolder(path)
	case filepath.Ext(path) == ".safetensors" || filepath.Ext(path) == ".json":
		err = fmt.Errorf("open %s: give the folder that it is in, or a GGUF file", path)
	default:
		err = c.openGGUF(path)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// Close unmaps the files; weights cannot be read any more.
func (c *Checkpoint) Close() error {
	var errs []error
	if c.gguf != nil {
		errs = append(errs, c.gguf.Close())
	}
	if c.tensors != nil {
		errs = append(errs, c.tensors.Close())
	}
	return errors.Join(errs...)
}

// Config returns config.json; for a GGUF it is made from the metadata, and transformers understands it too.
func (c *Checkpoint) Config() []byte { return c.config }

// GenerationConfig returns generation_config.json: beginning- and end-of-text ids and the author's choice of sampling.
// Where there is none it is {}.
func (c *Checkpoint) GenerationConfig() []byte { return c.generation }

// TokenizerJSON returns tokenizer.json, or nil for a GGUF or where there is none.
func (c *Checkpoint) TokenizerJSON() []byte { return c.tokenizer }

// TokenizerConfigJSON returns tokenizer_config.json, or nil for a GGUF or where there is none.
func (c *Checkpoint) TokenizerConfigJSON() []byte { return c.tokenizerConfig }

// GGUF returns the open file, whose metadata has the tokenizer, or nil for a folder.
func (c *Checkpoint) GGUF() *gguf.File { return c.gguf }

// Names returns the names of all weights, sorted. They are the model's parameters: a tied lm_head.weight is not there.
func (c *Checkpoint) Names() []string { return sortedNames(c.parameters) }

// Shape returns a weight's dimensions, outermost first: [out, in] of a matrix.
func (c *Checkpoint) Shape(name string) ([]int, bool) {
	p, ok := c.parameters[name]
	return slices.Clone(p.shape), ok
}

// ReadF32 reads a weight into dst, dequantised, row-major, in Hugging Face's order of rows.
func (c *Checkpoint) ReadF32(name string, dst []float32) error {
	p, ok := c.parameters[name]
	switch {
	case !ok:
		return fmt.Errorf("no weight %q", name)
	case c.gguf == nil:
		return c.tensors.ReadF32(name, dst)
	case c.permuted && p.heads > 0:
		return c.gguf.ReadRowsF32(p.gguf, func(row int) int { return p.ggufRow(row) }, dst)
	}
	return c.gguf.ReadF32(p.gguf, dst)
}

// openFolder opens a folder as save_pretrained of transformers leaves it.
func (c *Checkpoint) openFolder(dir string) error {
	var err error
	if c.config, err = file.ReadAll(filepath.Join(dir, "config.json"), maxJSON); err != nil {
		return err
	}
	config, err := parseConfig(c.config)
	if err != nil {
		return fmt.Errorf("read %s: %w", filepath.Join(dir, "config.json"), err)
	}
	for _, f := range []struct {
		name    string
		limit   int64
		content *[]byte
	}{
		{"generation_config.json", maxJSON, &c.generation},
		{"tokenizer.json", maxTokenizer, &c.tokenizer},
		{"tokenizer_config.json", maxTokenizer, &c.tokenizerConfig},
	} {
		*f.content, err = file.ReadAll(filepath.Join(dir, f.name), f.limit)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if c.generation == nil {
		c.generation = []byte("{}\n")
	}
	weights := filepath.Join(dir, "model.safetensors")
	if _, err := os.Stat(weights); errors.Is(err, os.ErrNotExist) {
		weights += ".index.json"
	}
	c.tensors, err = safetensors.Open(weights)
	if errors.Is(err, os.ErrNotExist) && !exists(weights) {
		return fmt.Errorf("open %s: no weights: neither model.safetensors nor model.safetensors.index.json is there", dir)
	}
	if err != nil {
		return err
	}
	c.parameters = byName(config.parameters())
	if err := c.checkFolder(config); err != nil {
		return fmt.Errorf("open %s: %w", dir, err)
	}
	return nil
}

// checkFolder checks that the weights are those of the configuration.
func (c *Checkpoint) checkFolder(config config) error {
	for _, name := range c.Names() {
		t, ok := c.tensors.Tensor(name)
		if !ok {
			return fmt.Errorf("tensor %q is missing: a %s model with this config.json has it", name, config.ModelType)
		}
		if want := c.parameters[name].shape; !slices.Equal(t.Shape, want) {
			return fmt.Errorf("tensor %q in %s has shape %v: config.json asks for %v", name, filepath.Base(t.Path()), t.Shape, want)
		}
		if err := t.Readable(); err != nil {
			return err
		}
	}
	for _, name := range c.tensors.Names() {
		if _, ok := c.parameters[name]; !ok && !config.derived(name) {
			return fmt.Errorf("tensor %q has no place in a %s model with this config.json", name, config.ModelType)
		}
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
