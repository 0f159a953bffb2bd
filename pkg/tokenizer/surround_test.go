package tokenizer_test

import (
	"slices"
	"testing"

	"github.com/seed-8780d58e/spin/pkg/tokenizer"
)

// file is a tokenizer of a, b and two control tokens, with a post-processor.
func file(post string) []byte {
	return []byte(`{"added_tokens": [{"id": 2, "content": "<s>", "special": true}, {"id": 3, "content": "</s>", "special": true}],
		"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}, "post_processor": ` + post + `}`)
}

// What tokenizers 0.22 puts around "ab", in the forms that the hub's files have.
func TestSurround(t *testing.T) {
	const (
		bos   = `{"SpecialToken": {"id": "<s>", "type_id": 0}}`
		eos   = `{"SpecialToken": {"id": "</s>", "type_id": 0}}`
		text  = `{"Sequence": {"id": "A", "type_id": 0}}`
		known = `"special_tokens": {"<s>": {"id": "<s>", "ids": [2], "tokens": ["<s>"]}, "</s>": {"id": "</s>", "ids": [3], "tokens": ["</s>"]}}`
	)
	template := func(single string) string {
		return `{"type": "TemplateProcessing", "single": [` + single + `], "pair": [` + single + `, {"Sequence": {"id": "B", "type_id": 1}}], ` + known + `}`
	}
	level := `{"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true}`
	for post, want := range map[string][]int32{
		"null":                                 {0, 1},
		level:                                  {0, 1},
		template(text):                         {0, 1},
		template(bos + "," + text):             {2, 0, 1},
		template(text + "," + eos):             {0, 1, 3},
		template(bos + "," + text + "," + eos): {2, 0, 1, 3},
		`{"type": "Sequence", "processors": [` + level + `, ` + template(bos+","+text) + `]}`:                                  {2, 0, 1}, // Llama 3's
		`{"type": "BertProcessing", "sep": ["</s>", 3], "cls": ["<s>", 2]}`:                                                    {2, 0, 1, 3},
		`{"type": "RobertaProcessing", "sep": ["</s>", 3], "cls": ["<s>", 2], "trim_offsets": true, "add_prefix_space": true}`: {2, 0, 1, 3},
	} {
		k, err := tokenizer.Parse(file(post))
		if err != nil {
			t.Errorf("%s: %v", post, err)
			continue
		}
		if got := k.Surround(k.Encode("ab")); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", post, got, want)
		}
		if got := k.Encode("ab"); !slices.Equal(got, []int32{0, 1}) {
			t.Errorf("%s: Encode gives %v", post, got)
		}
	}
	for _, post := range []string{
		`{"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}], "special_tokens": {}}`,
		`{"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}], "special_tokens": {"<s>": {"ids": [99]}}}`,
		`{"type": "Sequence", "processors": [{"type": "Unheard"}]}`,
		`{"type": "RobertaProcessing", "cls": "x"}`,
		`{"type": "BertProcessing", "cls": ["<s>", -1], "sep": ["</s>", 3]}`,
	} {
		if _, err := tokenizer.Parse(file(post)); err == nil {
			t.Errorf("%s is read", post)
		}
	}
}
