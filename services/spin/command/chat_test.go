package command_test

import (
	"strings"
	"testing"
)

// TestChat: the same seed gives the same answer, by flag and by standard input, whatever the threads;
// another seed another; a conversation goes on until an empty line.
func TestChat(t *testing.T) {
	args := func(more ...string) []string {
		return append([]string{"chat", "--model", tiny, "--dtype", "f32", "--temperature", "1", "--max-new-tokens", "12", "--seed", "3"}, more...)
	}
	want := mustSpin(t, args("--prompt", "What is the capital of France?", "--threads", "1")...)
	if !strings.HasSuffix(want, "\n") || len(want) < 4 {
		t.Errorf("answer %q", want)
	}
	code, stdout, stderr := spin(t.Context(), "What is the capital of France?\nAnd of Japan?\n\nNever read\n", args("--threads", "2")...)
	if code != 0 || stderr != "" || !strings.HasPrefix(stdout, want) || len(stdout) <= len(want) {
		t.Errorf("exit %d, %s, answers %q; want %q and another", code, stderr, stdout, want)
	}
	if other := mustSpin(t, args("--prompt", "What is the capital of France?", "--seed", "4")...); other == want {
		t.Errorf("another seed gives the same answer %q", other)
	}
	greedy := mustSpin(t, args("--prompt", "Hello", "--temperature", "0")...)
	if again := mustSpin(t, args("--prompt", "Hello", "--temperature", "0", "--seed", "9", "--max-new-tokens", "1000")...); !strings.HasPrefix(again, strings.TrimSuffix(greedy, "\n")) {
		t.Errorf("greedy answers differ: %q, %q", greedy, again)
	}
}

// TestChatInterrupted: an answer stops when it is told to.
func TestChatInterrupted(t *testing.T) {
	ctx := &cancelled{Context: t.Context()}
	ctx.left.Store(3)
	code, _, stderr := spin(ctx, "", "chat", "--model", tiny, "--prompt", "Hello")
	if code != 1 || stderr != "spin: interrupted\n" {
		t.Errorf("exit %d, %q", code, stderr)
	}
}
