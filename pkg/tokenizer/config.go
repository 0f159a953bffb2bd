package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Config is what a model's files say beside its vocabulary. Ids are -1 where the files name none.
type Config struct {
	BOS, EOS, Unknown, Pad int32
	EndIDs                 []int32 // each ends a generation: generation_config.json's eos_token_id, EOS included; ascending
	ChatTemplate           string  // jinja; "" where the model has none
	ContextLength          int     // tokens; 0 where not said

	file map[string]json.RawMessage // tokenizer_config.json as it came, to be written again
}

const maxConfig = 16 << 20

// Open reads the tokenizer of a model directory: tokenizer.json, and, where they are there, tokenizer_config.json,
// chat_template.jinja and generation_config.json (else config.json) for the ids that end a generation. path may also
// be a tokenizer.json itself; then its directory is read.
func Open(path string) (*Tokenizer, error) {
	dir := path
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		dir = filepath.Dir(path)
	} else {
		path = filepath.Join(dir, "tokenizer.json")
	}
	data, err := readFile(path, maxFile)
	if err != nil {
		return nil, fmt.Errorf("open tokenizer: %w", err)
	}
	t, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	if err := t.readConfig(dir); err != nil {
		return nil, err
	}
	return t, nil
}

func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s: more than %d bytes", path, limit)
	}
	return data, err
}

// readJSON fills v from a file of dir and says whether the file is there.
func readJSON(dir, name string, v any) (bool, error) {
	data, err := readFile(filepath.Join(dir, name), maxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return false, fmt.Errorf("%s: %w", filepath.Join(dir, name), err)
	}
	return true, nil
}

func (t *Tokenizer) readConfig(dir string) error {
	var file struct {
		BOS           namedToken   `json:"bos_token"`
		EOS           namedToken   `json:"eos_token"`
		Unknown       namedToken   `json:"unk_token"`
		Pad           namedToken   `json:"pad_token"`
		ChatTemplate  chatTemplate `json:"chat_template"`
		ContextLength float64      `json:"model_max_length"` // 1e30 means unbounded
	}
	if _, err := readJSON(dir, "tokenizer_config.json", &file); err != nil {
		return err
	}
	if _, err := readJSON(dir, "tokenizer_config.json", &t.file); err != nil {
		return err
	}
	for _, field := range []struct {
		name  string
		token namedToken
		id    *int32
	}{{"bos_token", file.BOS, &t.BOS}, {"eos_token", file.EOS, &t.EOS}, {"unk_token", file.Unknown, &t.Unknown}, {"pad_token", file.Pad, &t.Pad}} {
		if field.token == "" {
			continue
		}
		id, ok := t.ids[string(field.token)]
		if !ok {
			return fmt.Errorf("%s: %s %.40q isn't in the vocabulary", filepath.Join(dir, "tokenizer_config.json"), field.name, string(field.token))
		}
		*field.id = id
	}
	if file.ContextLength > 0 && file.ContextLength < 1<<30 {
		t.ContextLength = int(file.ContextLength)
	}
	t.ChatTemplate = string(file.ChatTemplate)
	text, err := readFile(filepath.Join(dir, "chat_template.jinja"), maxConfig)
	switch {
	case err == nil:
		t.ChatTemplate = string(text)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	for _, name := range []string{"generation_config.json", "config.json"} {
		var file struct {
			EOS oneOrMany `json:"eos_token_id"`
		}
		if _, err := readJSON(dir, name, &file); err != nil {
			return err
		}
		for _, id := range file.EOS {
			if _, ok := t.Token(id); !ok {
				return fmt.Errorf("%s: eos_token_id %d isn't in the vocabulary", filepath.Join(dir, name), id)
			}
		}
		if len(file.EOS) > 0 {
			t.setEnds(file.EOS...)
			break
		}
	}
	t.setEnds()
	return nil
}

// setEnds adds ids, and EOS, to EndIDs.
func (t *Tokenizer) setEnds(ids ...int32) {
	for _, id := range append(ids, t.EOS) {
		if id >= 0 && !slices.Contains(t.EndIDs, id) {
			t.EndIDs = append(t.EndIDs, id)
		}
	}
	slices.Sort(t.EndIDs)
}

// namedToken is "<s>" or {"content": "<s>", …} or null.
type namedToken string

func (n *namedToken) UnmarshalJSON(data []byte) error {
	if data[0] == '{' {
		var object struct {
			Content string `json:"content"`
		}
		err := json.Unmarshal(data, &object)
		*n = namedToken(object.Content)
		return err
	}
	return json.Unmarshal(data, (*string)(n))
}

// chatTemplate is a string, or a list of {"name", "template"} of which "default" counts.
type chatTemplate string

func (c *chatTemplate) UnmarshalJSON(data []byte) error {
	if data[0] != '[' {
		return json.Unmarshal(data, (*string)(c))
	}
	var list []struct{ Name, Template string }
	if err := json.Unmarshal(data, &list); err != nil {
		return err
	}
	for _, entry := range list {
		if entry.Name == "default" {
			*c = chatTemplate(entry.Template)
		}
	}
	return nil
}

// oneOrMany is 2 or [2, 3] or null.
type oneOrMany []int32

func (o *oneOrMany) UnmarshalJSON(data []byte) error {
	if data[0] == '[' {
		return json.Unmarshal(data, (*[]int32)(o))
	}
	var id *int32
	err := json.Unmarshal(data, &id)
	if id != nil {
		*o = oneOrMany{*id}
	}
	return err
}
