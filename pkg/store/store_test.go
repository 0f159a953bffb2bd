package store_test

import (
	"testing"

	"github.com/seed-8780d58e/spin/pkg/store/storetest"
)

func TestMigrateTwice(t *testing.T) {
	s := storetest.Open(t)
	before, err := s.Schema(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	after, err := s.Schema(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(before) != len(after) || len(before) != 18 {
		t.Errorf("%d tables and views, then %d, want 18", len(before), len(after))
	}
	for _, tb := range after {
		t.Log(tb.Name, tb.View, tb.Key, len(tb.Columns), tb.Comment)
	}
}
