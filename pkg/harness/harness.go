// Package harness asks benchmark questions as EleutherAI's lm-evaluation-harness 0.4.13 asks them: the same documents,
// few-shot examples, prompts, continuations, filters and metrics, so that a score can be held against others' (its
// lm_eval/api/task.py is the specification; the functions here name what they follow). It knows texts only: whoever has a
// model answers a [Question], and the task judges the [Answer].
//
// A task is a YAML file (tasks/*.yaml, in lm-eval's own words); Go is only what lm-eval's YAML calls Python for
// (documents.go). Data comes from files in the shapes that the hub has ([Data]).
//
// Read in this order: Task (task.go), Data, Questions (question.go), Judge (judge.go), Summarize (summary.go).
package harness

// Version of the measuring: lm-eval's that it follows, and ours of what could change a figure.
const Version = "lm-eval-0.4.13/spin-1"
