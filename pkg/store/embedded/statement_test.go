package embedded

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func TestShapeOf(t *testing.T) {
	for _, c := range []struct {
		sql  string
		want shape
	}{
		{"", shape{}},
		{" -- x\n/* y */ # z\n", shape{}},
		{"select 1", shape{verb: "SELECT"}},
		{"SELECT 1 FORMAT CSV;", shape{verb: "SELECT", format: "CSV"}},
		{"SELECT 1 FORMAT CSV SETTINGS a = 1 -- FORMAT XML", shape{verb: "SELECT", format: "CSV"}},
		{"SELECT 'FORMAT CSV', \"FORMAT\", `a FORMAT b`, $$ FORMAT x; $$, $t$ ; $$ $t$", shape{verb: "SELECT"}},
		{`SELECT 'it''s \' FORMAT CSV'`, shape{verb: "SELECT"}},
		{"SELECT * FROM (SELECT 1 FORMAT CSV)", shape{verb: "SELECT"}},
		{"(SELECT 1) UNION ALL (SELECT 2)", shape{verb: "("}},
		{"WITH 1 AS x SELECT x", shape{verb: "WITH"}},
		{"SELECT 1; -- end\n", shape{verb: "SELECT"}},
		{"SELECT 1; SELECT 2", shape{verb: "SELECT", several: true}},
		{"CREATE TEMPORARY TABLE x (a UInt8)", shape{verb: "CREATE", temporary: true}},
		{"CREATE TABLE x (temporary UInt8) ENGINE = Memory", shape{verb: "CREATE"}},
		{"INSERT INTO x VALUES (1)", shape{verb: "INSERT", format: "Values", inserts: true, clauses: 14, data: 20}},
		{"INSERT INTO x (a, b) FORMAT Native", shape{verb: "INSERT", format: "Native", inserts: true, clauses: 21, data: 34}},
		{"INSERT INTO x FORMAT CSV \n1;2", shape{verb: "INSERT", format: "CSV", inserts: true, clauses: 14, data: 26}},
		{"INSERT INTO x SETTINGS a = 1 FORMAT CSV\n", shape{verb: "INSERT", format: "CSV", inserts: true, clauses: 14, data: 40}},
		{"INSERT INTO x SELECT 1", shape{verb: "INSERT SELECT"}},
		{"INSERT INTO x WITH 1 AS y SELECT y FORMAT Null", shape{verb: "INSERT SELECT", format: "Null"}},
		{"INSERT INTO x FROM INFILE 'a' FORMAT CSV", shape{verb: "INSERT SELECT", format: "CSV"}},
	} {
		if got := shapeOf(c.sql); got != c.want {
			t.Errorf("%q\n got %+v\nwant %+v", c.sql, got, c.want)
		}
	}
}

func FuzzShapeOf(f *testing.F) {
	for _, s := range []string{"SELECT 1 FORMAT CSV", "INSERT INTO x (a) SETTINGS b=1 FORMAT TSV\n1", "INSERT INTO x VALUES (1)", "'\\", "$a$", "/*", "--", "((", "INSERT FORMAT", "`\\"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		s := shapeOf(sql)
		if s.inserts && !(0 < s.clauses && s.clauses <= s.data && s.data <= len(sql)) {
			t.Errorf("%q: clauses at %d, data at %d", sql, s.clauses, s.data)
		}
		if s.inserts && s.verb != "INSERT" {
			t.Errorf("%q: %+v", sql, s)
		}
		// A quoted literal of anything is one token.
		sc := scanner{sql: quote(sql) + " x"}
		if !sc.next() || sc.sql[sc.start:sc.end] != quote(sql) {
			t.Errorf("quote(%q) = %s is not one token", sql, quote(sql))
		}
		sc = scanner{sql: quoteName(sql) + " x"}
		if !sc.next() || sc.sql[sc.start:sc.end] != quoteName(sql) {
			t.Errorf("quoteName(%q) = %s is not one token", sql, quoteName(sql))
		}
	})
}

func FuzzParseRequest(f *testing.F) {
	for _, s := range []string{"", "query=SELECT+1&default_format=Native&client_protocol_version=54460", "max_threads=1&param_x=2", "a%20b=1", "%zz", "param_=1", "compress=1", "default_format=a;b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := parseRequest(raw, http.Header{})
		if err != nil {
			return
		}
		for _, p := range append(q.settings, q.params...) {
			if strings.Trim(p.Name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") != "" || p.Name == "" {
				t.Errorf("%q: the name %q goes into SQL", raw, p.Name)
			}
		}
		if strings.ContainsAny(q.format, " ;'\n") || q.format == "" {
			t.Errorf("%q: format %q", raw, q.format)
		}
		// Order in the URL doesn't matter.
		v, _ := url.ParseQuery(raw)
		again, err := parseRequest(v.Encode(), http.Header{})
		if err != nil || len(again.settings) != len(q.settings) || again.query != q.query {
			t.Errorf("%q: %+v, then %+v %v", raw, q, again, err)
		}
	})
}
