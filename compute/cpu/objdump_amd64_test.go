//go:build amd64 && !noasm

package cpu

import (
	"bytes"
	"debug/elf"
	"debug/gosym"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/seed-8780d58e/spin/compute/cpu/internal/asm"
	kern "github.com/seed-8780d58e/spin/compute/cpu/internal/kernels"
)

// TestGenerated fails where go generate would change the assembly.
func TestGenerated(t *testing.T) {
	file, err := os.ReadFile("gemm_amd64.s")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(file, asm.Assembly("amd64 && !noasm", kern.GEMM())) {
		t.Error("gemm_amd64.s is not what internal/kernels says: run go generate")
	}
}

// TestMachineCode disassembles this test's own kernels with GNU objdump, and holds every vector
// instruction against the program that it was printed from: the emulator and the CPU run the same.
func TestMachineCode(t *testing.T) {
	objdump, err := exec.LookPath("objdump")
	if err != nil || runtime.GOOS != "linux" {
		t.Skip("needs objdump (binutils) and an ELF binary")
	}
	code := symbols(t)
	for _, f := range kern.GEMM() {
		b, ok := code[f.Name]
		if !ok {
			t.Errorf("%s is not in this binary", f.Name)
			continue
		}
		got := disassemble(t, objdump, b)
		var want []string
		for _, i := range f.Code {
			if s := i.ATT(); s != "" {
				want = append(want, s)
			}
		}
		for i := range max(len(got), len(want)) {
			if i >= len(got) || i >= len(want) || got[i] != want[i] {
				t.Errorf("%s: vector instruction %d of %d is %q, want %q of %d", f.Name, i, len(got), at(got, i), at(want, i), len(want))
				break
			}
		}
	}
}

func at(s []string, i int) string {
	if i < len(s) {
		return s[i]
	}
	return ""
}

// symbols is the machine code of this binary's assembly functions by name.
func symbols(t *testing.T) map[string][]byte {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	file, err := elf.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	// go test strips the symbols, but not the table that tracebacks need.
	text, lines := file.Section(".text"), file.Section(".gopclntab")
	if text == nil || lines == nil {
		t.Skip("binary without .gopclntab")
	}
	code, err := text.Data()
	if err != nil {
		t.Fatal(err)
	}
	data, err := lines.Data()
	if err != nil {
		t.Fatal(err)
	}
	table, err := gosym.NewTable(nil, gosym.NewLineTable(data, text.Addr))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]byte{}
	for _, f := range table.Funcs {
		name := strings.TrimSuffix(f.Name[strings.LastIndex(f.Name, ".")+1:], ".abi0")
		if b := code[f.Entry-text.Addr : f.End-text.Addr]; len(found[name]) < len(b) { // a wrapper is shorter
			found[name] = b
		}
	}
	return found
}

var comment = regexp.MustCompile(`\s*(#.*)?$`)

// disassemble is the vector instructions in b, as objdump prints them.
func disassemble(t *testing.T, objdump string, b []byte) []string {
	path := filepath.Join(t.TempDir(), "code")
	if err := os.WriteFile(path, b, 0o666); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(objdump, "-D", "-b", "binary", "-m", "i386:x86-64", "--no-show-raw-insn", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for line := range strings.Lines(string(out)) {
		_, text, ok := strings.Cut(line, ":\t")
		if !ok {
			continue
		}
		text = strings.Join(strings.Fields(comment.ReplaceAllString(text, "")), " ")
		if strings.HasPrefix(text, "v") || strings.HasPrefix(text, "prefetch") {
			list = append(list, text)
		}
	}
	return list
}

// TestEVEX holds the bytes of hand-encoded instructions against GNU as, for registers of every
// quarter.
func TestEVEX(t *testing.T) {
	as, err := exec.LookPath("as")
	objdump, err2 := exec.LookPath("objdump")
	if err != nil || err2 != nil {
		t.Skip("needs as and objdump (binutils)")
	}
	f := asm.New("f", "n int", "")
	var source strings.Builder
	for _, r := range [][3]int{{0, 0, 0}, {1, 2, 3}, {7, 8, 15}, {16, 17, 31}, {31, 9, 24}, {12, 30, 6}} {
		f.Op("VDPBF16PS", asm.Z(r[0]), asm.Z(r[1]), asm.Z(r[2]))
		source.WriteString(f.Code[len(f.Code)-1].ATT() + "\n")
	}
	dir := t.TempDir()
	object := filepath.Join(dir, "f.o")
	cmd := exec.Command(as, "-o", object, "-")
	cmd.Stdin = strings.NewReader(source.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("as knows no AVX512_BF16: %s", out)
	}
	out, err := exec.Command(objdump, "-s", "-j", ".text", object).Output()
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, " ") {
			fields := strings.Fields(line[:41])
			want.WriteString(strings.Join(fields[1:], ""))
		}
	}
	var got strings.Builder
	for _, x := range regexp.MustCompile(`BYTE \$0x(..)`).FindAllStringSubmatch(string(asm.Assembly("amd64", []*asm.Func{f})), -1) {
		got.WriteString(x[1])
	}
	if got.String() != want.String() {
		t.Errorf("encoded as\n%s, GNU as says\n%s", got.String(), want.String())
	}
}
