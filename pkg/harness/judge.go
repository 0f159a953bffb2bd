package harness

import (
	"fmt"
	"math"
	"regexp"
	"strings"
	"unicode/utf8"
)

// Answer is what a model says to a Question: the log-likelihood (nats) of each of its Pairs, and whether the continuation is what greedy
// decoding would give; or that of the Rolling text; or what it generated.
type Answer struct {
	LogLikelihoods []float64
	Greedy         []bool
	Text           string
}

// Verdict is a question's figures.
type Verdict struct {
	Values   map[string]float64 // by metric and filter as lm-eval names them, "acc,none"
	Weights  map[string]float64 // of perplexities: the words or bytes that Values' log-likelihood is of
	Filtered map[string]string  // of a generation, by filter
}

// Judge is ConfigurableTask.process_results.
func (t *Task) Judge(q Question, a Answer) (Verdict, error) {
	v := Verdict{Values: map[string]float64{}}
	switch t.OutputType {
	case MultipleChoice:
		if len(a.LogLikelihoods) != len(q.Pairs) {
			return v, fmt.Errorf("%d log-likelihoods for %d choices", len(a.LogLikelihoods), len(q.Pairs))
		}
		return v, t.judgeChoice(q, a, v.Values)
	case Rolling:
		v.Weights = map[string]float64{}
		page := *q.Rolling
		if s, ok := q.Row["page"].(string); ok { // wikitext counts the words and bytes before detokenizing
			page = s
		}
		for _, m := range t.Metrics {
			n := float64(len(page))
			if m.Name == "word_perplexity" {
				n = float64(len(spaces.Split(page, -1)))
			}
			v.Values[m.Name+",none"], v.Weights[m.Name+",none"] = a.LogLikelihoods[0], n
		}
		return v, nil
	}
	v.Filtered = map[string]string{}
	filters := t.Filters
	if len(filters) == 0 {
		filters = []FilterPipeline{{Name: "none"}}
	}
	for _, f := range filters {
		answer, err := f.apply(a.Text)
		if err != nil {
			return v, err
		}
		v.Filtered[f.Name] = answer
		for _, m := range t.Metrics {
			if m.Name != "exact_match" {
				return v, fmt.Errorf("metric %s is none of a generation's here, want exact_match", m.Name)
			}
			same, err := m.exactMatch(answer, q.Target)
			if err != nil {
				return v, err
			}
			v.Values[m.Name+","+f.Name] = same
		}
	}
	return v, nil
}

var spaces = regexp.MustCompile(`\s+`)

func (t *Task) judgeChoice(q Question, a Answer, out map[string]float64) error {
	for _, m := range t.Metrics {
		by := func(length func(string) int) float64 {
			best, value := 0, math.Inf(-1)
			for i, ll := range a.LogLikelihoods { // numpy's argmax: the first of equals
				if length != nil {
					ll /= float64(length(q.Choices[i]))
				}
				if ll > value {
					best, value = i, ll
				}
			}
			if best == q.Gold {
				return 1
			}
			return 0
		}
		switch {
		case m.Name == "acc" && t.Mass != "":
			mass, err := t.mass(q, a)
			if err != nil {
				return err
			}
			out["acc,none"] = mass
		case m.Name == "acc":
			out["acc,none"] = by(nil)
		case m.Name == "acc_norm":
			out["acc_norm,none"] = by(utf8.RuneCountInString)
		case m.Name == "acc_bytes":
			out["acc_bytes,none"] = by(func(s string) int { return len(s) })
		default:
			return fmt.Errorf("metric %s is none of multiple choice's here, want acc, acc_norm or acc_bytes", m.Name)
		}
	}
	return nil
}

// mass is the share of the choices' probability that the right ones have (truthfulqa's process_results_mc2).
func (t *Task) mass(q Question, a Answer) (float64, error) {
	v, err := q.Row.path(t.Mass)
	if err != nil {
		return 0, err
	}
	labels, ok := v.([]any)
	if !ok || len(labels) != len(a.LogLikelihoods) {
		return 0, fmt.Errorf("%s does not label the %d choices", t.Mass, len(a.LogLikelihoods))
	}
	right, all := 0.0, 0.0
	for i, ll := range a.LogLikelihoods {
		p := math.Exp(ll)
		if n, _ := number(labels[i]); n == 1 {
			right += p
		}
		all += p
	}
	return right / all, nil
}

// apply is the regex filter of lm_eval/filters/extraction.py, then take_first.
func (f FilterPipeline) apply(s string) (string, error) {
	if f.Regex == "" {
		return s, nil
	}
	const fallback = "[invalid]"
	re, err := compile(f.Regex)
	if err != nil {
		return "", err
	}
	matches := re.FindAllStringSubmatch(s, -1)
	i := f.Group
	if i < 0 {
		i += len(matches)
	}
	if i < 0 || i >= len(matches) {
		return fallback, nil
	}
	groups := matches[i]
	if len(groups) > 1 {
		groups = groups[1:]
	}
	for _, g := range groups {
		if g != "" || len(groups) == 1 {
			return strings.TrimSpace(g), nil
		}
	}
	return fallback, nil
}

// exactMatch is lm_eval/api/metrics.py, exact_match_hf_evaluate.
func (m Metric) exactMatch(answer, target string) (float64, error) {
	for _, pattern := range m.RegexesToIgnore {
		re, err := compile(pattern)
		if err != nil {
			return 0, err
		}
		answer, target = re.ReplaceAllString(answer, ""), re.ReplaceAllString(target, "")
	}
	if m.IgnoreCase {
		answer, target = strings.ToLower(answer), strings.ToLower(target)
	}
	if m.IgnorePunctuation {
		drop := func(r rune) rune {
			if strings.ContainsRune("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", r) {
				return -1
			}
			return r
		}
		answer, target = strings.Map(drop, answer), strings.Map(drop, target)
	}
	if answer == target {
		return 1, nil
	}
	return 0, nil
}
