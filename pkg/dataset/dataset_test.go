package dataset

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/seed-8780d58e/spin/pkg/chat"
)

func say(turns ...string) []chat.Message {
	var messages []chat.Message
	for i, content := range turns {
		messages = append(messages, chat.Message{Role: []string{chat.User, chat.Assistant}[i%2], Content: content})
	}
	return messages
}

// A row is the same whatever layout it comes in.
func TestLayouts(t *testing.T) {
	for _, line := range []string{
		`{"messages":[{"role":"user","content":"Why? 東京"},{"role":"assistant","content":"Because."}]}`,
		`{"id": 7, "messages":[{"content":"Why? \u6771\u4eac","role":"user","name":"x"},{"role":"assistant","content":"Because."}], "source": "y"}`,
		`{"prompt":"Why? 東京","response":"Because."}`,
		`{"prompt":"Why? 東京","chosen":"Because.","rejected":"No."}`,
		`{"prompt":"Why? 東京","chosen":[{"role":"user","content":"Why? 東京"},{"role":"assistant","content":"Because."}]}`,
		`{"prompt":[{"role":"user","content":"Why? 東京"}],"chosen":[{"role":"assistant","content":"Because."}]}`,
		`{"real":[{"role":"user","content":"Why? 東京"},{"role":"assistant","content":"Because."}],"generated":[{"role":"user","content":"x"}]}`,
	} {
		rows, skipped, err := Read(strings.NewReader("\ufeff"+line+"\r\n\n"), "in", Options{})
		want := []Row{{PromptID: "09bdfdaf96cd9d83", Prompt: say("Why? 東京"), Response: "Because.", Place: "in:1"}}
		if err != nil || len(skipped) > 0 || !reflect.DeepEqual(rows, want) {
			t.Errorf("%s:\n%+v %v %v, want\n%+v", line, rows, skipped, err, want)
		}
	}
}

func TestPairLayouts(t *testing.T) {
	for _, line := range []string{
		`{"real":[{"role":"user","content":"Why?"},{"role":"assistant","content":"So."}],"generated":[{"role":"user","content":"Why?"},{"role":"assistant","content":"No."}]}`,
		`{"prompt":"Why?","chosen":"So.","rejected":"No."}`,
		`{"prompt":[{"role":"user","content":"Why?"}],"chosen":[{"role":"assistant","content":"So."}],"rejected":[{"role":"assistant","content":"No."}]}`,
	} {
		path := filepath.Join(t.TempDir(), "pairs.jsonl")
		if err := os.WriteFile(path, []byte(line), 0o600); err != nil {
			t.Fatal(err)
		}
		pairs, _, err := OpenPairs(path, Options{})
		if err != nil || len(pairs) != 1 || pairs[0].Response != "So." || pairs[0].Generated != "No." || !slices.Equal(pairs[0].Prompt, say("Why?")) {
			t.Errorf("%s: %+v, %v", line, pairs, err)
		}
	}
}

func TestParquet(t *testing.T) {
	first := Row{PromptID: "09bdfdaf96cd9d83", Prompt: say("Why? 東京"), Response: "Because."}
	for name, want := range map[string][]Row{
		"messages": {first, {Prompt: say("And?", "Because.", "Why? 東京"), Response: "No."}},
		"response": {{Prompt: say("Why?"), Response: "So."}, {Prompt: say("How?"), Response: "Thus."}, {Prompt: say("Why?"), Response: "So."}},
		"chosen":   {first},
	} {
		rows, _, err := Open(filepath.Join("testdata", name+".parquet"), Options{Duplicates: true})
		for i := range want {
			want[i].PromptID = PromptID(want[i].Prompt)
			want[i].Place = fmt.Sprintf("testdata/%s.parquet: row %d", name, i+1)
		}
		if err != nil || !reflect.DeepEqual(rows, want) {
			t.Errorf("%s: %+v, %v, want %+v", name, rows, err, want)
		}
	}
	pairs, _, err := OpenPairs("testdata/pairs.parquet", Options{})
	if err != nil || len(pairs) != 1 || pairs[0].PromptID != first.PromptID || pairs[0].Response != "Because." || pairs[0].Generated != "No." {
		t.Errorf("pairs: %+v, %v", pairs, err)
	}
}

