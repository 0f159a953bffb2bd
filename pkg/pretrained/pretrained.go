// Package pretrained is a model as people get it: configuration, weights, tokenizer and chat
// template of one Hugging Face directory or GGUF file, opened together and checked against each
// other.
package pretrained

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/seed-8780d58e/spin/pkg/chat"
	"github.com/seed-8780d58e/spin/pkg/checkpoint"
	"github.com/seed-8780d58e/spin/pkg/gguf"
	"github.com/seed-8780d58e/spin/pkg/model"
	"github.com/seed-8780d58e/spin/pkg/safetensors"
	"github.com/seed-8780d58e/spin/pkg/tokenizer"
)

// Pretrained is an open model. Its weights are read on demand.
type Pretrained struct {
	*checkpoint.Checkpoint
	ModelConfig model.Config
	Tokenizer   *tokenizer.Tokenizer
	Template    *chat.Template
	Path        string
}

// Open opens the model at path.
func Open(path string) (*Pretrained, error) {
	c, err := checkpoint.Open(path)
	if err != nil {
		return nil, err
	}
	p := &Pretrained{Checkpoint: c, Path: path}
	if err := p.read(); err != nil {
		return nil, errors.Join(fmt.Errorf("model %s: %w", path, err), c.Close())
	}
	return p, nil
}

func (p *Pretrained) read() (err error) {
	if p.ModelConfig, err = model.ParseConfig(p.Config()); err != nil {
		return err
	}
	if f := p.GGUF(); f != nil {
		p.Tokenizer, err = tokenizer.FromGGUF(f.Metadata)
	} else {
		p.Tokenizer, err = tokenizer.Open(p.Path)
	}
	if err != nil {
		return fmt.Errorf("tokenizer: %w", err)
	}
	if n := p.Tokenizer.Size(); n > p.ModelConfig.Vocab {
		return fmt.Errorf("the tokenizer has %d tokens, the model's vocab_size is %d", n, p.ModelConfig.Vocab)
	}
	p.Template, err = chat.New(p.Tokenizer, chat.Options{})
	return err
}

// Stops are the ids that end an answer: the template's end of turn, and the eos_token_id that
// generation_config.json names.
func (p *Pretrained) Stops() []int32 {
	stops := p.Template.StopTokens()
	var g struct {
		EOS json.RawMessage `json:"eos_token_id"`
	}
	if json.Unmarshal(p.GenerationConfig(), &g) != nil || g.EOS == nil {
		return stops
	}
	var ids []int32
	if json.Unmarshal(g.EOS, &ids) != nil {
		var id int32
		if json.Unmarshal(g.EOS, &id) != nil {
			return stops
		}
		ids = []int32{id}
	}
	for _, id := range ids {
		if !slices.Contains(stops, id) {
			stops = append(stops, id)
		}
	}
	return stops
}

// Vocabulary is the tokenizer as a GGUF's metadata, for checkpoint.WriteGGUF.
func (p *Pretrained) Vocabulary() (*gguf.Metadata, error) {
	if f := p.GGUF(); f != nil {
		return f.Metadata, nil
	}
	return checkpoint.Vocabulary(p.TokenizerJSON(), p.TokenizerConfigJSON(), p.Tokenizer.ChatTemplate, p.ModelConfig.Vocab)
}

// Write saves weights of this model's shape as a directory that transformers loads, with the
// tokenizer and chat template of p. F32 where dtype is empty.
func (p *Pretrained) Write(dir string, weights checkpoint.Source, dtype safetensors.DType, replace bool) error {
	return checkpoint.Write(dir, checkpoint.Files{
		Config: p.Config(), GenerationConfig: p.GenerationConfig(), Tokenizer: p.Tokenizer.Save,
	}, weights, checkpoint.Options{DType: dtype, Replace: replace})
}
