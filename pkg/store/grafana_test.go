package store_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-8780d58e/spin/pkg/store"
	"github.com/seed-8780d58e/spin/pkg/store/storetest"
)

// dashboard is what is asked in a Grafana dashboard.
type dashboard struct {
	UID    string
	Panels []struct {
		Type, Title, Description string
		Targets                  []struct{ RawSQL string }
	}
	Templating struct {
		List []struct {
			Name  string
			Type  string
			Query json.RawMessage
		}
	}
}

// TestGrafana asks what every panel and variable of deploy/grafana asks, as Grafana would, of a run that has something to
// say on each.
func TestGrafana(t *testing.T) {
	s := storetest.Open(t)
	b := play("r1", "gen-a", epoch)
	b.Games[0].Hole = "poison"
	for i := range b.Games {
		b.Games[i].Attempt = 2
	}
	words := "the same seven words or so again and then some more of them"
	b.Samples[0].Text, b.Samples[0].NTokens = words, 14
	b.Samples[2].Text, b.Samples[2].NTokens = strings.ToUpper(words), 14
	insert(t, s, "1", b)
	files, err := filepath.Glob("../../deploy/grafana/dashboards/*.json")
	if err != nil || len(files) < 2 {
		t.Fatalf("dashboards: %v, %v", files, err)
	}
	macros := strings.NewReplacer("$__timeFilter(minute)", "minute >= toDateTime(0)", "$__timeFilter(created_at)", "created_at >= toDateTime(0)", "$run", "r1", "${run}", "r1")
	uids := map[string]string{}
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var d dashboard
		if err := json.Unmarshal(data, &d); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if other := uids[d.UID]; d.UID == "" || other != "" {
			t.Errorf("%s has the uid %q of %q", path, d.UID, other)
		}
		uids[d.UID] = path
		if !strings.Contains(string(data), "grafana-clickhouse-datasource") {
			continue // of the plane: Prometheus answers it
		}
		for _, v := range d.Templating.List {
			if v.Type == "query" {
				var q struct{ RawSQL string }
				if err := json.Unmarshal(v.Query, &q); err != nil {
					t.Fatalf("%s: %s: %v", path, v.Name, err)
				}
				asked(t, s, path+": $"+v.Name, q.RawSQL)
			}
		}
		for _, p := range d.Panels {
			if p.Type == "row" {
				continue
			}
			if p.Description == "" || len(p.Targets) == 0 {
				t.Errorf("%s: %s has no description or no query", path, p.Title)
			}
			for _, q := range p.Targets {
				sql := macros.Replace(q.RawSQL)
				if strings.Contains(sql, "$") {
					t.Errorf("%s: %s: a variable or macro that this test doesn't know: %s", path, p.Title, sql)
				}
				asked(t, s, path+": "+p.Title, sql)
			}
		}
	}
}

// asked runs one query, which must have an answer.
func asked(t *testing.T, s *store.Store, what, sql string) {
	t.Helper()
	var out strings.Builder
	if err := s.Query(t.Context(), sql, "TSV", &out); err != nil {
		t.Errorf("%s: %v", what, err)
	} else if out.Len() == 0 {
		t.Errorf("%s: no rows", what)
	}
}
