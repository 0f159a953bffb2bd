package tokenizer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
)

// Save writes tokenizer.json and tokenizer_config.json, with the chat template in it, into dir. AutoTokenizer of
// transformers loads them and yields the same ids. What came from a directory is written as it came.
func (t *Tokenizer) Save(dir string) error {
	config, err := t.configFile()
	if err != nil {
		return fmt.Errorf("save tokenizer: %w", err)
	}
	for name, data := range map[string][]byte{"tokenizer.json": t.source, "tokenizer_config.json": config} {
		if err := writeFile(filepath.Join(dir, name), data); err != nil {
			return fmt.Errorf("save tokenizer: %w", err)
		}
	}
	return nil
}

func (t *Tokenizer) configFile() ([]byte, error) {
	out := map[string]any{}
	if t.file != nil {
		for key, value := range maps.All(t.file) {
			out[key] = value
		}
	} else {
		out["tokenizer_class"] = "PreTrainedTokenizerFast"
		out["clean_up_tokenization_spaces"] = false
		for key, id := range map[string]int32{"bos_token": t.BOS, "eos_token": t.EOS, "unk_token": t.Unknown, "pad_token": t.Pad} {
			if token, ok := t.Token(id); ok {
				out[key] = token
			}
		}
		if t.ContextLength > 0 {
			out["model_max_length"] = t.ContextLength
		}
	}
	if t.ChatTemplate != "" {
		out["chat_template"] = t.ChatTemplate
	}
	return marshal(out)
}

// marshal is json.Marshal that leaves <, > and & as they are.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return b.Bytes(), err
}

// writeFile replaces path in one step: a reader sees the old file or the new one, whole.
func writeFile(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // after the rename there is nothing to remove
	if _, err = f.Write(data); err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
