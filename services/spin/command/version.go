package command

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/pflag"

	"github.com/seed-8780d58e/spin/compute/cpu"
)

// version says what this binary is and what it can run on.
type version struct{}

func (*version) flags(*pflag.FlagSet) {}

func (*version) run(_ context.Context, _ []string, s Streams) error {
	revision := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		if info.Main.Version != "" {
			revision = info.Main.Version
		}
		for _, kv := range info.Settings {
			if kv.Key == "vcs.revision" {
				revision = kv.Value
			}
		}
	}
	fmt.Fprintf(s.Out, "spin %s %s %s/%s; instruction sets: %s\n", revision, runtime.Version(), runtime.GOOS, runtime.GOARCH, strings.Join(cpu.Instructions(), ", "))
	return nil
}
