package tokenizer

import (
	"encoding/json"
	"fmt"
	"slices"
)

// postProcessor is what tokenizer.json puts around a text, as far as one text's ids depend on it.
type postProcessor struct {
	Type       string          `json:"type"`
	Processors []postProcessor `json:"processors"` // of a Sequence
	Single     []struct {
		Sequence     *struct{} `json:"Sequence"`
		SpecialToken *struct {
			ID string `json:"id"`
		} `json:"SpecialToken"`
	} `json:"single"` // of a TemplateProcessing
	Specials map[string]struct {
		IDs []int32 `json:"ids"`
	} `json:"special_tokens"`
	CLS json.RawMessage `json:"cls"` // of BertProcessing and RobertaProcessing: [token, id]
	Sep json.RawMessage `json:"sep"`
}

// Surround returns the ids of a text, as an Encode made them, between those that tokenizer.json's post-processor puts
// around every text: its beginning-of-sequence token, where it adds one. That is what transformers' tokenizers do by
// default (the add_bos_token of tokenizer_config.json changes nothing there, in 5.24's generic class); chat templates write
// such tokens themselves.
func (t *Tokenizer) Surround(ids []int32) []int32 {
	return slices.Concat(t.before, ids, t.after)
}

// readSurround reads what the post-processor puts around a text.
func (t *Tokenizer) readSurround(p *postProcessor) error {
	if p == nil {
		return nil
	}
	switch p.Type {
	case "Sequence":
		for i := range p.Processors {
			if err := t.readSurround(&p.Processors[i]); err != nil {
				return err
			}
		}
	case "TemplateProcessing":
		side := &t.before
		for _, part := range p.Single {
			switch {
			case part.Sequence != nil:
				side = &t.after
			case part.SpecialToken != nil:
				special, ok := p.Specials[part.SpecialToken.ID]
				if !ok {
					return fmt.Errorf("special token %.40q isn't among special_tokens", part.SpecialToken.ID)
				}
				*side = append(*side, special.IDs...)
			}
		}
	case "BertProcessing", "RobertaProcessing":
		for _, side := range []struct {
			to  *[]int32
			raw json.RawMessage
		}{{&t.before, p.CLS}, {&t.after, p.Sep}} {
			var token string
			var id int32
			if err := json.Unmarshal(side.raw, &[]any{&token, &id}); err != nil {
				return fmt.Errorf("%s: %w", p.Type, err)
			}
			*side.to = append(*side.to, id)
		}
	case "ByteLevel": // offsets only
	default:
		return fmt.Errorf("type %.40q isn't supported", p.Type)
	}
	for _, id := range append(t.before[:len(t.before):len(t.before)], t.after...) {
		if _, ok := t.Token(id); !ok {
			return fmt.Errorf("id %d isn't in the vocabulary", id)
		}
	}
	return nil
}
