package store_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/seed-8780d58e/spin/pkg/store"
	"github.com/seed-8780d58e/spin/pkg/store/storetest"
)

func TestQueryFormats(t *testing.T) {
	s := storetest.Open(t)
	insert(t, s, "1", play("r1", "gen-a", epoch))
	const sql = "SELECT iteration, count() AS n FROM samples GROUP BY iteration ORDER BY iteration"
	for _, c := range []struct{ format, want string }{
		{"JSONEachRow", "{\"iteration\":0,\"n\":12}\n{\"iteration\":1,\"n\":12}\n"},
		{"CSVWithNames", "\"iteration\",\"n\"\n0,12\n1,12\n"},
		{"TabSeparatedWithNamesAndTypes", "iteration\tn\nUInt32\tUInt64\n0\t12\n1\t12\n"},
	} {
		var b strings.Builder
		if err := s.Query(t.Context(), sql, c.format, &b); err != nil {
			t.Fatal(err)
		}
		if b.String() != c.want {
			t.Errorf("%s: %q, want %q", c.format, b.String(), c.want)
		}
	}
	var b bytes.Buffer
	if err := s.Query(t.Context(), "SELECT number FROM numbers(300000) FORMAT Parquet", "CSV", &b); err != nil {
		t.Fatal(err)
	}
	f, err := parquet.OpenFile(bytes.NewReader(b.Bytes()), int64(b.Len()))
	if err != nil {
		t.Fatal(err)
	}
	if f.NumRows() != 300000 {
		t.Errorf("Parquet has %d rows", f.NumRows())
	}
}

func TestQueryErrors(t *testing.T) {
	s := storetest.Open(t)
	var b strings.Builder
	for _, c := range []struct{ sql, format, want string }{
		{"SELECT nothing FROM samples", "TSV", "UNKNOWN_IDENTIFIER"},
		{"SELEC 1", "TSV", "SYNTAX_ERROR"},
		{"SELECT 1", "Nonsense", "UNKNOWN_FORMAT"},
		{"SELECT 1", "no such", "UNKNOWN_FORMAT"},
		{"", "TSV", "Empty query"},
	} {
		err := s.Query(t.Context(), c.sql, c.format, &b)
		if err == nil || !strings.Contains(err.Error(), c.want) || b.Len() > 0 {
			t.Errorf("%q as %s: %v, wrote %q", c.sql, c.format, err, b.String())
		}
	}
	// A failure after the first block: what came is cut, and the reason is told.
	err := s.Query(t.Context(), "SELECT throwIf(number = 5000000) FROM numbers(10000000)", "TSV", &b)
	if err == nil || !strings.Contains(err.Error(), "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO") || b.Len() == 0 {
		t.Errorf("half way: %v after %d bytes", err, b.Len())
	}
}

func TestOpenBadURL(t *testing.T) {
	for _, c := range []struct{ url, want string }{
		{"ftp://host:21", "scheme"},
		{"http://spin:secret@127.0.0.1:1/", "connection refused"},
		{"://", "(unreadable)"},
	} {
		s, err := store.Open(t.Context(), store.Options{URL: c.url})
		if err == nil {
			s.Close()
			t.Errorf("%s opens", c.url)
		} else if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", c.url, err)
		}
	}
}
