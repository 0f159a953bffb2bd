package chat

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"time"

	"github.com/nikolalohinski/gonja/v2/builtins"
	"github.com/nikolalohinski/gonja/v2/config"
	"github.com/nikolalohinski/gonja/v2/exec"
	"github.com/nikolalohinski/gonja/v2/loaders"
	"github.com/nikolalohinski/gonja/v2/nodes"
	"github.com/nikolalohinski/gonja/v2/parser"
	"github.com/nikolalohinski/gonja/v2/tokens"
)

// Templates come with models, from anywhere: what they can use up is bounded, and they reach no file.
const (
	maxTemplate = 1 << 20   // bytes
	maxRendered = 16 << 20  // bytes
	maxRange    = 1_000_000 // numbers that all ranges of one rendering give; jinja2's sandbox bounds each (MAX_RANGE)
	memoryName  = "/chat"   // the only template that the loader knows
)

// compile parses a chat template with the settings of transformers (utils/chat_template_utils.py): trim_blocks,
// lstrip_blocks, loop controls, {% generation %}, raise_exception, strftime_now, and tojson as Python's json.dumps.
func compile(text string, date time.Time) (t *exec.Template, err error) {
	if len(text) > maxTemplate {
		return nil, fmt.Errorf("%d bytes, want at most %d", len(text), maxTemplate)
	}
	defer recovered(&err)
	settings := config.New()
	settings.TrimBlocks = true
	globals := exec.EmptyContext().Update(builtins.GlobalFunctions)
	if !date.IsZero() {
		globals.Set("strftime_now", func(format string) string { return strftime(date, format) })
	}
	filters, err := pythonFilters()
	if err != nil {
		return nil, err
	}
	statements := exec.NewControlStructureSet(map[string]parser.ControlStructureParser{}).Update(builtins.ControlStructures)
	if err := statements.Register("generation", parseGeneration); err != nil {
		return nil, err
	}
	loader, err := loaders.NewMemoryLoader(map[string]string{memoryName: stripLines(text)})
	if err != nil {
		return nil, err
	}
	return exec.NewTemplate(memoryName, settings, loader, &exec.Environment{
		Context: globals, Filters: filters, Tests: builtins.Tests, ControlStructures: statements, Methods: pythonMethods(),
	})
}

// stripLines is jinja2's lstrip_blocks: it drops white space between the start of a line and a block or a comment, unless
// that asks to keep it by a plus. gonja has the setting, but strips after any block, also within a line.
func stripLines(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		bare := strings.TrimLeft(line, " \t\f\v\r")
		if (strings.HasPrefix(bare, "{%") || strings.HasPrefix(bare, "{#")) && !strings.HasPrefix(bare[2:], "+") {
			line = bare
		}
		b.WriteString(line)
	}
	return b.String()
}

// render runs the template. An error of the template's own, by raise_exception, is returned as the template words it.
func (t *Template) render(messages []Message, generate bool) (text string, err error) {
	defer recovered(&err)
	turns := make(list, len(messages))
	for i, m := range messages {
		turns[i] = map[string]any{"role": m.Role, "content": m.Content}
	}
	var raised error
	ranges := ranger{left: maxRange}
	variables := maps.Clone(t.variables)
	maps.Copy(variables, map[string]any{
		"messages": turns, "range": ranges.next, "add_generation_prompt": generate, "tools": nil, "documents": nil,
		"raise_exception": func(message string) (string, error) {
			raised = fmt.Errorf("the chat template refuses the conversation: %s", message)
			return "", raised
		},
	})
	var out bounded
	err = t.jinja.Execute(&out, exec.NewContext(variables))
	switch {
	case raised != nil:
		return "", raised
	case out.full:
		return "", fmt.Errorf("chat template writes more than %d bytes", maxRendered)
	case err != nil:
		return "", fmt.Errorf("chat template: %s", firstLine(err.Error()))
	}
	return out.String(), nil
}

// bounded is a strings.Builder with an end.
type bounded struct {
	strings.Builder
	full bool
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxRendered {
		b.full = true
		return 0, io.ErrShortWrite
	}
	return b.Builder.Write(p)
}

func (b *bounded) WriteString(s string) (int, error) { return b.Write([]byte(s)) }

// recovered turns a panic of the template engine, which a hostile template can reach, into an error.
func recovered(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("chat template: %s", firstLine(fmt.Sprint(r)))
	}
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	if len(s) > 300 {
		s = strings.ToValidUTF8(s[:300], "") + "…"
	}
	return s
}

// ranger is Python's range, bounded. gonja's own isn't, and leaves a goroutine behind when a loop ends early.
type ranger struct{ left int }

func (r *ranger) next(params *exec.VarArgs) ([]int, error) {
	var n []int
	for _, arg := range params.Args {
		if !arg.IsInteger() {
			return nil, errors.New("range wants integers")
		}
		n = append(n, arg.Integer())
	}
	start, stop, step := 0, 0, 1
	switch len(n) {
	case 1:
		stop = n[0]
	case 2:
		start, stop = n[0], n[1]
	case 3:
		start, stop, step = n[0], n[1], n[2]
	default:
		return nil, errors.New("range wants one to three integers")
	}
	if step == 0 {
		return nil, errors.New("range with a step of 0")
	}
	numbers := []int{}
	for i := start; step > 0 && i < stop || step < 0 && i > stop; i += step {
		if r.left--; r.left < 0 {
			return nil, fmt.Errorf("ranges of more than %d numbers", maxRange)
		}
		numbers = append(numbers, i)
	}
	return numbers, nil
}

// generation is {% generation %}…{% endgeneration %}, which marks what the assistant writes. Its body is rendered.
type generation struct {
	at   *tokens.Token
	body *nodes.Wrapper
}

func (g *generation) Position() *tokens.Token { return g.at }
func (g *generation) String() string          { return fmt.Sprintf("generation(line %d)", g.at.Line) }

func (g *generation) Execute(r *exec.Renderer, _ *nodes.ControlStructureBlock) error {
	return r.ExecuteWrapper(g.body)
}

func parseGeneration(p, args *parser.Parser) (nodes.ControlStructure, error) {
	g := &generation{at: p.Current()}
	if !args.End() {
		return nil, args.Error("generation takes no arguments", nil)
	}
	body, _, err := p.WrapUntil("endgeneration")
	g.body = body
	return g, err
}
