package store_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/seed-8780d58e/spin/pkg/store"
	"github.com/seed-8780d58e/spin/pkg/store/storetest"
)

// TestSchemaMD keeps SCHEMA.md what the comments of the migrations say. go
// generate writes it anew.
func TestSchemaMD(t *testing.T) {
	s := storetest.Open(t)
	tables, err := s.Schema(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := markdown(tables)
	if os.Getenv("SPIN_WRITE_SCHEMA") != "" {
		if err := os.WriteFile("SCHEMA.md", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("SCHEMA.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("SCHEMA.md is stale: run go generate ./pkg/store")
	}
}

func markdown(tables []store.Table) string {
	var b strings.Builder
	b.WriteString("<!-- Made by go generate ./pkg/store from the comments in migrations/*.sql. Do not edit. -->\n# Tables and views\n\n" +
		"**content** columns are the same whenever the same run is made, and are what `rows_digest` hashes; *circumstance* columns tell when, by whom and how fast.\n" +
		"Rows that are written again replace themselves: say `FINAL` where an exact count matters. The views do.\n")
	for _, views := range []bool{false, true} {
		for _, t := range tables {
			if t.View != views {
				continue
			}
			fmt.Fprintf(&b, "\n## %s\n%s\n", t.Name, t.Comment)
			if views {
				b.WriteString("\n| column | type |\n|---|---|\n")
			} else {
				fmt.Fprintf(&b, "Key: `%s`.\n\n| column | type | | |\n|---|---|---|---|\n", t.Key)
			}
			for _, c := range t.Columns {
				switch {
				case views:
					fmt.Fprintf(&b, "| `%s` | %s |\n", c.Name, c.Type)
				case c.Content:
					fmt.Fprintf(&b, "| `%s` | %s | **content** | %s |\n", c.Name, c.Type, c.Comment)
				default:
					fmt.Fprintf(&b, "| `%s` | %s | *circumstance* | %s |\n", c.Name, c.Type, c.Comment)
				}
			}
		}
	}
	return b.String()
}
