package harness

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
)

// processor returns what makes a task's documents of its rows: what lm-eval's YAML calls Python for. A row for which it
// returns nil is left out.
func processor(name string) func(Document) (Document, error) {
	return map[string]func(Document) (Document, error){
		"hellaswag":      hellaswag,
		"winogrande":     winogrande,
		"bigbench":       bigbench,
		"truthfulqa_csv": truthfulCSV,
		"wikitext":       wikitext,
	}[name]
}

var brackets = regexp.MustCompile(`\[.*?\]`)

// hellaswag is lm_eval/tasks/hellaswag/utils.py.
func hellaswag(d Document) (Document, error) {
	clean := func(s string) string {
		s = strings.TrimFunc(s, unicode.IsSpace)
		s = strings.ReplaceAll(s, " [title]", ". ")
		s = brackets.ReplaceAllString(s, "")
		return strings.ReplaceAll(s, "  ", " ")
	}
	a, err := d.texts("ctx_a", "ctx_b", "activity_label")
	if err != nil {
		return nil, err
	}
	endings, err := texts(d["endings"])
	if err != nil {
		return nil, fmt.Errorf("endings: %w", err)
	}
	out := Document{"query": clean(a[2] + ": " + a[0] + " " + capitalize(a[1])), "label": d["label"]}
	choices := make([]any, len(endings))
	for i, e := range endings {
		choices[i] = clean(e)
	}
	out["choices"] = choices
	return out, nil
}

// capitalize is Python's str.capitalize: the first letter upper, all others lower.
func capitalize(s string) string {
	r := []rune(strings.ToLower(s))
	if len(r) > 0 {
		r[0] = unicode.ToTitle(r[0])
	}
	return string(r)
}

// winogrande is lm_eval/tasks/winogrande/preprocess_winogrande.py: each option is put into the gap, and what follows it is
// scored (arXiv 1806.02847).
func winogrande(d Document) (Document, error) {
	f, err := d.texts("sentence", "option1", "option2", "answer")
	if err != nil {
		return nil, err
	}
	before, after, ok := strings.Cut(f[0], "_")
	if !ok {
		return nil, fmt.Errorf("sentence %q has no gap", f[0])
	}
	right, ok := map[string]float64{"1": 0, "2": 1}[f[3]]
	if !ok {
		return nil, fmt.Errorf("answer %q, want 1 or 2", f[3])
	}
	return Document{"choices": []any{before + f[1], before + f[2]}, "right": right, "rest": strings.TrimFunc(after, unicode.IsSpace)}, nil
}

// bigbench takes a row of the hub's BIG-bench (inputs, targets, multiple_choice_targets, multiple_choice_scores), or an example of a
// task.json (input, target_scores), which it puts as BIG-bench's own json_task.py does: "Q: …", a line a choice, "A:".
func bigbench(d Document) (Document, error) {
	if list, ok := d["multiple_choice_targets"].([]any); ok {
		if len(list) == 0 {
			return nil, nil
		}
		return d, nil
	}
	input, ok := d["input"].(string)
	scores, ok2 := d["target_scores"].(ordered)
	if !ok || !ok2 || len(scores) == 0 {
		return nil, fmt.Errorf("want input and target_scores, or multiple_choice_targets and multiple_choice_scores")
	}
	var b strings.Builder
	b.WriteString("Q: " + input)
	var targets, values []any
	for _, s := range scores {
		b.WriteString("\n  choice: " + s.key)
		targets, values = append(targets, s.key), append(values, s.value)
	}
	b.WriteString("\nA:")
	return Document{"inputs": b.String(), "multiple_choice_targets": targets, "multiple_choice_scores": values}, nil
}

// truthfulCSV makes the choices of the hub's TruthfulQA of a row of the authors' TruthfulQA.csv: mc1 has the best answer
// and the incorrect ones, mc2 all correct and incorrect ones (arXiv 2109.07958, section 3.1).
func truthfulCSV(d Document) (Document, error) {
	if d["mc1_targets"] != nil {
		return d, nil
	}
	f, err := d.texts("Question", "Best Answer", "Correct Answers", "Incorrect Answers")
	if err != nil {
		return nil, fmt.Errorf("want mc1_targets and mc2_targets, or the columns of TruthfulQA.csv: %w", err)
	}
	split := func(s string) (out []string) {
		for part := range strings.SplitSeq(s, ";") {
			if part = strings.TrimSpace(part); part != "" {
				out = append(out, part)
			}
		}
		return out
	}
	targets := func(right, wrong []string) map[string]any {
		var choices, labels []any
		for _, s := range right {
			choices, labels = append(choices, s), append(labels, 1.0)
		}
		for _, s := range wrong {
			choices, labels = append(choices, s), append(labels, 0.0)
		}
		return map[string]any{"choices": choices, "labels": labels}
	}
	wrong := split(f[3])
	return Document{
		"question":    f[0],
		"mc1_targets": targets([]string{strings.TrimSpace(f[1])}, wrong), "mc2_targets": targets(split(f[2]), wrong),
	}, nil
}

// detokenizer is lm_eval/tasks/wikitext/preprocess_wikitext.py, rule by rule.
var detokenizer = []struct {
	from *regexp.Regexp
	to   string
}{
	{regexp.MustCompile(`s '`), "s'"}, {regexp.MustCompile(`/' [0-9]/`), "/'[0-9]/"}, {regexp.MustCompile(` @-@ `), "-"},
	{regexp.MustCompile(` @,@ `), ","}, {regexp.MustCompile(` @\.@ `), "."}, {regexp.MustCompile(` : `), ": "}, {regexp.MustCompile(` ; `), "; "},
	{regexp.MustCompile(` \. `), ". "}, {regexp.MustCompile(` ! `), "! "}, {regexp.MustCompile(` \? `), "? "}, {regexp.MustCompile(` , `), ", "},
	{regexp.MustCompile(`\(\s*([^\)]*?)\s*\)`), "(${1})"}, {regexp.MustCompile(`\[\s*([^\]]*?)\s*\]`), "[${1}]"}, {regexp.MustCompile(`{\s*([^}]*?)\s*}`), "{${1}}"},
	{regexp.MustCompile(`"\s*([^"]*?)\s*"`), `"${1}"`}, {regexp.MustCompile(`'\s*([^']*?)\s*'`), "'${1}'"},
	{regexp.MustCompile(`= = = =`), "===="}, {regexp.MustCompile(`= = =`), "==="}, {regexp.MustCompile(`= =`), "=="}, {regexp.MustCompile(` ° `), "°"},
	{regexp.MustCompile(` \n`), "\n"}, {regexp.MustCompile(`\n `), "\n"}, {regexp.MustCompile(` N `), " 1 "}, {regexp.MustCompile(` 's`), "'s"},
}

func wikitext(d Document) (Document, error) {
	f, err := d.texts("page")
	if err != nil {
		return nil, err
	}
	s := f[0]
	for _, rule := range detokenizer {
		s = rule.from.ReplaceAllString(s, rule.to)
	}
	return Document{"page": f[0], "text": s}, nil
}

// texts are the document's strings of these names.
func (d Document) texts(names ...string) ([]string, error) {
	out := make([]string, len(names))
	for i, name := range names {
		s, ok := d[name].(string)
		if !ok {
			return nil, fmt.Errorf("no text %s", name)
		}
		out[i] = s
	}
	return out, nil
}
