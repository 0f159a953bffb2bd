package command

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// group is some flags under a heading.
type group struct {
	title string
	flags []string
}

// grouped is a word with so many flags that its help shows those that people use, in groups;
// --help-all shows all.
type grouped interface{ groups() []group }

func (c *runCommand) groups() []group {
	return []group{
		{"What to run", []string{"quick", "preset", "config", "model", "data", "skip-bad-rows", "prompts", "heldout", "iterations", "max-new-tokens", "sft-epochs", "lr", "beta", "stop-when", "control", "seed"}},
		{"Where", []string{"dir", "clickhouse-url"}},
		{"How", []string{"threads", "dtype", "memory"}},
		{"Output", []string{"summary", "print-config", "log-format"}},
	}
}

// wantsHelp finds --help and --help-all among the flags; pflag would stop at the first bad flag.
func wantsHelp(args []string) (help, all bool) {
	if i := slices.Index(args, "--"); i >= 0 {
		args = args[:i]
	}
	all = slices.Contains(args, "--help-all")
	return all || slices.Contains(args, "--help") || slices.Contains(args, "-h"), all
}

// help prints what a command does and its flags.
func (e entry) help(w io.Writer, command word, f *pflag.FlagSet, all bool) {
	fmt.Fprintf(w, "spin %s: %s\n\nUsage: %s\n", e.name, e.about, strings.TrimSpace("spin "+e.name+" [flags] "+e.args))
	var every []string
	f.VisitAll(func(fl *pflag.Flag) { every = append(every, fl.Name) })
	groups := []group{{"Flags", every}}
	by, ok := command.(grouped)
	if ok {
		groups = by.groups()
		if all {
			var shown []string
			for _, g := range groups {
				shown = append(shown, g.flags...)
			}
			groups = append(groups, group{"More", slices.DeleteFunc(every, func(name string) bool { return slices.Contains(shown, name) })})
		}
	}
	for _, g := range groups {
		fmt.Fprintf(w, "\n%s:\n", g.title)
		for _, name := range g.flags {
			fmt.Fprint(w, flagLine(f.Lookup(name)))
		}
	}
	if ok && !all {
		fmt.Fprintf(w, "\n`spin %s --help-all` shows all flags.", e.name)
	}
	fmt.Fprintln(w, "\nEach flag can be given in the environment too: SPIN_ and its name in capitals.")
}

// Layout of a flag's lines.
const (
	helpWidth  = 100
	helpIndent = 26
)

// flagLine is a flag with what it is for, wrapped.
func flagLine(fl *pflag.Flag) string {
	var b strings.Builder
	head := "  --" + fl.Name + valueName(fl.Value.Type())
	text := strings.Fields(fl.Usage)
	if d := fl.DefValue; !slices.Contains([]string{"", "0", "false", "[]"}, d) {
		text = append(text, "(default "+d+")")
	}
	fmt.Fprintf(&b, "%-*s", helpIndent-1, head)
	column := max(len(head), helpIndent-1)
	for _, word := range text {
		if n := len([]rune(word)); column+1+n > helpWidth && column >= helpIndent {
			b.WriteString("\n" + strings.Repeat(" ", helpIndent-1))
			column = helpIndent - 1
		}
		b.WriteString(" " + word)
		column += 1 + len([]rune(word))
	}
	return b.String() + "\n"
}

// valueName is what stands for a value of a flag's type.
func valueName(kind string) string {
	switch kind {
	case "bool":
		return ""
	case "int", "uint", "uint64", "int64":
		return " N"
	case "float64":
		return " X"
	case "float64Slice", "intSlice", "ints":
		return " X,…"
	case "stringSlice", "strings":
		return " A,…"
	}
	return " " + strings.ToUpper(kind[:1])
}
