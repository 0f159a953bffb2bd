//go:build !fault

package fault

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Without the tag nobody dies, whatever the environment says.
func TestPointDoesNothing(t *testing.T) {
	for _, p := range Points() {
		t.Setenv("SPIN_FAULT", p)
		Point(p)
	}
	t.Setenv("SPIN_FAULT", GeneratorPrompt+"/p1")
	PointOf(GeneratorPrompt, "p1")
}

// Every point is listed, and some service passes it: one that nobody passes would never be hit.
func TestPointsAreInUse(t *testing.T) {
	source, err := os.ReadFile("fault.go")
	if err != nil {
		t.Fatal(err)
	}
	var services strings.Builder
	err = filepath.WalkDir("../../services", func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		services.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^\t(\w+) += "([\w.]+)"`).FindAllStringSubmatch(string(source), -1) {
		name, value := m[1], m[2]
		if !strings.Contains(services.String(), "(fault."+name) {
			t.Errorf("no service passes %s", name)
		}
		if listed := slices.Contains(Points(), value); listed == (value == GeneratorPrompt) {
			t.Errorf("%s is listed: %v", name, listed)
		}
	}
}
