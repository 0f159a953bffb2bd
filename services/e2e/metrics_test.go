package e2e

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/seed-8780d58e/spin/pkg/store/storetest"
	"github.com/seed-8780d58e/spin/pkg/telemetry"
)

// A run leaves in /metrics what it did: the figures are those of its spec, and of ClickHouse's rows.
func TestScrape(t *testing.T) {
	archive := storetest.Open(t)
	monitor := telemetry.NewMonitor("plane", zerolog.Nop())
	p := newPlane(t, archive)
	p.metrics = monitor.Registry
	s := p.start(oneGenerator(2))
	defer s.stop()
	id := s.submit(newSpec(t, dataset(t)))
	if err := s.trainer.Lead(s.ctx, id); err != nil {
		t.Fatal(err)
	}
	s.finish(id)
	w := httptest.NewRecorder()
	monitor.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	got := map[string]string{}
	for _, line := range strings.Split(w.Body.String(), "\n") {
		if name, value, ok := strings.Cut(line, " "); ok && name != "#" {
			got[name] = value
		}
	}
	rows := ask(t, archive, "SELECT toString(count()) FROM steps FINAL WHERE run_id = '"+id+"'")[0]
	tokens := ask(t, archive, "SELECT toString(sum(n_tokens)) FROM samples FINAL WHERE run_id = '"+id+"'")[0]
	for name, want := range map[string]string{
		"spin_generator_games_total":                           "40", // (14 + 6) prompts, 2 iterations
		"spin_generator_sampled_tokens_total":                  tokens,
		"spin_generator_weight_changes_total":                  "2",
		"spin_generator_tasks_in_hand":                         "0",
		`spin_recorder_rows_total{table="steps"}`:              rows,
		`spin_recorder_rows_total{table="games"}`:              "40",
		"spin_trainer_runs_led":                                "0",
		"spin_trainer_journal_messages":                        "0",
		"spin_trainer_refused_games_total":                     "0",
		`spin_trainer_step_seconds_count{phase="spin"}`:        got[`spin_trainer_steps_total{phase="spin"}`],
		`spin_evaluator_measure_seconds_count{task="heldout"}`: "5", // base, θ_0, θ_1, θ_2, control
	} {
		if got[name] != want || want == "" {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	if got["spin_trainer_games_wait_seconds_total"] == "0" {
		t.Error("training waited for no game")
	}
	if strings.Contains(w.Body.String(), "spin_trainer_queue_tasks{") {
		t.Error("a run that is over still has a queue")
	}
}
