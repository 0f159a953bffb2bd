package embedded

import "strings"

// shape is what the bridge must know of a statement: enough to choose between
// streaming, plain and spooled execution, and no more of SQL than that.
type shape struct {
	verb   string // first word, in capitals; "(" for a parenthesised SELECT
	format string // of a FORMAT clause ("Values" for VALUES), as written
	several,
	temporary bool // more than one statement; CREATE TEMPORARY …

	// For INSERT with data (not INSERT … SELECT) only.
	inserts bool
	clauses int // offset where FROM INFILE belongs: before SETTINGS and FORMAT
	data    int // offset of the data that follows the statement
}

// shapeOf reads a statement's tokens. It never fails: what is not SQL gets a
// shape with which the engine will refuse it.
func shapeOf(sql string) shape {
	var s shape
	sc := scanner{sql: sql}
	ended, settings, words := false, -1, 0
	for sc.next() {
		if ended {
			s.several = true
			return s
		}
		if words++; words == 1 {
			s.verb = sc.word()
		}
		if sc.depth > 0 {
			continue
		}
		insert := s.verb == "INSERT"
		switch sc.word() {
		case ";":
			ended = true
		case "TEMPORARY", "TEMP":
			s.temporary = s.temporary || s.verb == "CREATE" && words <= 4 // CREATE OR REPLACE TEMPORARY
		case "SETTINGS":
			if settings < 0 {
				settings = sc.start
			}
		case "SELECT", "WITH", "INFILE", "FROM":
			if insert {
				insert, s.verb = false, "INSERT SELECT"
			}
		case "VALUES":
			if insert {
				s.format, s.inserts = "Values", true
				s.clauses, s.data = before(settings, sc.start), sc.end
				return s
			}
		case "FORMAT":
			start := sc.start
			if !sc.next() {
				return s
			}
			s.format = sql[sc.start:sc.end]
			if insert {
				s.inserts = true
				s.clauses, s.data = before(settings, start), skipLine(sql, sc.end)
				return s
			}
		}
	}
	return s
}

func before(settings, other int) int {
	if settings >= 0 {
		return settings
	}
	return other
}

// skipLine skips the blanks and the one line break that part FORMAT's name
// from the data.
func skipLine(sql string, i int) int {
	for i < len(sql) && (sql[i] == ' ' || sql[i] == '\t' || sql[i] == '\r') {
		i++
	}
	if i < len(sql) && sql[i] == '\n' {
		i++
	}
	return i
}

// cuttable says whether blocks of the format, each formatted by itself and
// put end to end, are the format's document. Formats with a header, a footer
// or separators are not.
func cuttable(format string) bool {
	switch strings.ToLower(format) {
	case "native", "null", "rowbinary", "tabseparated", "tsv", "tabseparatedraw", "tsvraw", "raw", "csv",
		"jsoneachrow", "jsonlines", "ndjson", "jsonstringseachrow", "jsoncompacteachrow", "jsoncompactstringseachrow",
		"linesasstring", "lineasstring", "rawblob", "tskv", "msgpack":
		return true
	}
	return false
}

// scanner yields ClickHouse's tokens: words, quoted things and single signs.
type scanner struct {
	sql        string
	start, end int // of the current token
	depth      int // of the brackets around it
}

func (s *scanner) word() string { return strings.ToUpper(s.sql[s.start:s.end]) }

func (s *scanner) next() bool {
	i := s.end
	for i < len(s.sql) {
		rest := s.sql[i:]
		switch {
		case rest[0] <= ' ':
			i++
		case strings.HasPrefix(rest, "--"), strings.HasPrefix(rest, "# "), strings.HasPrefix(rest, "#!"):
			i += through(rest, "\n", 2)
		case strings.HasPrefix(rest, "/*"):
			i += through(rest, "*/", 2)
		default:
			s.start, s.end = i, i+tokenLen(rest)
			switch rest[0] {
			case '(', '[', '{':
				s.depth++
			case ')', ']', '}':
				s.depth = max(0, s.depth-1)
			}
			return true
		}
	}
	s.start, s.end = len(s.sql), len(s.sql)
	return false
}

// through is the length of s up to and with the first end at or after from.
func through(s, end string, from int) int {
	if i := strings.Index(s[from:], end); i >= 0 {
		return from + i + len(end)
	}
	return len(s)
}

func tokenLen(s string) int {
	switch c := s[0]; {
	case c == '\'' || c == '"' || c == '`':
		for i := 1; i < len(s); i++ {
			switch {
			case s[i] == '\\':
				i++
			case s[i] == c && i+1 < len(s) && s[i+1] == c:
				i++
			case s[i] == c:
				return i + 1
			}
		}
		return len(s)
	case c == '$': // $tag$ … $tag$
		n := 1
		for n < len(s) && isWord(s[n]) {
			n++
		}
		if n < len(s) && s[n] == '$' {
			return through(s, s[:n+1], n+1)
		}
		return 1
	case isWord(c):
		n := 1
		for n < len(s) && isWord(s[n]) {
			n++
		}
		return n
	}
	return 1
}

func isWord(c byte) bool {
	return c == '_' || c >= 0x80 || '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z'
}
