package command_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tinyWith copies the tiny model to dir with one file changed; nil removes it.
func tinyWith(t *testing.T, dir, name string, change func([]byte) []byte) string {
	t.Helper()
	to := filepath.Join(dir, "model")
	must(t, os.CopyFS(to, os.DirFS(tiny)))
	path := filepath.Join(to, name)
	if change == nil {
		must(t, os.Remove(path))
		return to
	}
	data, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, change(data), 0o644))
	return to
}

// tinyGGUF exports the tiny model and changes the file.
func tinyGGUF(t *testing.T, dir string, change func([]byte) []byte) string {
	t.Helper()
	path := filepath.Join(dir, "model.gguf")
	mustSpin(t, "export", "--model", tiny, "--format", "gguf", "--output", path)
	data, err := os.ReadFile(path)
	must(t, err)
	must(t, os.WriteFile(path, change(data), 0o644))
	return path
}

// setJSON changes one field of a JSON object.
func setJSON(field string, value any) func([]byte) []byte {
	return func(data []byte) []byte {
		var m map[string]any
		if err := json.Unmarshal(data, &m); err != nil {
			panic(err)
		}
		m[field] = value
		data, err := json.Marshal(m)
		if err != nil {
			panic(err)
		}
		return data
	}
}

func half(data []byte) []byte { return data[:len(data)/2] }

// header replaces the JSON header of a safetensors file.
func header(text string) func([]byte) []byte {
	return func(data []byte) []byte {
		n := binary.LittleEndian.Uint64(data)
		return slices.Concat(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), []byte(text), data[8+n:])
	}
}

// listing is every file below dir with its content.
func listing(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			all[path] = "directory"
			return err
		}
		all[path] = read(t, path)
		return nil
	}))
	return all
}

