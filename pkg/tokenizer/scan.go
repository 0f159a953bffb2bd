package tokenizer

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The patterns that most byte-level vocabularies are cut with. Each has a hand-written scanner, and a test holds it to
// the pattern.
const (
	patternGPT2   = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
	patternLlama3 = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	patternQwen2  = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

// newScanner returns a scanner for a regular expression of tokenizer.json (Oniguruma's syntax).
func newScanner(expr string) (scanner, error) {
	switch expr {
	case patternGPT2:
		return scanGPT2, nil
	case patternLlama3:
		return scanLlama3(3), nil
	case patternQwen2:
		return scanLlama3(1), nil
	}
	return newRegexScanner(expr)
}

// scanGPT2 matches patternGPT2 at the start of text; every character is in one of its alternatives.
func scanGPT2(text string) (skip, size int) {
	if n := contraction(text, false); n > 0 {
		return 0, n
	}
	at := 0
	if text[0] == ' ' {
		at = 1
	}
	if k := kindAt(text, at); k == letter || k == number || k == other {
		return 0, at + runOf(text[at:], k)
	}
	return 0, spaces(text)
}

// scanLlama3 matches patternLlama3 at the start of text, with numbers of at most digits characters.
func scanLlama3(digits int) scanner {
	return func(text string) (skip, size int) {
		if n := contraction(text, true); n > 0 {
			return 0, n
		}
		r, n := utf8.DecodeRuneInString(text)
		first := kindOf(r)
		switch {
		case first == letter:
			return 0, runOf(text, letter)
		case first != number && r != '\r' && r != '\n' && kindAt(text, n) == letter:
			return 0, n + runOf(text[n:], letter)
		case first == number:
			size = n
			for range digits - 1 {
				if kindAt(text, size) != number {
					break
				}
				_, n = utf8.DecodeRuneInString(text[size:])
				size += n
			}
			return 0, size
		}
		at := 0
		if r == ' ' {
			at = 1
		}
		if kindAt(text, at) == other {
			size = at + runOf(text[at:], other)
			for size < len(text) && (text[size] == '\r' || text[size] == '\n') {
				size++
			}
			return 0, size
		}
		run := text[:runOf(text, space)]
		if last := strings.LastIndexAny(run, "\r\n"); last >= 0 {
			return 0, last + 1
		}
		return 0, spaces(text)
	}
}

// spaces matches \s+(?!\S)|\s+ : white space, less its last character where more text follows and something is left.
func spaces(text string) int {
	n := runOf(text, space)
	if n == len(text) {
		return n
	}
	if _, last := utf8.DecodeLastRuneInString(text[:n]); last < n {
		return n - last
	}
	return n
}

// contraction matches 's|'t|'re|'ve|'m|'ll|'d and returns its length.
func contraction(text string, fold bool) int {
	if text[0] != '\'' {
		return 0
	}
	for _, tail := range [...]string{"s", "t", "re", "ve", "m", "ll", "d"} {
		rest := text[1:]
		if strings.HasPrefix(rest, tail) {
			return 1 + len(tail)
		}
		if !fold {
			continue
		}
		if len(rest) >= len(tail) && strings.EqualFold(rest[:len(tail)], tail) {
			return 1 + len(tail)
		}
		if tail == "s" && strings.HasPrefix(rest, "ſ") { // the long s folds to s
			return 1 + len("ſ")
		}
	}
	return 0
}

// kind is what the patterns tell apart.
type kind int

const (
	none kind = iota // end of text
	letter
	number
	space
	other
)

func kindOf(r rune) kind {
	switch {
	case r < utf8.RuneSelf:
		switch {
		case 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z':
			return letter
		case '0' <= r && r <= '9':
			return number
		case r == ' ' || '\t' <= r && r <= '\r':
			return space
		}
		return other
	case unicode.IsLetter(r):
		return letter
	case unicode.IsNumber(r):
		return number
	case unicode.IsSpace(r):
		return space
	}
	return other
}

func kindAt(text string, i int) kind {
	if i >= len(text) {
		return none
	}
	r, _ := utf8.DecodeRuneInString(text[i:])
	return kindOf(r)
}

// runOf returns the length of the longest start of text that is all of kind k.
func runOf(text string, k kind) int {
	for i, r := range text {
		if kindOf(r) != k {
			return i
		}
	}
	return len(text)
}

const maxPattern = 4096

// newRegexScanner translates a pattern to Go's regular expressions, which run in linear time: a hostile file can't
// make them hang. Look-ahead exists in one form only, \s+(?!\S)|\s+, which all known vocabularies use; other patterns
// that can't be said exactly are refused.
func newRegexScanner(expr string) (scanner, error) {
	refuse := func(why string) (scanner, error) {
		return nil, fmt.Errorf("pattern %.200q isn't supported: %s", expr, why)
	}
	if len(expr) > maxPattern {
		return refuse(fmt.Sprintf("longer than %d bytes", maxPattern))
	}
	if strings.Contains(expr, "(?P") {
		return refuse("a named group")
	}
	translated, err := translate(strings.ReplaceAll(expr, `\s+(?!\S)|\s+`, `(?P<gap>\s+)`))
	if err != nil {
		return refuse(err.Error())
	}
	re, err := regexp.Compile(translated)
	if err != nil {
		return refuse(err.Error())
	}
	gap := re.SubexpIndex("gap")
	return func(text string) (skip, size int) {
		at := re.FindStringSubmatchIndex(text)
		if at == nil || at[1] == at[0] {
			return 0, 0
		}
		if gap >= 0 && at[2*gap] >= 0 {
			return at[0], spaces(text[at[0]:])
		}
		return at[0], at[1] - at[0]
	}, nil
}

// translate rewrites the classes that mean ASCII to Go and Unicode to Oniguruma.
func translate(expr string) (string, error) {
	const white = `\t-\r\x{85}\p{Z}`
	var b strings.Builder
	class := 0
	repeated := false // the last thing was a quantifier
	for i := 0; i < len(expr); i++ {
		c := expr[i]
		quantifier := class == 0 && (strings.IndexByte("+*?", c) >= 0 || c == '}')
		if quantifier && c == '+' && repeated {
			return "", fmt.Errorf("a possessive quantifier")
		}
		repeated = quantifier
		if c != '\\' {
			switch {
			case c == '[':
				class++
			case c == ']':
				class--
			case class == 0 && c == '^':
				return "", fmt.Errorf("an anchor at the start of a line")
			case class == 0 && c == '$': // Ruby's: the end of any line
				b.WriteString("(?m:$)")
				continue
			case class == 0 && c == '(' && strings.HasPrefix(expr[i:], "(?") && !allowedGroup(expr[i:]):
				return "", fmt.Errorf("group %.4q", expr[i:])
			case class > 0 && c == '&' && strings.HasPrefix(expr[i:], "&&"):
				return "", fmt.Errorf("an intersection of classes")
			}
			if class > 1 {
				return "", fmt.Errorf("a class inside a class")
			}
			b.WriteByte(c)
			continue
		}
		i++
		if i == len(expr) {
			return "", fmt.Errorf("a backslash at its end")
		}
		switch c := expr[i]; {
		case c == 's' && class > 0:
			b.WriteString(white)
		case c == 's':
			b.WriteString("[" + white + "]")
		case c == 'S' && class == 0:
			b.WriteString("[^" + white + "]")
		case c == 'd':
			b.WriteString(`\p{Nd}`)
		case c == 'p' || c == 'P':
			end := strings.IndexByte(expr[i:], '}')
			if end < 0 || expr[i+1] != '{' {
				return "", fmt.Errorf("\\%c without {…}", c)
			}
			b.WriteString(`\` + expr[i:i+end+1])
			i += end
		case strings.IndexByte("SDwWbBhHXRKGAzZ123456789k", c) >= 0:
			return "", fmt.Errorf("\\%c", c)
		default:
			b.WriteByte('\\')
			b.WriteByte(c)
		}
	}
	return b.String(), nil
}

func allowedGroup(expr string) bool {
	return strings.HasPrefix(expr, "(?:") || strings.HasPrefix(expr, "(?i:") || strings.HasPrefix(expr, "(?P<gap>")
}
