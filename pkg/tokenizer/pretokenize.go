package tokenizer

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// splitter cuts text into parts and hands each to emit, in order.
type splitter func(text string, at place, emit func(part string, at place))

// place is where a text starts.
type place int

const (
	atStart place = iota // where the input starts
	goingOn              // there too, but the input goes on after another
	inside
)

// of returns the place of a part of a text at p.
func (p place) of(first bool) place {
	if first {
		return p
	}
	return inside
}

// scanner returns the length of the match of a pattern that starts where text starts or later: text[skip:skip+size].
// size 0: no match in the rest of text.
type scanner func(text string) (skip, size int)

// newPretokenizer returns the steps that cut text into words, and whether the last of them is ByteLevel, that is,
// whether the model's symbols are bytes.
func newPretokenizer(c *component) (steps []splitter, byteLevel bool, err error) {
	list, err := c.flatten()
	if err != nil {
		return nil, false, err
	}
	for i, step := range list {
		switch step.Type {
		case "Split":
			s, err := newSplit(step)
			if err != nil {
				return nil, false, err
			}
			steps = append(steps, s)
		case "Digits":
			behavior := "Contiguous"
			if step.IndividualDigits {
				behavior = "Isolated"
			}
			steps = append(steps, splitBy(scanDigit, behavior, false))
		case "Metaspace":
			s, err := newMetaspace(step)
			if err != nil {
				return nil, false, err
			}
			steps = append(steps, s...)
		case "ByteLevel":
			if i != len(list)-1 {
				return nil, false, fmt.Errorf("a ByteLevel that isn't the last step")
			}
			if step.AddPrefixSpace != nil && *step.AddPrefixSpace {
				steps = append(steps, prefixSpace)
			}
			if step.UseRegex == nil || *step.UseRegex {
				steps = append(steps, splitBy(scanGPT2, "Isolated", false))
			}
			byteLevel = true
		default:
			return nil, false, fmt.Errorf("type %q isn't known (known: Sequence, ByteLevel, Split, Digits, Metaspace)", step.Type)
		}
	}
	return steps, byteLevel, nil
}

func newSplit(c component) (splitter, error) {
	switch {
	case c.Pattern == nil:
		return nil, fmt.Errorf("a Split without a pattern")
	case c.Pattern.Regex != nil:
		scan, err := newScanner(*c.Pattern.Regex)
		if err != nil {
			return nil, err
		}
		return checkedSplit(scan, c)
	case c.Pattern.String != nil && *c.Pattern.String != "":
		return checkedSplit(scanLiteral(*c.Pattern.String), c)
	}
	return nil, fmt.Errorf("a Split with an empty pattern")
}

func checkedSplit(scan scanner, c component) (splitter, error) {
	switch c.Behavior {
	case "Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous":
		return splitBy(scan, c.Behavior, c.Invert), nil
	}
	return nil, fmt.Errorf("behavior %q of a Split isn't known", c.Behavior)
}

// splitBy cuts text into matches of a pattern and what lies between. behavior says what happens to the matches, invert
// swaps matches and the rest: SplitDelimiterBehavior of the tokenizers library.
func splitBy(scan scanner, behavior string, invert bool) splitter {
	return func(text string, at place, emit func(string, place)) {
		var held span // the part not yet emitted, which the next may join
		flush := func() {
			if held.from < held.to {
				emit(text[held.from:held.to], at.of(held.from == 0))
			}
			held = span{}
		}
		add := func(next span) {
			if next.from == next.to {
				return
			}
			joins := false
			switch behavior {
			case "Removed":
				if next.match {
					return
				}
			case "MergedWithPrevious":
				joins = next.match && !held.match
			case "MergedWithNext":
				joins = held.match && !next.match
			case "Contiguous":
				joins = held.match == next.match
			}
			if joins && held.from < held.to {
				held.to, held.match = next.to, next.match
				return
			}
			flush()
			held = next
		}
		for i := 0; i < len(text); {
			skip, size := scan(text[i:])
			if size == 0 {
				skip = len(text) - i
			}
			add(span{i, i + skip, invert})
			add(span{i + skip, i + skip + size, !invert})
			i += skip + size
		}
		flush()
	}
}

type span struct {
	from, to int
	match    bool
}

func prefixSpace(text string, at place, emit func(string, place)) {
	if text[0] != ' ' && at != goingOn {
		text = " " + text
	}
	emit(text, at)
}

// newMetaspace writes spaces as the replacement character, puts one in front, and cuts before each.
func newMetaspace(c component) ([]splitter, error) {
	if utf8.RuneCountInString(c.Replacement) != 1 {
		return nil, fmt.Errorf("replacement %q of a Metaspace isn't one character", c.Replacement)
	}
	scheme, err := c.prependScheme()
	if err != nil {
		return nil, err
	}
	steps := []splitter{func(text string, at place, emit func(string, place)) {
		text = strings.ReplaceAll(text, " ", c.Replacement)
		if (scheme == "always" && at != goingOn || scheme == "first" && at == atStart) && !strings.HasPrefix(text, c.Replacement) {
			text = c.Replacement + text
		}
		emit(text, at)
	}}
	if c.Split == nil || *c.Split {
		steps = append(steps, splitBy(scanLiteral(c.Replacement), "MergedWithNext", false))
	}
	return steps, nil
}

// prependScheme returns Metaspace's scheme; files older than the field say add_prefix_space.
func (c *component) prependScheme() (string, error) {
	switch c.PrependScheme {
	case "always", "first", "never":
		return c.PrependScheme, nil
	case "":
		if c.AddPrefixSpace != nil && !*c.AddPrefixSpace {
			return "never", nil
		}
		return "always", nil
	}
	return "", fmt.Errorf("prepend_scheme %q isn't known (known: always, first, never)", c.PrependScheme)
}

func scanLiteral(s string) scanner {
	return func(text string) (int, int) {
		if i := strings.Index(text, s); i >= 0 {
			return i, len(s)
		}
		return 0, 0
	}
}

func scanDigit(text string) (int, int) {
	for i, r := range text {
		if unicode.IsNumber(r) {
			return i, utf8.RuneLen(r)
		}
	}
	return 0, 0
}
