package harness

import (
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

//go:embed tasks/*.yaml
var builtin embed.FS

// Output types of a task.
const (
	MultipleChoice = "multiple_choice"
	GenerateUntil  = "generate_until"
	Rolling        = "loglikelihood_rolling"
)

// Task is one benchmark, in the words of lm-eval's task YAML. A field that is a Jinja template there is one here.
type Task struct {
	Name            string   `yaml:"task"`
	Group           string   `yaml:"-"`        // of a subject of several: the file's task
	Subjects        []string `yaml:"subjects"` // ours: dataset_names, a task each, which the group averages; {subject} stands for it
	DatasetPath     string   `yaml:"dataset_path"`
	DatasetName     string   `yaml:"dataset_name"`
	OutputType      string   `yaml:"output_type"`
	TrainingSplit   string   `yaml:"training_split"`
	ValidationSplit string   `yaml:"validation_split"`
	TestSplit       string   `yaml:"test_split"`
	FewshotSplit    string   `yaml:"fewshot_split"`
	Sampler         string   `yaml:"sampler"` // of few-shot examples: default (drawn), first_n
	Process         string   `yaml:"process"` // ours: the function of documents.go that lm-eval's Python is
	Description     string   `yaml:"description"`
	DocToText       string   `yaml:"doc_to_text"`
	DocToTarget     any      `yaml:"doc_to_target"`
	DocToChoice     any      `yaml:"doc_to_choice"`
	// MultipleInputs: the choices are contexts, doc_to_text names the right one, and doc_to_target continues them all.
	MultipleInputs   bool             `yaml:"multiple_inputs"`
	TargetDelimiter  *string          `yaml:"target_delimiter"`
	FewshotDelimiter *string          `yaml:"fewshot_delimiter"`
	Shots            int              `yaml:"num_fewshot"` // of the paper's evaluation, the default here
	Metrics          []Metric         `yaml:"metric_list"` //
	Filters          []FilterPipeline `yaml:"filter_list"` //
	Mass             string           `yaml:"mass"`        // ours: labels whose share of the probability is acc (TruthfulQA's mc2)
	Generation       Generation       `yaml:"generation_kwargs"`
	TaskVersion      float64          `yaml:"version"` // lm-eval's metadata.version
}

// Metric of a task.
type Metric struct {
	Name              string   `yaml:"metric"`
	IgnoreCase        bool     `yaml:"ignore_case"`
	IgnorePunctuation bool     `yaml:"ignore_punctuation"`
	RegexesToIgnore   []string `yaml:"regexes_to_ignore"`
}

// FilterPipeline cuts an answer out of a generation.
type FilterPipeline struct {
	Name  string `yaml:"name"`
	Regex string `yaml:"regex_pattern"`
	Group int    `yaml:"group_select"` // which match; -1 the last
}

// Generation says how a generation ends.
type Generation struct {
	Until     []string `yaml:"until"`
	MaxTokens int      `yaml:"max_gen_toks"` // lm-eval's default is 256
}

// Names lists the built-in tasks; those of a group are in it.
func Names() []string {
	entries, err := fs.ReadDir(builtin, "tasks")
	if err != nil {
		panic("harness: embedded tasks: " + err.Error())
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".yaml"))
	}
	return names
}

// Load returns a built-in task by its name, or that of a YAML file; of a group, all its subjects. name may also be a subject
// of a group, such as mmlu_anatomy.
func Load(name string) ([]*Task, error) {
	if strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml") {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		return parse(data, name)
	}
	for _, n := range Names() {
		data, err := builtin.ReadFile(path.Join("tasks", n+".yaml"))
		if err != nil {
			return nil, err
		}
		tasks, err := parse(data, n)
		if err != nil {
			return nil, err
		}
		if n == name {
			return tasks, nil
		}
		if i := slices.IndexFunc(tasks, func(t *Task) bool { return t.Name == name }); i >= 0 {
			return tasks[i : i+1], nil
		}
	}
	return nil, fmt.Errorf("no task %q, want one of %s, or a YAML file", name, strings.Join(Names(), ", "))
}

func parse(data []byte, name string) ([]*Task, error) {
	var t Task
	if err := yaml.UnmarshalWithOptions(data, &t, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("task %s: %s", name, yaml.FormatError(err, false, false))
	}
	if err := t.validate(); err != nil {
		return nil, fmt.Errorf("task %s: %w", name, err)
	}
	if len(t.Subjects) == 0 {
		return []*Task{&t}, nil
	}
	var all []*Task
	for _, subject := range t.Subjects {
		one := t
		one.Name, one.Group, one.Subjects, one.DatasetName = t.Name+"_"+subject, t.Name, nil, subject
		one.Description = strings.ReplaceAll(t.Description, "{subject}", strings.ReplaceAll(subject, "_", " "))
		all = append(all, &one)
	}
	return all, nil
}

func (t *Task) validate() error {
	switch {
	case t.Name == "":
		return fmt.Errorf("task: is missing: its name")
	case !slices.Contains([]string{MultipleChoice, GenerateUntil, Rolling}, t.OutputType):
		return fmt.Errorf("output_type %q, want %s, %s or %s", t.OutputType, MultipleChoice, GenerateUntil, Rolling)
	case t.TestSplit == "" && t.ValidationSplit == "":
		return fmt.Errorf("neither test_split nor validation_split")
	case t.OutputType == MultipleChoice && t.DocToChoice == nil:
		return fmt.Errorf("doc_to_choice is missing")
	case t.Process != "" && processor(t.Process) == nil:
		return fmt.Errorf("process %q is none of ours", t.Process)
	case t.Sampler != "" && t.Sampler != "default" && t.Sampler != "first_n":
		return fmt.Errorf("sampler %q, want default or first_n", t.Sampler)
	}
	if len(t.Metrics) == 0 {
		return fmt.Errorf("metric_list is missing")
	}
	for _, f := range t.Filters {
		if _, err := compile(f.Regex); err != nil {
			return fmt.Errorf("filter %s: %w", f.Name, err)
		}
	}
	for _, m := range t.Metrics {
		for _, r := range m.RegexesToIgnore {
			if _, err := compile(r); err != nil {
				return fmt.Errorf("metric %s: %w", m.Name, err)
			}
		}
	}
	return nil
}

// delimiters between a question and its answer, and after a few-shot example.
func (t *Task) delimiters() (target, fewshot string) {
	target, fewshot = " ", "\n\n"
	if t.TargetDelimiter != nil {
		target = *t.TargetDelimiter
	}
	if t.FewshotDelimiter != nil {
		fewshot = *t.FewshotDelimiter
	}
	return target, fewshot
}

// evalSplit is the split that is asked: test, else validation (Task.eval_docs).
func (t *Task) evalSplit() string {
	if t.TestSplit != "" {
		return t.TestSplit
	}
	return t.ValidationSplit
}

// exampleSplit is the split that few-shot examples come from (ConfigurableTask.fewshot_docs).
func (t *Task) exampleSplit() string {
	for _, s := range []string{t.FewshotSplit, t.TrainingSplit, t.ValidationSplit} {
		if s != "" {
			return s
		}
	}
	return t.TestSplit
}
