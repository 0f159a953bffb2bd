package chat

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Control tokens and text are kept apart while they are one string: before a conversation is rendered, a guard rune is
// put into its messages wherever a control token could start, wholly in the message, or with the help of what the
// template writes around it. The tokenizer reads no control token behind a guard or across one, then drops the guards
// (tokenizer.EncodeGuarded). Ordinary messages hold no such place and are rendered as they are, so that templates which
// look into them (trim, startswith, split) see what they expect, and words join across the border as they always did.

// guardMessages returns the messages with guards in their contents, and the guard: a noncharacter of Unicode that
// occurs neither in them nor in the template.
func guardMessages(messages []Message, template string, specials []string) (rune, []Message, error) {
	guard := rune(0)
	for r := rune(0xFDD0); r <= 0xFDEF && guard == 0; r++ {
		taken := strings.ContainsRune(template, r)
		for _, m := range messages {
			taken = taken || strings.ContainsRune(m.Content, r)
		}
		if !taken {
			guard = r
		}
	}
	if guard == 0 {
		return 0, nil, fmt.Errorf("the messages hold all of the noncharacters U+FDD0 to U+FDEF: they are no text")
	}
	guarded := slices.Clone(messages)
	for i := range guarded {
		guarded[i].Content = guardText(guarded[i].Content, guard, specials)
	}
	return guard, guarded, nil
}

// guardText puts guard before each place of text where one of the specials could start.
func guardText(text string, guard rune, specials []string) string {
	places := map[int]bool{}
	for _, special := range specials {
		mark(text, special, places)
	}
	if len(places) == 0 {
		return text
	}
	var b strings.Builder
	from := 0
	for _, place := range slices.Sorted(maps.Keys(places)) {
		b.WriteString(text[from:place])
		b.WriteRune(guard)
		from = place
	}
	b.WriteString(text[from:])
	return b.String()
}

// mark adds the places where special starts in text, where a start of it ends the text, and, where an end of it starts
// the text or the text is all inside it, the beginning of the text. Templates may trim: both forms are looked at.
func mark(text, special string, places map[int]bool) {
	for i := 0; ; i++ {
		next := strings.Index(text[i:], special)
		if next < 0 {
			break
		}
		i += next
		places[i] = true
	}
	lead := len(text) - len(strings.TrimLeftFunc(text, unicode.IsSpace))
	trail := len(strings.TrimRightFunc(text, unicode.IsSpace))
	if trail <= lead { // white space only
		lead, trail = 0, len(text)
	}
	for _, end := range []int{trail, len(text)} {
		for n := 1; n < len(special); n++ {
			if utf8.RuneStart(special[n]) && strings.HasSuffix(text[:end], special[:n]) {
				places[end-n] = true
			}
		}
	}
	for _, start := range []int{0, lead} {
		rest := text[start:]
		for n := 1; n < len(special); n++ {
			if utf8.RuneStart(special[n]) && (strings.HasPrefix(rest, special[n:]) || rest != "" && strings.HasPrefix(special[n:], text[start:trail])) {
				places[start] = true
			}
		}
	}
}
