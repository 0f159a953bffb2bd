package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// markdown is RESULTS.md.
func (r *Results) markdown() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# Beside the peers")
	line("")
	line("Written by `make bench-peers` from results.json; [README.md](README.md) says how it is measured.")
	line("")
	line("%s, %d cores, %.1f GiB, Linux %s. Instructions: %s.", r.Machine.CPU, r.Machine.Cores, r.Machine.MemoryGiB, r.Machine.Kernel, strings.Join(r.Machine.Flags, " "))
	line("Versions: %s.", pairsOf(r.Versions, func(k, v string) string { return k + " " + v }))
	line("Measured on all cores in the last run: %s.", pairsOf(r.Roofline, func(k string, v float64) string { return fmt.Sprintf("%s %.4g %s", k, v, rooflineUnit(k)) }))
	line("")
	line("The ratio is ours to the peer's, over pairs that took turns; of seconds, the peer's to ours. \"The most\" before a bar means that")
	line("less is better. The peer's settings are the fastest of those listed below. A figure with * was measured while other processes used")
	line("more than %.1f of a core.", quiet)
	line("")
	line("| what | against | ours | peer | ratio | bar | goal | reached |")
	line("|---|---|---:|---:|---:|---:|---:|---|")
	for _, x := range r.Rows {
		line("| %s | %s | %s | %s | %s%s | %s | %s | %s |", x.What, strings.TrimSpace(x.Against+" "+setting(x)), number(x.Ours, x.Unit), number(x.Peer, x.Unit),
			ratio(x.Ratio), noisy(x), bar(x, x.Bar), bar(x, x.Goal), x.verdict())
	}
	line("")
	line("## Details")
	for _, x := range r.Rows {
		line("")
		line("**%s** (%s, %s): pairs %s.", x.Name, x.At.Format("2006-01-02 15:04 MST"), x.Commit, numbers(x))
		if len(x.Trials) > 0 {
			line("Settings tried, the best unit of each: %s.", pairsOf(x.Trials, func(k, v string) string { return k + " " + v }))
		}
		if len(x.OursParts) > 0 {
			line("Seconds, ours / the peer's: %s.", pairsOf(x.OursParts, func(k string, v float64) string { return fmt.Sprintf("%s %.4g / %.4g", k, v, x.PeerParts[k]) }))
		}
	}
	return b.String()
}

func pairsOf[V any](m map[string]V, say func(string, V) string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, say(k, m[k]))
	}
	return strings.Join(out, ", ")
}

func rooflineUnit(name string) string {
	if name == "read" {
		return "GB/s"
	}
	return "GFLOP/s"
}

// setting is the peer's, without its name.
func setting(x Row) string {
	_, s, _ := strings.Cut(x.Setting, " ")
	return s
}

func number(v float64, unit string) string { return strings.TrimSpace(fmt.Sprintf("%.4g %s", v, unit)) }

// ratio has three digits, and those of a small one.
func ratio(v float64) string {
	if v >= 0.1 {
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.2g", v)
}

func noisy(x Row) string {
	if x.Others > quiet {
		return " *"
	}
	return ""
}

func bar(x Row, v float64) string {
	switch {
	case v == 0:
		return "–"
	case x.Less:
		return fmt.Sprintf("the most %g", v)
	}
	return fmt.Sprintf("%g", v)
}

func numbers(x Row) string {
	if len(x.Ratios) == 0 {
		return fmt.Sprint(x.Pairs)
	}
	var out []string
	for _, v := range x.Ratios {
		out = append(out, ratio(v))
	}
	return fmt.Sprintf("%d, ratios %s", x.Pairs, strings.Join(out, " "))
}
