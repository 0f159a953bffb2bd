package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// Machine is what the figures were measured on.
type Machine struct {
	CPU       string   `json:"cpu"`
	Cores     int      `json:"cores"`
	MemoryGiB float64  `json:"memory_gib"`
	Flags     []string `json:"flags"` // those that decide what kernels can do
	Kernel    string   `json:"kernel"`
}

func (m Machine) has(flags ...string) bool {
	return slices.ContainsFunc(flags, func(f string) bool { return slices.Contains(m.Flags, f) })
}

// vectorFlags are what a kernel asks of /proc/cpuinfo, on amd64 and arm64.
var vectorFlags = []string{
	"avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "avx512_bf16", "avx_vnni",
	"amx_tile", "amx_bf16", "asimd", "asimddp", "bf16", "i8mm", "sve", "sve2",
}

func readMachine() (Machine, error) {
	m := Machine{Cores: runtime.NumCPU()}
	info, err := fields("/proc/cpuinfo")
	if err != nil {
		return m, err
	}
	m.CPU = strings.TrimSpace(info["model name"] + info["CPU part"])
	if f, ok := info["cpu family"]; ok {
		m.CPU += fmt.Sprintf(" (family %s, model %s, stepping %s)", f, info["model"], info["stepping"])
	}
	have := strings.Fields(info["flags"] + " " + info["Features"])
	for _, f := range vectorFlags {
		if slices.Contains(have, f) {
			m.Flags = append(m.Flags, f)
		}
	}
	memory, err := fields("/proc/meminfo")
	if err != nil {
		return m, err
	}
	kib, err := strconv.ParseFloat(strings.TrimSuffix(memory["MemTotal"], " kB"), 64)
	if err != nil {
		return m, fmt.Errorf("/proc/meminfo: %w", err)
	}
	m.MemoryGiB = float64(int(kib/(1<<20)*10)) / 10
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	m.Kernel = strings.TrimSpace(string(kernel))
	return m, err
}

// fields reads "name : value" lines, the first of each name.
func fields(path string) (map[string]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out := map[string]string{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), ":")
		if name = strings.TrimSpace(name); ok && out[name] == "" {
			out[name] = strings.TrimSpace(value)
		}
	}
	return out, lines.Err()
}
