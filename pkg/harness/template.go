package harness

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/nikolalohinski/gonja/v2/builtins"
	"github.com/nikolalohinski/gonja/v2/config"
	"github.com/nikolalohinski/gonja/v2/exec"
	"github.com/nikolalohinski/gonja/v2/loaders"
)

// Document is a row of a data set: what JSON has, strings, float64s, bools, lists and maps.
type Document map[string]any

// A template that is nothing but a name, or the place of one value in a list, is taken as the value that it stands for:
// lm-eval renders it and reads the text back as a Python literal, to the same end.
var (
	bare    = regexp.MustCompile(`^\{\{\s*([A-Za-z_][\w.]*)\s*\}\}$`)
	indexOf = regexp.MustCompile(`^\{\{\s*([A-Za-z_][\w.]*)\.index\((\d+|[A-Za-z_][\w.]*?)(\.lstrip\(\))?\)\s*\}\}$`)
)

// compile is regexp.Compile of a pattern that Python's re and RE2 read alike.
func compile(pattern string) (*regexp.Regexp, error) { return regexp.Compile(pattern) }

// value is what a field of a task says of a document: a column's value, a template's, or the field itself where it is no
// string.
func (d Document) value(field any) (any, error) {
	text, ok := field.(string)
	if !ok {
		return field, nil
	}
	if v, ok := d[text]; ok {
		return v, nil
	}
	if m := bare.FindStringSubmatch(text); m != nil {
		return d.path(m[1])
	}
	if m := indexOf.FindStringSubmatch(text); m != nil {
		return d.indexOf(m[1], m[2], m[3] != "")
	}
	return render(text, d)
}

func (d Document) path(name string) (any, error) {
	var at any = map[string]any(d)
	for part := range strings.SplitSeq(name, ".") {
		m, ok := at.(map[string]any)
		if !ok || m[part] == nil {
			return nil, fmt.Errorf("no field %s", name)
		}
		at = m[part]
	}
	return at, nil
}

func (d Document) indexOf(list, name string, strip bool) (any, error) {
	all, err := d.path(list)
	if err != nil {
		return nil, err
	}
	var wanted any
	if n, err := strconv.Atoi(name); err == nil {
		wanted = float64(n)
	} else if wanted, err = d.path(name); err != nil {
		return nil, err
	}
	if s, ok := wanted.(string); ok && strip {
		wanted = strings.TrimLeft(s, " \t\r\n")
	}
	items, ok := all.([]any)
	if !ok {
		return nil, fmt.Errorf("%s is no list", list)
	}
	for i, x := range items {
		if x == wanted {
			return float64(i), nil
		}
	}
	return nil, fmt.Errorf("%s has no %v", list, wanted)
}

// render is lm-eval's utils.apply_template: Jinja that keeps the last line's end.
func render(text string, d Document) (out string, err error) {
	defer func() { // gonja panics on some templates
		if r := recover(); r != nil {
			err = fmt.Errorf("template: %v", r)
		}
	}()
	settings := config.New()
	settings.KeepTrailingNewline, settings.StrictUndefined = true, true
	loader, err := loaders.NewMemoryLoader(map[string]string{"/task": text})
	if err != nil {
		return "", err
	}
	t, err := exec.NewTemplate("/task", settings, loader, &exec.Environment{
		Context: exec.EmptyContext().Update(builtins.GlobalFunctions), Filters: builtins.Filters, Tests: builtins.Tests,
		ControlStructures: builtins.ControlStructures, Methods: builtins.Methods,
	})
	if err != nil {
		return "", fmt.Errorf("template: %w", err)
	}
	return t.ExecuteToString(exec.NewContext(d))
}

// text is a value as lm-eval puts it into a prompt.
func text(v any) (string, error) {
	switch x := v.(type) {
	case string:
		return x, nil
	case float64:
		return strconv.FormatFloat(x, 'f', -1, 64), nil
	case int:
		return strconv.Itoa(x), nil
	case uint64:
		return strconv.FormatUint(x, 10), nil
	}
	return "", fmt.Errorf("%v is no text", v)
}

// number is a value as a position: digits count as one.
func number(v any) (int, bool) {
	switch x := v.(type) {
	case float64:
		return int(x), x == float64(int(x))
	case int:
		return x, true
	case uint64:
		return int(x), true
	case string:
		n, err := strconv.Atoi(x)
		return n, err == nil && n >= 0
	}
	return 0, false
}

// texts is a list of strings.
func texts(v any) ([]string, error) {
	items, ok := v.([]any)
	if !ok {
		return nil, fmt.Errorf("%v is no list of texts", v)
	}
	out := make([]string, len(items))
	for i, x := range items {
		s, err := text(x)
		if err != nil {
			return nil, err
		}
		out[i] = s
	}
	return out, nil
}