// A bad row is named by file and line, with what would be right; SkipBad lists it and goes on.
func TestBadRows(t *testing.T) {
	good := `{"prompt":"a","response":"b"}` + "\n"
	for _, c := range []struct{ line, want string }{
		{`{"prompt":"x"`, "in:2: unexpected end of JSON input: want one JSON object a line"},
		{`["x"]`, "in:2: json: cannot unmarshal array"},
		{`null`, "in:2: no known fields: want {"},
		{`{"prompt":"x"}`, "in:2: no known fields: want {"},
		{`{"prompt":" ","response":"y"}`, "in:2: message 1, the user's, is empty"},
		{`{"prompt":"x","response":""}`, "in:2: message 2, the assistant's, is empty"},
		{`{"messages":[]}`, "in:2: 0 messages, want"},
		{`{"messages":[{"role":"user","content":"x"},{"role":"user","content":"y"}]}`, "in:2: the last message is the user's"},
		{`{"messages":[{"role":"system","content":"x"},{"role":"assistant","content":"y"}]}`, "in:2: the message before the answer is the system's"},
		{`{"messages":[{"role":"human","content":"x"},{"role":"gpt","content":"y"}]}`, `in:2: message 1 has role "human", want system`},
		{`{"messages":[{"from":"human","value":"x"},{"from":"gpt","value":"y"}]}`, `in:2: message 1 has role "", want`},
		{`{"prompt":"a","response":"c"}`, "in:2: the same prompt as in:1, want each prompt once"},
		{"{\"prompt\":\"\xff\",\"response\":\"c\"}", "in:2: not UTF-8"},
	} {
		text := good + c.line + "\n" + `{"prompt":"z","response":"b"}`
		rows, _, err := Read(strings.NewReader(text), "in", Options{})
		if rows != nil || err == nil || !strings.HasPrefix(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %q", c.line, err, c.want)
		}
		rows, skipped, err := Read(strings.NewReader(text), "in", Options{SkipBad: true})
		if err != nil || len(rows) != 2 || len(skipped) != 1 || !strings.HasPrefix(skipped[0].Error(), c.want) {
			t.Errorf("%s: SkipBad gives %v, %v, %v", c.line, rows, skipped, err)
		}
	}
	for _, text := range []string{"", "\n\n", "{}"} {
		if _, _, err := Read(strings.NewReader(text), "in", Options{SkipBad: true}); err == nil || !strings.Contains(err.Error(), "no usable rows") {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, _, err := Read(strings.NewReader(good+strings.Repeat("x", maxLine+1)), "in", Options{SkipBad: true}); err == nil || !strings.HasPrefix(err.Error(), "in:2: a line of more than") {
		t.Errorf("a long line: %v", err)
	}
	if _, _, err := OpenPairs("testdata/messages.parquet", Options{}); err == nil || !strings.Contains(err.Error(), "rejected") {
		t.Errorf("no pairs: %v", err)
	}
}

func TestPromptID(t *testing.T) {
	ids := map[string]string{}
	for name, prompt := range map[string][]chat.Message{
		"one": say("ab"), "moved": {{Role: "usera", Content: "b"}}, "two": say("a", "b"), "system": {{Role: chat.System, Content: "ab"}}, "none": nil,
	} {
		id := PromptID(prompt)
		if other, ok := ids[id]; ok || len(id) != 16 {
			t.Errorf("%s and %s: %s", name, other, id)
		}
		ids[id] = name
	}
}

func TestSplit(t *testing.T) {
	var rows []Row
	for i := range 300 {
		prompt := say(fmt.Sprint(i))
		rows = append(rows, Row{PromptID: PromptID(prompt), Prompt: prompt, Group: fmt.Sprint(i / 3)})
	}
	train, heldout, err := Split(rows, 100, 50, 1)
	if err != nil || len(train) != 100 || len(heldout) != 50 {
		t.Fatal(len(train), len(heldout), err)
	}
	groups, prompts := map[string]string{}, map[string]bool{}
	for side, list := range map[string][]Row{"train": train, "heldout": heldout} {
		for _, row := range list {
			if other := groups[row.Group]; other != "" && other != side || prompts[row.PromptID] {
				t.Errorf("group %s, prompt %s on both sides, or twice", row.Group, row.PromptID)
			}
			groups[row.Group], prompts[row.PromptID] = side, true
		}
	}
	shuffled := slices.Clone(rows)
	rand.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	again, heldoutAgain, err := Split(shuffled, 100, 50, 1)
	if err != nil || !reflect.DeepEqual(train, again) || !reflect.DeepEqual(heldout, heldoutAgain) {
		t.Error("another order of rows gives another split")
	}
	if other, _, _ := Split(rows, 100, 50, 2); reflect.DeepEqual(other, train) {
		t.Error("another seed gives the same split")
	}
	if rest, _, err := Split(rows, -1, 0, 1); err != nil || len(rest) != len(rows) {
		t.Error(len(rest), err)
	}
	if _, _, err := Split(rows, 299, 2, 1); err == nil || !strings.Contains(err.Error(), "want 299 and 2") {
		t.Error(err)
	}
}

func TestChitChat(t *testing.T) {
	rows, err := ChitChat("testdata/chitchat.json")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile("testdata/chitchat.rows.json")
	if err != nil {
		t.Fatal(err)
	}
	var want []struct{ Group, Prompt, Response string }
	if err := json.Unmarshal(data, &want); err != nil {
		t.Fatal(err)
	}
	if len(rows) != len(want) || len(want) < 5 {
		t.Fatalf("%d rows, want %d", len(rows), len(want))
	}
	for i, w := range want {
		if r := rows[i]; r.Group != w.Group || !slices.Equal(r.Prompt, say(w.Prompt)) || r.Response != w.Response {
			t.Errorf("row %d: %+v, want %+v", i, r, w)
		}
	}
}

// The whole set, where `make` has fetched it.
func TestWholeChitChat(t *testing.T) {
	dir := os.Getenv("SPIN_CACHE")
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Skip(err)
		}
		dir = filepath.Join(cache, "spin")
	}
	path := filepath.Join(dir, "chitchat", "dataset.json")
	if _, err := os.Stat(path); err != nil && os.Getenv("SPIN_MODEL_REQUIRED") == "" {
		t.Skipf("%v: `make answers` fetches it", err)
	}
	rows, err := ChitChat(path)
	if err != nil {
		t.Fatal(err)
	}
	groups, prompts := map[string]bool{}, map[string]bool{}
	for _, row := range rows {
		if groups[row.Group] || prompts[row.PromptID] {
			t.Errorf("%s: the conversation or its prompt comes twice", row.Place)
		}
		groups[row.Group], prompts[row.PromptID] = true, true
	}
	if _, _, err := Split(rows, 192, 64, 1); err != nil {
		t.Error(err)
	}
	t.Logf("%d rows", len(rows))
}

