//go:build cuda

// Package nvrtc compiles CUDA C++ with NVIDIA's run-time compiler, for development: a released
// binary holds the kernels as PTX and does not need it. It opens the library by name when asked,
// so nothing links it.
package nvrtc

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/ebitengine/purego"
)

// Compiler is an opened libnvrtc.
type Compiler struct {
	create  func(program *uintptr, source, name string, headers int32, texts, names **byte) int32
	compile func(program uintptr, options int32, texts **byte) int32
	logSize func(program uintptr, bytes *uint64) int32
	log     func(program uintptr, text *byte) int32
	ptxSize func(program uintptr, bytes *uint64) int32
	ptx     func(program uintptr, text *byte) int32
	destroy func(program *uintptr) int32

	Major, Minor int32 // of the toolkit: 12, 4
}

// Open loads the library: a file, or a name that the loader finds.
func Open(library string) (*Compiler, error) {
	if strings.ContainsRune(library, '/') {
		// It opens its builtins by bare name, which the loader finds beside it only if they are open.
		builtins, _ := filepath.Glob(filepath.Join(filepath.Dir(library), "libnvrtc-builtins.so.*"))
		for _, b := range builtins {
			_, _ = purego.Dlopen(b, purego.RTLD_NOW|purego.RTLD_GLOBAL)
		}
	}
	handle, err := purego.Dlopen(library, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, fmt.Errorf("open NVRTC: %w", err)
	}
	c := &Compiler{}
	var version func(major, minor *int32) int32
	for name, f := range map[string]any{
		"nvrtcCreateProgram": &c.create, "nvrtcCompileProgram": &c.compile, "nvrtcDestroyProgram": &c.destroy,
		"nvrtcGetProgramLogSize": &c.logSize, "nvrtcGetProgramLog": &c.log,
		"nvrtcGetPTXSize": &c.ptxSize, "nvrtcGetPTX": &c.ptx, "nvrtcVersion": &version,
	} {
		address, err := purego.Dlsym(handle, name)
		if err != nil {
			return nil, fmt.Errorf("open NVRTC: %w", err)
		}
		purego.RegisterFunc(f, address)
	}
	version(&c.Major, &c.Minor)
	return c, nil
}

// options are how all kernels are compiled: for every GPU from Ampere on, and with the source's own
// arithmetic (kernels/spin.cuh).
func options() []string {
	return []string{"--gpu-architecture=compute_80", "--std=c++17", "--fmad=false"}
}

// Folder compiles every .cu file of a folder, with its .cuh files as headers. The results are keyed
// by the names of the files that they belong in.
func (c *Compiler) Folder(dir string) (map[string][]byte, error) {
	headers := map[string]string{}
	paths, _ := filepath.Glob(filepath.Join(dir, "*.cu*"))
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			return nil, err
		}
		headers[filepath.Base(p)] = string(b)
	}
	out := map[string][]byte{}
	for name, source := range headers {
		if kernel, ok := strings.CutSuffix(name, ".cu"); ok {
			ptx, err := c.PTX(name, source, headers)
			if err != nil {
				return nil, err
			}
			out[kernel+".ptx"] = ptx
		}
	}
	return out, nil
}

// PTX compiles one source. headers are the texts of what it may include, by name.
func (c *Compiler) PTX(name, source string, headers map[string]string) ([]byte, error) {
	var names, texts []string
	for n, t := range headers {
		names, texts = append(names, n), append(texts, t)
	}
	var program uintptr
	if rc := c.create(&program, source, name, int32(len(names)), strings0(texts), strings0(names)); rc != 0 {
		return nil, fmt.Errorf("%s: nvrtcCreateProgram gives error %d", name, rc)
	}
	defer c.destroy(&program)
	how := options()
	if rc := c.compile(program, int32(len(how)), strings0(how)); rc != 0 {
		return nil, fmt.Errorf("%s: NVRTC gives error %d\n%s", name, rc, text(program, c.logSize, c.log))
	}
	ptx := text(program, c.ptxSize, c.ptx)
	if len(ptx) == 0 {
		return nil, fmt.Errorf("%s: NVRTC made no PTX", name)
	}
	return ptx, nil
}

// text is what a pair of size and get functions give, without the closing NUL.
func text(program uintptr, size func(uintptr, *uint64) int32, get func(uintptr, *byte) int32) []byte {
	var n uint64
	if size(program, &n) != 0 || n == 0 {
		return nil
	}
	b := make([]byte, n)
	if get(program, &b[0]) != 0 {
		return nil
	}
	return bytes.TrimRight(b, "\x00")
}

// strings0 is a C array of C strings.
func strings0(s []string) **byte {
	p := make([]*byte, len(s)+1)
	for i, x := range s {
		p[i] = &append([]byte(x), 0)[0]
	}
	return &p[0]
}
