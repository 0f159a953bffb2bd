package chat

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nikolalohinski/gonja/v2/builtins"
	"github.com/nikolalohinski/gonja/v2/exec"
)

// list is a sequence whose negative indices all count from its end. gonja's own lists have nothing at -len(list): the
// last of one message would be none.
type list []any

// GetItem implements exec.ItemGetter.
func (l list) GetItem(key any) (*exec.Value, bool) {
	i, ok := key.(int)
	if ok && i < 0 {
		i += len(l)
	}
	if !ok || i < 0 || i >= len(l) {
		return exec.AsValue(nil), false
	}
	return exec.ToValue(reflect.ValueOf(l[i])), true
}

// asList makes a list of any of gonja's.
func asList(v *exec.Value) *exec.Value {
	if v.IsError() || !v.IsList() {
		return v
	}
	l := make(list, v.Len())
	for i := range l {
		l[i] = v.Index(i).Interface()
	}
	return exec.AsValue(l)
}

// pythonFilters are gonja's, with Python's JSON and lists.
func pythonFilters() (*exec.FilterSet, error) {
	filters := exec.NewFilterSet(map[string]exec.FilterFunction{}).Update(builtins.Filters)
	for _, name := range []string{"list", "map", "reject", "rejectattr", "reverse", "select", "selectattr", "sort", "split", "unique"} {
		filter, ok := filters.Get(name)
		if !ok {
			continue
		}
		err := filters.Replace(name, func(e *exec.Evaluator, in *exec.Value, params *exec.VarArgs) *exec.Value {
			return asList(filter(e, in, params))
		})
		if err != nil {
			return nil, err
		}
	}
	return filters, filters.Replace("tojson", toJSON)
}

// pythonMethods are gonja's, with str.split and str.rsplit giving lists, and str.replace whose count may be left out.
func pythonMethods() exec.Methods {
	methods := builtins.Methods
	named := map[string]exec.Method[string]{"replace": replace}
	for _, name := range []string{"capitalize", "capwords", "casefold", "center", "count", "encode", "endswith", "expandtabs", "find", "format",
		"format_map", "isalnum", "isalpha", "isascii", "isdecimal", "isdigit", "islower", "isnumeric", "isprintable", "isspace", "istitle",
		"isupper", "join", "ljust", "lower", "lstrip", "partition", "removeprefix", "removesuffix", "rfind", "rjust", "rpartition", "rsplit",
		"rstrip", "split", "splitlines", "startswith", "strip", "swapcase", "title", "upper", "zfill"} {
		method, ok := builtins.Methods.Str.Get(name)
		if !ok {
			continue
		}
		named[name] = method
		if name == "split" || name == "rsplit" || name == "splitlines" {
			named[name] = func(self string, value *exec.Value, args *exec.VarArgs) (any, error) {
				parts, err := method(self, value, args)
				if err != nil {
					return nil, err
				}
				return asList(exec.AsValue(parts)).Interface(), nil
			}
		}
	}
	methods.Str = exec.NewMethodSet(named)
	return methods
}

// replace is str.replace(old, new, count=-1).
func replace(self string, _ *exec.Value, args *exec.VarArgs) (any, error) {
	if len(args.Args) < 2 || len(args.Args) > 3 || !args.Args[0].IsString() || !args.Args[1].IsString() {
		return nil, exec.ErrInvalidCall(fmt.Errorf("replace wants two strings and perhaps a count"))
	}
	count := -1
	if len(args.Args) == 3 {
		count = args.Args[2].Integer()
	}
	from, to := args.Args[0].String(), args.Args[1].String()
	if len(self)*(1+len(to)) > maxRendered {
		return nil, fmt.Errorf("replace makes more than %d bytes", maxRendered)
	}
	return strings.Replace(self, from, to, count), nil
}

// toJSON is json.dumps(value, ensure_ascii=False, indent=…), which transformers puts in the place of jinja2's tojson.
func toJSON(_ *exec.Evaluator, in *exec.Value, params *exec.VarArgs) *exec.Value {
	if in.IsError() {
		return in
	}
	w := jsonWriter{indent: -1}
	if value, ok := params.KwArgs["indent"]; ok && value.IsInteger() {
		w.indent = min(value.Integer(), 16)
	}
	if err := w.value(in, 0); err != nil {
		return exec.AsValue(exec.ErrInvalidCall(err))
	}
	return exec.AsSafeValue(w.String())
}

type jsonWriter struct {
	strings.Builder
	indent int // spaces a level; -1: all on one line
}

