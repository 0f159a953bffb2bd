// Package rules_test holds the rules by which the source is laid out: who may import whom, and why.
package rules_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/seed-8780d58e/spin/"

// pkg is a package as `go list` says it, paths inside the module without the module's own.
type pkg struct {
	Dir        string
	ImportPath string
	Name       string
	GoFiles    []string
	Imports    []string
}

// list asks the go command for packages. What a test imports is its own business and is not in it.
func list(t *testing.T, args ...string) []pkg {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=Dir,ImportPath,Name,GoFiles,Imports"}, args...)...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %s: %v\n%s", strings.Join(args, " "), err, &errs)
	}
	var packages []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		p.ImportPath = strings.TrimPrefix(p.ImportPath, module)
		for i := range p.Imports {
			p.Imports[i] = strings.TrimPrefix(p.Imports[i], module)
		}
		packages = append(packages, p)
	}
}

// in reports whether a path is one of the trees or below it.
func in(path string, trees ...string) bool {
	return slices.ContainsFunc(trees, func(tree string) bool { return path == tree || strings.HasPrefix(path, tree+"/") })
}

// standard reports whether a path is of the standard library.
func standard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".") && !in(path, "services", "pkg", "compute")
}

// rule forbids an import.
type rule struct {
	why     string
	forbids func(from, to string) bool
}

func rules() []rule {
	// only says that one library is known to some packages alone.
	only := func(why, library string, allowed ...string) rule {
		return rule{why, func(from, to string) bool { return in(to, library) && !in(from, allowed...) }}
	}
	flags := []string{"services", "pkg/cli", "pkg/store"}
	return []rule{
		{"what is below knows nothing of what is above: services -> pkg -> compute", func(from, to string) bool {
			return in(from, "pkg") && in(to, "services") || in(from, "compute") && in(to, "services", "pkg")
		}},
		{"services meet on the bus; only spin, which runs all of them in one process, imports them", func(from, to string) bool {
			own := strings.Join(strings.Split(from+"/", "/")[:2], "/")
			return in(from, "services") && in(to, "services") && !in(from, "services/spin") && !in(to, own, "services/process")
		}},
		{"the objective and the contract are to be read and trusted alone: standard library only", func(from, to string) bool {
			return (from == "pkg/spin" || from == "compute") && !standard(to)
		}},
		{"a backend is replaceable: it knows the contract and nothing else of ours", func(from, to string) bool {
			return in(from, "compute") && in(to, "compute") && to != "compute" && !in(to, backendOf(from)) && from != "compute/computetest"
		}},
		{"which backend is used is chosen at the top", func(from, to string) bool {
			return in(to, "compute") && to != "compute" && !in(from, "compute", "services/process", "services/spin/command", "bench")
		}},
		{"model and engine know token ids, no text", func(from, to string) bool {
			return in(from, "pkg/model", "pkg/engine") && in(to, "pkg/tokenizer", "pkg/chat", "pkg/dataset", "pkg/pretrained", "pkg/event")
		}},
		{"the tokenizer knows no model", func(from, to string) bool {
			return in(from, "pkg/tokenizer") && in(to, "pkg/model", "pkg/engine", "compute")
		}},
		only("the broker can be replaced in one place", "github.com/nats-io/nats.go", "pkg/bus"),
		only("services stay static and small: the broker itself is only in spin", "github.com/nats-io/nats-server", "pkg/bus/embedded"),
		only("the archive can be replaced in one place", "github.com/ClickHouse", "pkg/store"),
		only("S3 is behind one driver", "github.com/minio", "pkg/blob/s3"),
		only("the ways into C libraries are few and known", "github.com/ebitengine/purego", "pkg/store/embedded", "compute/cuda"),
		only("the GPU is behind one backend", "gorgonia.org/cu", "compute/cuda"),
		only("metrics are named and explained in one place", "github.com/prometheus", "pkg/telemetry"),
		only("what traces are made of can be replaced in one place", "go.opentelemetry.io", "pkg/telemetry"),
		only("flags end at the constructors", "github.com/spf13/pflag", flags...),
	}
}

// backendOf is the tree that a path below compute belongs to: compute/cuda of compute/cuda/driver.
func backendOf(path string) string {
	parts := strings.Split(path, "/")
	return strings.Join(parts[:min(2, len(parts))], "/")
}

func TestImports(t *testing.T) {
	for _, tags := range []string{"", "cuda"} {
		for _, p := range list(t, "-e", "-tags="+tags, "./...") { // -e: the GPU's driver needs cgo and is left out here
			for _, to := range p.Imports {
				for _, r := range rules() {
					if r.forbids(p.ImportPath, to) {
						t.Errorf("%s imports %s: %s", p.ImportPath, to, r.why)
					}
				}
			}
		}
	}
}

// The services' binaries are static: nothing in them loads a library. (A rule on imports would not
// see what comes by way of others.)
func TestStaticServices(t *testing.T) {
	for _, service := range []string{"generator", "trainer", "evaluator", "recorder"} {
		for _, p := range list(t, "-deps", "./services/"+service) {
			if in(p.ImportPath, "github.com/ebitengine/purego", "github.com/nats-io/nats-server", "runtime/cgo", "pkg/store/embedded") {
				t.Errorf("%s depends on %s: it would not be one static file any more", service, p.ImportPath)
			}
		}
	}
}

// Each package says once what it is, where a newcomer can start; no file is longer than can be read
// at one sitting.
func TestPackages(t *testing.T) {
	const most = 600
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range list(t, "./...") {
		comments := 0
		for _, name := range p.GoFiles {
			path := filepath.Join(p.Dir, name)
			source, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, source, parser.ParseComments|parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			short, _ := filepath.Rel(root, path)
			if f.Doc != nil {
				comments++
			}
			if lines := bytes.Count(source, []byte("\n")); lines > most && !ast.IsGenerated(f) {
				t.Errorf("%s has %d lines, at most %d can be read at one sitting", short, lines, most)
			}
		}
		if len(p.GoFiles) > 0 && comments != 1 {
			t.Errorf("%s has %d package comments, want one to start from", p.ImportPath, comments)
		}
	}
}
