package harness

import (
	"bytes"
	"strings"
	"testing"
)

// FuzzRows: no file of data makes the readers or a task panic.
func FuzzRows(f *testing.F) {
	f.Add([]byte(`{"question": "Why?", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "B"}`))
	f.Add([]byte(`{"examples": [{"input": "x", "target_scores": {"a": 1, "b": 0}}]}`))
	f.Add([]byte("Question,Best Answer,Correct Answers,Incorrect Answers\nWhy?,a,a;b,c\n"))
	f.Add([]byte("PAR1"))
	var tasks []*Task
	for _, name := range []string{"arc_easy", "hellaswag", "winogrande", "truthfulqa_mc2", "gsm8k", "wikitext", "bigbench_strategyqa"} {
		t, err := Load(name)
		if err != nil {
			f.Fatal(err)
		}
		tasks = append(tasks, t...)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var all []Document
		for _, read := range []func() ([]Document, error){
			func() ([]Document, error) { return readLines(bytes.NewReader(data)) },
			func() ([]Document, error) { return readJSON(bytes.NewReader(data)) },
			func() ([]Document, error) { return readCSV(bytes.NewReader(data)) },
			func() ([]Document, error) { return readParquet(bytes.NewReader(data), int64(len(data))) },
		} {
			if rows, err := read(); err == nil {
				all = append(all, rows...)
			}
		}
		for _, task := range tasks {
			for _, d := range all {
				if task.Process != "" {
					var err error
					if d, err = processor(task.Process)(d); err != nil || d == nil {
						continue
					}
				}
				q, err := task.question(d, nil)
				if err != nil {
					continue
				}
				a := Answer{LogLikelihoods: make([]float64, max(1, len(q.Pairs))), Greedy: make([]bool, len(q.Pairs)), Text: strings.Repeat("#### 1 ", 3)}
				_, _ = task.Judge(q, a)
			}
		}
	})
}
