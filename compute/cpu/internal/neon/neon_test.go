package neon_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/seed-8780d58e/spin/compute/cpu/internal/neon"
	"github.com/seed-8780d58e/spin/compute/cpu/internal/neon/kernels"
)

// objdump is a disassembler for arm64, on any machine.
func objdump(t *testing.T) string {
	names := []string{"aarch64-linux-gnu-objdump"}
	if runtime.GOARCH == "arm64" {
		names = append(names, "objdump")
	}
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("needs an objdump for arm64 (binutils-aarch64-linux-gnu)")
	return ""
}

// disassemble is each word as GNU objdump prints it, blanks made equal.
func disassemble(t *testing.T, words []uint32) []string {
	tool := objdump(t)
	var b []byte
	for _, w := range words {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	path := filepath.Join(t.TempDir(), "code")
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(tool, "-D", "-z", "-b", "binary", "-m", "aarch64", "--no-show-raw-insn", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for line := range strings.Lines(string(out)) {
		if _, text, ok := strings.Cut(line, ":\t"); ok {
			text, _, _ = strings.Cut(text, "//")
			list = append(list, strings.Join(strings.Fields(text), " "))
		}
	}
	return list
}

// TestEncoding disassembles every vector instruction of every kernel, and holds it against the text that
// the kernel was written with.
func TestEncoding(t *testing.T) {
	texts := map[uint32]string{}
	var words []uint32
	for _, f := range append(kernels.GEMM(), kernels.Vector()...) {
		for _, i := range f.Code {
			if was, ok := texts[i.Word]; i.Word != 0 && ok && was != i.Text {
				t.Errorf("%s: %q and %q are both %#08x", f.Name, was, i.Text, i.Word)
			} else if i.Word != 0 && !ok {
				texts[i.Word] = i.Text
				words = append(words, i.Word)
			}
		}
	}
	check(t, words, texts)
}

func check(t *testing.T, words []uint32, texts map[uint32]string) {
	t.Helper()
	got := disassemble(t, words)
	if len(got) != len(words) {
		t.Fatalf("%d words give %d lines", len(words), len(got))
	}
	for i, w := range words {
		if got[i] != texts[w] {
			t.Errorf("%#08x is %q, meant as %q", w, got[i], texts[w])
		}
	}
	t.Logf("%d different instructions", len(words))
}

// TestGenerated fails where go generate would change the assembly.
func TestGenerated(t *testing.T) {
	for name, want := range map[string][]byte{
		"gemm_arm64.s":    neon.Assembly(kernels.GEMM(), kernels.Constants()),
		"gemm_arm64.go":   neon.Declarations("cpu", kernels.GEMM()),
		"vector_arm64.s":  neon.Assembly(kernels.Vector(), kernels.Constants(), kernels.Lanes()),
		"vector_arm64.go": neon.Declarations("cpu", kernels.Vector()),
	} {
		file, err := os.ReadFile(filepath.Join("..", "..", name))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(file, want) {
			t.Errorf("%s is not what internal/neon/kernels says: run go generate", name)
		}
	}
}
