package harness

import (
	"strings"
	"testing"
)

func TestBuiltinTasks(t *testing.T) {
	n := 0
	for _, name := range Names() {
		tasks, err := Load(name)
		if err != nil {
			t.Fatal(err)
		}
		n += len(tasks)
	}
	if n < 68 { // 57 of them MMLU's
		t.Errorf("%d tasks", n)
	}
	anatomy, err := Load("mmlu_anatomy")
	if err != nil || len(anatomy) != 1 || anatomy[0].Group != "mmlu" || !strings.Contains(anatomy[0].Description, "about anatomy.") {
		t.Errorf("mmlu_anatomy: %+v, %v", anatomy, err)
	}
}

func TestBadTasks(t *testing.T) {
	for _, c := range []struct{ yaml, want string }{
		{"task: a\noutput_type: multiple_choice\ntest_split: test\nmetric_list: [{metric: acc}]", "doc_to_choice is missing"},
		{"task: a\noutput_type: x\ntest_split: test", "output_type \"x\", want"},
		{"output_type: generate_until", "its name"},
		{"task: a\noutput_type: generate_until\ndoc_to_txt: x", "doc_to_txt"},
		{"task: a\noutput_type: generate_until\ntest_split: t\nmetric_list: [{metric: exact_match, regexes_to_ignore: ['(']}]", "metric exact_match"},
		{"task: a\noutput_type: generate_until\ntest_split: t\nprocess: none\nmetric_list: [{metric: exact_match}]", "process \"none\" is none of ours"},
	} {
		if _, err := parse([]byte(c.yaml), "x.yaml"); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.yaml, err, c.want)
		}
	}
}

// TestPrepared: rows in the shapes that people have become the documents that lm-eval's own Python makes of theirs.
func TestPrepared(t *testing.T) {
	var d Document
	if err := d.UnmarshalJSON([]byte(`{"input": "What is it?", "target_scores": {"z": 0, "b": 1, "a": 0}}`)); err != nil {
		t.Fatal(err)
	}
	out, err := bigbench(d)
	if err != nil || out["inputs"] != "Q: What is it?\n  choice: z\n  choice: b\n  choice: a\nA:" {
		t.Errorf("%v %v", out, err)
	}
	out, err = truthfulCSV(Document{"Question": "Why?", "Best Answer": "B", "Correct Answers": "A; B; ", "Incorrect Answers": "C;D"})
	if err != nil {
		t.Fatal(err)
	}
	one, _ := out.path("mc1_targets.choices")
	two, _ := out.path("mc2_targets.labels")
	if len(one.([]any)) != 3 || len(two.([]any)) != 4 {
		t.Errorf("%v %v", one, two)
	}
	for _, bad := range []Document{{}, {"input": 3.0}, {"sentence": "no gap", "option1": "", "option2": "", "answer": "1"}} {
		for _, name := range []string{"hellaswag", "winogrande", "bigbench", "truthfulqa_csv", "wikitext"} {
			if _, err := processor(name)(bad); err == nil {
				t.Errorf("%s takes %v", name, bad)
			}
		}
	}
}