func (w *jsonWriter) value(v *exec.Value, depth int) error {
	switch {
	case depth > 64:
		return fmt.Errorf("tojson: more than 64 levels")
	case v.IsNil():
		w.WriteString("null")
	case v.IsBool():
		w.WriteString(strconv.FormatBool(v.Bool()))
	case v.IsInteger():
		w.WriteString(strconv.Itoa(v.Integer()))
	case v.IsFloat():
		w.float(v.Float())
	case v.IsString():
		w.string(v.String())
	case v.IsDict():
		return w.list('{', '}', depth, func(item func() error) error {
			var err error
			v.Iterate(func(_, _ int, key, value *exec.Value) bool {
				if err = item(); err == nil {
					w.string(key.String())
					w.WriteString(": ")
					err = w.value(value, depth+1)
				}
				return err == nil
			}, func() {})
			return err
		})
	case v.IsList():
		return w.list('[', ']', depth, func(item func() error) error {
			var err error
			v.Iterate(func(_, _ int, value, _ *exec.Value) bool {
				if err = item(); err == nil {
					err = w.value(value, depth+1)
				}
				return err == nil
			}, func() {})
			return err
		})
	default:
		return fmt.Errorf("tojson: a value that JSON hasn't")
	}
	return nil
}

// list writes what items writes between brackets; items calls item before each.
func (w *jsonWriter) list(left, right byte, depth int, items func(item func() error) error) error {
	w.WriteByte(left)
	n := 0
	err := items(func() error {
		if w.Len() > maxRendered {
			return fmt.Errorf("tojson: more than %d bytes", maxRendered)
		}
		if n++; n > 1 {
			w.WriteByte(',')
			if w.indent < 0 {
				w.WriteByte(' ')
			}
		}
		w.newline(depth + 1)
		return nil
	})
	if n > 0 {
		w.newline(depth)
	}
	w.WriteByte(right)
	return err
}

func (w *jsonWriter) newline(depth int) {
	if w.indent >= 0 {
		w.WriteString("\n" + strings.Repeat(" ", w.indent*depth))
	}
}

// float is Python's repr.
func (w *jsonWriter) float(f float64) {
	switch {
	case math.IsNaN(f):
		w.WriteString("NaN")
	case math.IsInf(f, 0):
		w.WriteString(strings.TrimPrefix(strconv.FormatFloat(f, 'g', -1, 64)+"inity", "+"))
	case f != 0 && (math.Abs(f) < 1e-4 || math.Abs(f) >= 1e16):
		w.WriteString(strconv.FormatFloat(f, 'e', -1, 64))
	default:
		text := strconv.FormatFloat(f, 'f', -1, 64)
		if !strings.Contains(text, ".") {
			text += ".0"
		}
		w.WriteString(text)
	}
}

func (w *jsonWriter) string(s string) {
	w.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			w.WriteByte('\\')
			w.WriteRune(r)
		case r == '\n':
			w.WriteString(`\n`)
		case r == '\r':
			w.WriteString(`\r`)
		case r == '\t':
			w.WriteString(`\t`)
		case r == '\b':
			w.WriteString(`\b`)
		case r == '\f':
			w.WriteString(`\f`)
		case r < ' ':
			fmt.Fprintf(w, `\u%04x`, r)
		case r == utf8.RuneError:
			w.WriteString("\ufffd")
		default:
			w.WriteRune(r)
		}
	}
	w.WriteByte('"')
}

// strftime is Python's datetime.strftime in the C locale.
func strftime(t time.Time, format string) string {
	layouts := map[byte]string{
		'a': "Mon", 'A': "Monday", 'b': "Jan", 'B': "January", 'd': "02", 'H': "15", 'I': "03", 'j': "002", 'm': "01", 'M': "04",
		'p': "PM", 'S': "05", 'y': "06", 'Y': "2006", 'Z': "MST", 'z': "-0700", 'F': "2006-01-02", 'T': "15:04:05", 'e': "_2",
	}
	var b strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			b.WriteByte(format[i])
			continue
		}
		i++
		layout, ok := layouts[format[i]]
		if format[i] == '-' && i+1 < len(format) { // glibc: without padding
			i++
			layout, ok = map[byte]string{'d': "2", 'm': "1", 'I': "3"}[format[i]]
		}
		switch {
		case ok:
			b.WriteString(t.Format(layout))
		case format[i] == '%':
			b.WriteByte('%')
		}
	}
	return b.String()
}
