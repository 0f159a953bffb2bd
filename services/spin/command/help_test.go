package command

import (
	"bytes"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// Help fits a screen: what people use is not hidden among what they don't.
func TestHelp(t *testing.T) {
	help := func(args ...string) string {
		var out, err bytes.Buffer
		if code := Main(t.Context(), args, Streams{Out: &out, Err: &err}); code != 0 || err.Len() > 0 {
			t.Errorf("spin %s: exit %d: %s", strings.Join(args, " "), code, err.String())
		}
		return out.String()
	}
	fits := func(text, name string, lines int) {
		if n := strings.Count(text, "\n"); n > lines {
			t.Errorf("%s has %d lines, a screen has %d", name, n, lines)
		}
		for line := range strings.Lines(text) {
			if n := len([]rune(strings.TrimSpace(line))); n > helpWidth {
				t.Errorf("%s: %d columns: %s", name, n, line)
			}
		}
	}
	fits(help(), "spin", 24)
	fits(help("run", "--help"), "spin run --help", 45)
	if same := help("help", "run"); same != help("run", "--batch", "nonsense", "-h") {
		t.Errorf("spin help run differs: %s", same)
	}
	for _, e := range entries() {
		w := e.make()
		f := pflag.NewFlagSet(e.name, pflag.ContinueOnError)
		w.flags(f)
		text := help(e.name, "--help-all")
		f.VisitAll(func(fl *pflag.Flag) {
			if strings.Count(text, "\n  --"+fl.Name+" ") != 1 {
				t.Errorf("spin %s --help-all: --%s is not there once", e.name, fl.Name)
			}
		})
		if by, ok := w.(grouped); ok {
			for _, g := range by.groups() {
				for _, name := range g.flags {
					if f.Lookup(name) == nil {
						t.Errorf("spin %s: group %q names --%s, which is no flag", e.name, g.title, name)
					}
				}
			}
		}
	}
}