// TestBadInput: whatever is wrong with flags and files, there is one line that says what and where,
// exit code 2, and no file is made, changed or left half-written.
func TestBadInput(t *testing.T) {
	const row = `{"prompt": "Hello", "response": "Hi"}` + "\n"
	long := strings.Repeat("many words ", 500)
	f := func(name, want string, args func(t *testing.T, dir string) []string) {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			line := args(t, dir)
			before := listing(t, dir)
			code, stdout, stderr := spin(t.Context(), "", line...)
			if code != 2 || stdout != "" {
				t.Errorf("exit %d, stdout %q, %s", code, stdout, stderr)
			}
			if !strings.HasPrefix(stderr, "spin: ") || strings.Count(stderr, "\n") != 1 || !strings.HasSuffix(stderr, "\n") || !strings.Contains(stderr, want) || len(stderr) > 500 {
				t.Errorf("stderr %q, want one line with %q", stderr, want)
			}
			for path, content := range listing(t, dir) {
				if b, ok := before[path]; !ok || b != content {
					t.Errorf("%s was made or changed", path)
				}
				delete(before, path)
			}
			for path := range before {
				t.Errorf("%s is gone", path)
			}
		})
	}

	// Each command that reads a model, on each way a model can be broken.
	models := []struct {
		name, want string
		path       func(t *testing.T, dir string) string
	}{
		{"missing", "nothing-here", func(t *testing.T, dir string) string { return filepath.Join(dir, "nothing-here") }},
		{"empty folder", dirOnly, func(t *testing.T, dir string) string { return dir }},
		{"GGUF truncated", "model.gguf", func(t *testing.T, dir string) string { return tinyGGUF(t, dir, half) }},
		{"GGUF cut in the header", "model.gguf", func(t *testing.T, dir string) string {
			return tinyGGUF(t, dir, func(data []byte) []byte { return data[:100] })
		}},
		{"GGUF with a lying count", "model.gguf", func(t *testing.T, dir string) string {
			return tinyGGUF(t, dir, func(data []byte) []byte {
				binary.LittleEndian.PutUint64(data[8:], 1<<60) // tensors
				return data
			})
		}},
		{"GGUF of version 9", "version", func(t *testing.T, dir string) string {
			return tinyGGUF(t, dir, func(data []byte) []byte { data[4] = 9; return data })
		}},
		{"GGUF of an unknown architecture", "xlama", func(t *testing.T, dir string) string {
			return tinyGGUF(t, dir, func(data []byte) []byte { return bytes.Replace(data, []byte("llama"), []byte("xlama"), 1) })
		}},
		{"no config.json", "config.json", func(t *testing.T, dir string) string { return tinyWith(t, dir, "config.json", nil) }},
		{"config.json truncated", "config.json", func(t *testing.T, dir string) string { return tinyWith(t, dir, "config.json", half) }},
		{"config.json of another architecture", "gpt2", func(t *testing.T, dir string) string {
			return tinyWith(t, dir, "config.json", setJSON("model_type", "gpt2"))
		}},
		{"config.json asks for absurd memory", "hidden_size", func(t *testing.T, dir string) string {
			return tinyWith(t, dir, "config.json", setJSON("hidden_size", 1<<40))
		}},
		{"config.json with zero heads", "num_attention_heads", func(t *testing.T, dir string) string {
			return tinyWith(t, dir, "config.json", setJSON("num_attention_heads", 0))
		}},
		{"config.json that the weights do not fit", "shape", func(t *testing.T, dir string) string {
			return tinyWith(t, dir, "config.json", setJSON("intermediate_size", 256))
		}},
		{"no weights", "safetensors", func(t *testing.T, dir string) string { return tinyWith(t, dir, "model.safetensors", nil) }},
		{"weights truncated", "model.safetensors", func(t *testing.T, dir string) string { return tinyWith(t, dir, "model.safetensors", half) }},
		{"weights with a lying header length", "model.safetensors", func(t *testing.T, dir string) string {
			return tinyWith(t, dir, "model.safetensors", func(data []byte) []byte {
				binary.LittleEndian.PutUint64(data, 1<<62)
				return data
			})
		}},
		{"weights with a broken header", "model.safetensors", func(t *testing.T, dir string) string { return tinyWith(t, dir, "model.safetensors", header("{")) }},
		{"weights beyond the file", "model.safetensors", func(t *testing.T, dir string) string {
			return tinyWith(t, dir, "model.safetensors", header(`{"model.norm.weight":{"dtype":"F32","shape":[1048576,1048576],"data_offsets":[0,4398046511104]}}`))
		}},
		{"a weight is missing", "model.norm.weight", func(t *testing.T, dir string) string {
			return tinyWith(t, dir, "model.safetensors", func(data []byte) []byte {
				return bytes.Replace(data, []byte("model.norm.weight"), []byte("model.form.weight"), 1)
			})
		}},
		{"no tokenizer.json", "tokenizer.json", func(t *testing.T, dir string) string { return tinyWith(t, dir, "tokenizer.json", nil) }},
		{"tokenizer.json truncated", "tokenizer", func(t *testing.T, dir string) string { return tinyWith(t, dir, "tokenizer.json", half) }},
		{"tokenizer.json is a list", "tokenizer", func(t *testing.T, dir string) string {
			return tinyWith(t, dir, "tokenizer.json", func([]byte) []byte { return []byte("[]") })
		}},
		{"tokenizer larger than the vocabulary", "vocab_size", func(t *testing.T, dir string) string {
			return tinyWith(t, dir, "tokenizer.json", func(data []byte) []byte {
				added := `"added_tokens": [{"id": 512, "content": "<one more>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},`
				return bytes.Replace(data, []byte(`"added_tokens": [`), []byte(added), 1)
			})
		}},
		{"chat template is broken", "template", func(t *testing.T, dir string) string {
			return tinyWith(t, dir, "chat_template.jinja", func([]byte) []byte { return []byte("{% for %}") })
		}},
	}
	for _, m := range models {
		for _, command := range []string{"score", "train", "chat", "export"} {
			if command == "chat" && m.name == "config.json that the weights do not fit" {
				continue // the same code as score's
			}
			want := m.want
			f(command+"/"+m.name, want, func(t *testing.T, dir string) []string {
				path := m.path(t, dir)
				switch command {
				case "score":
					return []string{"score", "--model", path, "--in", write(t, t.TempDir(), "in.jsonl", row), "--output", filepath.Join(dir, "out.jsonl")}
				case "train":
					return []string{"train", "--model", path, "--pairs", pairs, "--dir", filepath.Join(dir, "out"), "--metrics", filepath.Join(dir, "metrics"), "--summary", filepath.Join(dir, "summary")}
				case "chat":
					return []string{"chat", "--model", path, "--prompt", "Hello"}
				}
				return []string{"export", "--model", path, "--output", filepath.Join(dir, "out")}
			})
		}
	}

	// The files of answers and pairs.
	for _, in := range []struct{ name, want, content string }{
		{"broken line", ":2: ", row + `{"prompt": "Hello", "resp` + "\n"},
		{"not UTF-8", ":1: ", "{\"prompt\": \"\xff\", \"response\": \"Hi\"}\n"},
		{"no known fields", ":1: no known fields", `{"question": "Hello", "answer": "Hi"}` + "\n"},
		{"empty answer", ":2: ", row + `{"prompt": "Hello", "response": "", "chosen": "", "rejected": "Hi"}` + "\n"},
		{"unknown role", `"wizard"`, `{"messages": [{"role": "wizard", "content": "x"}, {"role": "assistant", "content": "y"}]}` + "\n"},
		{"last word is the user's", ":1: ", `{"messages": [{"role": "assistant", "content": "x"}, {"role": "user", "content": "y"}]}` + "\n"},
		{"beyond the context", ":2: prompt and answer have", row + `{"prompt": "` + long + `", "response": "Hi"}` + "\n"},
		{"empty file", "in.jsonl", ""},
	} {
		f("score/"+in.name, in.want, func(t *testing.T, dir string) []string {
			return []string{"score", "--model", tiny, "--in", write(t, dir, "in.jsonl", in.content), "--output", filepath.Join(dir, "out.jsonl")}
		})
	}
	const pair = `{"prompt": "Hello", "chosen": "Hi", "rejected": "Bye"}` + "\n"
	for _, in := range []struct{ name, want, content string }{
		{"broken line", ":3: ", pair + "\n" + `{"prompt": "Hello", ` + "\n"},
		{"empty answer", ":2: ", pair + `{"prompt": "Hello", "chosen": "Hi", "rejected": " "}` + "\n"},
		{"no generated answer", ":1: no known fields", row},
		{"different prompts", ":1: the two answers have different prompts", `{"real": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "x"}], "generated": [{"role": "user", "content": "b"}, {"role": "assistant", "content": "y"}]}` + "\n"},
		{"beyond the context", ":2: prompt and answer have", pair + `{"prompt": "Hello", "chosen": "` + long + `", "rejected": "Bye"}` + "\n"},
		{"empty file", "in.jsonl", "\n\n"},
	} {
		f("train/"+in.name, in.want, func(t *testing.T, dir string) []string {
			return []string{"train", "--model", tiny, "--pairs", write(t, dir, "in.jsonl", in.content), "--dir", filepath.Join(dir, "out"), "--metrics", filepath.Join(dir, "metrics"), "--summary", filepath.Join(dir, "summary")}
		})
	}

	// Flags and places.
	full := func(t *testing.T, dir string, args ...string) []string {
		defaults := map[string][]string{
			"score":  {"--model", tiny, "--in", write(t, dir, "in.jsonl", row)},
			"train":  {"--model", tiny, "--pairs", pairs, "--dir", filepath.Join(dir, "out"), "--metrics", filepath.Join(dir, "metrics"), "--summary", filepath.Join(dir, "summary")},
			"chat":   {"--model", tiny, "--prompt", "Hello"},
			"export": {"--model", tiny, "--output", filepath.Join(dir, "out")},
		}
		return slices.Concat(args[:1], defaults[args[0]], args[1:])
	}
	for _, c := range []struct {
		want string
		args []string
	}{
		{"--no-such-flag", []string{"score", "--no-such-flag"}},
		{"takes no argument", []string{"score", "extra"}},
		{"--dtype", []string{"score", "--dtype", "f8"}},
		{"--device", []string{"score", "--device", "abacus"}},
		{"threads", []string{"score", "--threads", "-1"}},
		{"invalid argument", []string{"score", "--threads", "two"}},
		{"nowhere.jsonl", []string{"score", "--in", "nowhere.jsonl"}},
		{"nowhere/", []string{"score", "--output", "nowhere/out.jsonl"}},
		{"--no-such-flag", []string{"train", "--no-such-flag"}},
		{"nowhere.jsonl", []string{"train", "--pairs", "nowhere.jsonl"}},
		{"--objective", []string{"train", "--objective", "dpo"}},
		{"--loss", []string{"train", "--loss", "quadratic"}},
		{"beta", []string{"train", "--beta", "NaN"}},
		{"--optimizer", []string{"train", "--optimizer", "sgd"}},
		{"--schedule", []string{"train", "--schedule", "steps"}},
		{"learning rate", []string{"train", "--lr", "-1"}},
		{"--warmup", []string{"train", "--warmup", "NaN"}},
		{"--max-grad-norm", []string{"train", "--max-grad-norm", "-1"}},
		{"alpha", []string{"train", "--alpha", "1"}},
		{"weight decay", []string{"train", "--weight-decay", "-1"}},
		{"--batch", []string{"train", "--batch", "0"}},
		{"--memory", []string{"train", "--memory", "lots"}},
		{"--lora-rank", []string{"train", "--lora-rank", "-1"}},
		{"--lora-alpha", []string{"train", "--lora-rank", "4", "--lora-alpha", "0"}},
		{":1: the pair has", []string{"train", "--micro-tokens", "8"}},
		{"--dir", []string{"train", "--dir", "nowhere/out"}},
		{"--dir", []string{"train", "--dir", "."}},
		{"--summary", []string{"train", "--summary", "nowhere/summary.json"}},
		{"nowhere/", []string{"train", "--metrics", "nowhere/metrics.jsonl"}},
		{"--no-such-flag", []string{"chat", "--no-such-flag"}},
		{"temperature", []string{"chat", "--temperature", "-1"}},
		{"top_p", []string{"chat", "--top-p", "0"}},
		{"top_k", []string{"chat", "--top-k", "-1"}},
		{"max new tokens", []string{"chat", "--max-new-tokens", "0"}},
		{"the model's context is 256", []string{"chat", "--prompt", long}},
		{"empty", []string{"chat", "--prompt", " "}},
		{"--format", []string{"export", "--format", "onnx"}},
		{"--dtype", []string{"export", "--dtype", "q8_0"}},
		{"--dtype", []string{"export", "--format", "gguf", "--output", "model.gguf", "--dtype", "q2_k"}},
		{".gguf", []string{"export", "--format", "gguf"}},
		{"exists already", []string{"export", "--output", "."}},
		{"something else than a checkpoint", []string{"export", "--output", ".", "--replace"}},
		{"nowhere/", []string{"export", "--output", "nowhere/out"}},
	} {
		f(strings.Join(c.args, " ")[:min(len(strings.Join(c.args, " ")), 60)], c.want, func(t *testing.T, dir string) []string { return full(t, dir, c.args...) })
	}
	f("no command", "unknown command", func(*testing.T, string) []string { return []string{"scores"} })
	f("no --in", "--in is missing", func(*testing.T, string) []string { return []string{"score", "--model", tiny} })
	f("no --pairs", "--pairs is missing", func(*testing.T, string) []string { return []string{"train", "--model", tiny} })
	f("no --output", "--output is missing", func(*testing.T, string) []string { return []string{"export", "--model", tiny} })
	f("no default model", "make model", func(t *testing.T, dir string) []string {
		t.Setenv("SPIN_CACHE", dir)
		return []string{"chat", "--prompt", "Hello"}
	})
}

// dirOnly is what a folder without a model is told.
const dirOnly = "config.json"