func TestFilter(t *testing.T) {
	f := newFilter()
	prompt, reply := "what is it that you like?", "I like to read about the old days and to walk along the river with my dog"
	if !f.keep(prompt, reply) {
		t.Fatal("an ordinary pair isn't kept")
	}
	for _, tail := range []string{"shit", "you Bastard", "call 801-555-0123", "call (801) 555 0123", "at 12 N Main Street", "at 1234 Elm Ave", "a@b.org",
		"see https://x", "see www.x", "it's on example.com", "I'm @bob_1", "my insta is bob", "my Snapchat: bob", "facebook name bob"} {
		if f.keep(prompt, reply+" "+tail) {
			t.Errorf("%q is kept", tail)
		}
	}
	for _, tail := range []string{"in 2018", "with 10 friends", "on facebook and twitter", "in class", "the cockpit", "Scunthorpe", "1,000 times", "at 7:30"} {
		if !f.keep(prompt, reply+" "+tail) {
			t.Errorf("%q isn't kept", tail)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"y"}]}`), true)
	f.Add([]byte(`{"prompt":"x","chosen":[{"role":"assistant","content":"y"}],"rejected":"z"}`), false)
	f.Fuzz(func(t *testing.T, data []byte, skip bool) {
		rows, skipped, err := Read(bytes.NewReader(data), "in", Options{SkipBad: skip})
		if err == nil && len(rows) == 0 || !skip && len(skipped) > 0 {
			t.Errorf("%v %v %v", rows, skipped, err)
		}
		for _, row := range rows {
			if row.Response == "" || len(row.Prompt) == 0 || row.PromptID != PromptID(row.Prompt) {
				t.Errorf("%+v", row)
			}
		}
		collect("in", Options{SkipBad: true}, lines(bytes.NewReader(data), "in"), (*record).pair, func(p *Pair) *Row { return &p.Row })
	})
}

func FuzzChitChat(f *testing.F) {
	f.Add([]byte(`{"a":{"messages":[[{"text":"what is it that you like?","sender":"x"}],[{"text":"I like to read about the old days and to walk along the river with my dog","sender":"y"}]]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		rows, err := readChitChat(bytes.NewReader(data), "in")
		if err != nil && len(rows) > 0 {
			t.Errorf("%v %v", rows, err)
		}
	})
}

func FuzzParquet(f *testing.F) {
	for _, name := range []string{"messages", "response", "chosen", "pairs"} {
		data, err := os.ReadFile(filepath.Join("testdata", name+".parquet"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 {
			return
		}
		collect("in", Options{SkipBad: true}, parquetRows(bytes.NewReader(data), int64(len(data)), "in"), (*record).row, rowOf)
	})
}
