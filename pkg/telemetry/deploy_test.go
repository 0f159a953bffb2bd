package telemetry_test

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// series are the names that can be asked for, with the labels of each.
func series(t *testing.T) map[string]map[string]bool {
	t.Helper()
	families, err := all().Registry.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]map[string]bool{}
	for _, f := range families {
		m := f.GetMetric()[0]
		labels := map[string]bool{"job": true, "instance": true} // of the scrape
		for _, l := range m.GetLabel() {
			labels[l.GetName()] = true
		}
		if m.GetHistogram() == nil {
			found[f.GetName()] = labels
			continue
		}
		found[f.GetName()+"_sum"], found[f.GetName()+"_count"] = labels, labels
		buckets := map[string]bool{"le": true}
		for l := range labels {
			buckets[l] = true
		}
		found[f.GetName()+"_bucket"] = buckets
	}
	return found
}

var (
	asked   = regexp.MustCompile(`spin_[a-z_]+`)
	grouped = regexp.MustCompile(`by \(([a-z_, ]+)\)`)
	matched = regexp.MustCompile(`\{([a-z_]+)="`)
)

// check says what an expression asks for that no service has.
func check(t *testing.T, known map[string]map[string]bool, where, expr string) {
	t.Helper()
	names := asked.FindAllString(expr, -1)
	if len(names) == 0 || strings.Count(expr, "(") != strings.Count(expr, ")") {
		t.Errorf("%s: %q asks for no metric of ours, or is not closed", where, expr)
	}
	var labels []string
	for _, g := range grouped.FindAllStringSubmatch(expr, -1) {
		labels = append(labels, strings.Split(g[1], ", ")...)
	}
	for _, m := range matched.FindAllStringSubmatch(expr, -1) {
		labels = append(labels, m[1])
	}
	for _, name := range names {
		if known[name] == nil {
			t.Errorf("%s: no service has %s", where, name)
			continue
		}
		for _, l := range labels {
			if !known[name][l] {
				t.Errorf("%s: %s has no label %s", where, name, l)
			}
		}
		counter := strings.HasSuffix(name, "_total") || strings.HasSuffix(name, "_bucket")
		if counter && !strings.Contains(expr, "rate(") && !strings.Contains(expr, "increase(") {
			t.Errorf("%s: %s only ever grows: ask for its rate", where, name)
		}
	}
}

func TestDashboardAsksForWhatThereIs(t *testing.T) {
	data, err := os.ReadFile("../../deploy/grafana/dashboards/plane.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels []struct {
			Title, Description string
			Datasource         struct{ UID string }
			Targets            []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	known := series(t)
	for _, p := range d.Panels {
		if p.Description == "" || len(p.Targets) == 0 || p.Datasource.UID != "${datasource}" {
			t.Errorf("%s: no description, no query, or a data source that is no variable", p.Title)
		}
		for _, q := range p.Targets {
			check(t, known, p.Title, q.Expr)
		}
	}
	if len(d.Panels) < 12 {
		t.Errorf("%d panels", len(d.Panels))
	}
}

func TestAlertsAskForWhatThereIs(t *testing.T) {
	data, err := os.ReadFile("../../deploy/prometheus/rules.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var rules struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For string
				Labels           map[string]string
				Annotations      struct{ Summary, Description string }
			}
		}
	}
	if err := yaml.UnmarshalWithOptions(data, &rules, yaml.Strict()); err != nil {
		t.Fatal(err)
	}
	known, alerts := series(t), 0
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			alerts++
			check(t, known, r.Alert, r.Expr)
			if r.Annotations.Summary == "" || r.Annotations.Description == "" || r.Labels["severity"] == "" {
				t.Errorf("%s does not say what it is or what to do", r.Alert)
			}
		}
	}
	if alerts < 5 {
		t.Errorf("%d alerts", alerts)
	}
}
