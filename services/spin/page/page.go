// Package page draws a run as one HTML file that needs no network: its story, charts, a table an
// iteration with the control beside it, what people and each iteration answered, alarms, and where all
// weights came from; or several runs side by side. Everything in it is read from ClickHouse.
//
// The charts are drawn by uPlot 1.6.32 (MIT, uplot/LICENSE), which is inlined. Texts of models and
// data sets are hostile until html/template has escaped them, and the page's policy lets no script
// run but its own, which it names by digest.
package page

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/seed-8780d58e/spin/pkg/store"
)

//go:embed page.html compare.html charts.html page.css page.js uplot/uPlot.iife.min.js uplot/uPlot.min.css
var files embed.FS

// How much of a run is shown.
const (
	shownAnswers = 8
	shownEvents  = 100
)

// document is what every page has: its charts, and what draws them.
type document struct {
	Policy template.HTMLAttr
	Style  template.CSS
	Script template.JS
	Charts []chart
	Made   string
}

// run is what the page of a run says, as its template reads it.
type run struct {
	document
	Story   []string
	ID      string
	Name    string
	Model   string
	Seed    uint64
	State   string
	Error   string
	Engine  string
	Began   string
	Config  string
	Summary []store.Summary
	Weights []weights
	Answers []store.Answers
	Alarms  []store.Event
	Others  []store.Event
}

// Write draws a run on w, or several of them side by side.
func Write(ctx context.Context, s *store.Store, runs []store.Run, w io.Writer) error {
	var page any
	var assets *document
	name := "page.html"
	if len(runs) == 1 {
		p, err := read(ctx, s, runs[0])
		if err != nil {
			return err
		}
		page, assets = p, &p.document
	} else {
		c, err := compare(ctx, s, runs)
		if err != nil {
			return err
		}
		page, assets, name = c, &c.document, "compare.html"
	}
	assets.Made = clock(time.Now())
	if err := assets.inline(); err != nil {
		return err
	}
	t, err := template.New(name).Funcs(template.FuncMap{
		"fixed": fixed, "signed": signed, "percent": percent, "whole": whole, "short": short, "time": clock, "theta": theta,
		"next": func(iteration uint32) string { return theta(iteration + 1) },
	}).ParseFS(files, name, "charts.html")
	if err != nil {
		return err
	}
	var b bytes.Buffer // so that a file is whole or not there
	if err := t.Execute(&b, page); err != nil {
		return fmt.Errorf("draw run %s: %w", runs[0].RunID, err)
	}
	_, err = b.WriteTo(w)
	return err
}

// read collects the page's content.
func read(ctx context.Context, s *store.Store, r store.Run) (*run, error) {
	p := &run{
		ID: r.RunID, Name: r.Name, Model: filepath.Base(r.Model), Seed: r.Seed, State: r.State, Error: r.Error, Engine: r.Fingerprint,
		Began: clock(r.CreatedAt), Config: indent(r.Config),
	}
	var err error
	if p.Summary, err = s.Summaries(ctx, r.RunID); err != nil {
		return nil, err
	}
	scores, err := s.Scores(ctx, r.RunID)
	if err != nil {
		return nil, err
	}
	checkpoints, err := s.Checkpoints(ctx, r.RunID)
	if err != nil {
		return nil, err
	}
	p.Weights = weightsOf(checkpoints, scores)
	if p.Answers, err = s.Compare(ctx, r.RunID, "heldout", shownAnswers); err != nil {
		return nil, err
	}
	if len(p.Answers) == 0 {
		if p.Answers, err = s.Compare(ctx, r.RunID, "train", shownAnswers); err != nil {
			return nil, err
		}
	}
	events, err := s.Events(ctx, r.RunID, shownEvents)
	if err != nil {
		return nil, err
	}
	for _, e := range events {
		if e.Level == "alarm" || e.Level == "warn" {
			p.Alarms = append(p.Alarms, e)
		} else {
			p.Others = append(p.Others, e)
		}
	}
	p.Story = story(r, p.Weights, p.Summary)
	p.Charts, err = charts(ctx, s, r, p.Weights)
	return p, err
}

// inline puts in style and script, and makes the policy that allows them and nothing else.
func (p *document) inline() error {
	var text [4]string
	for i, name := range []string{"uplot/uPlot.min.css", "page.css", "uplot/uPlot.iife.min.js", "page.js"} {
		b, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		text[i] = string(b)
	}
	script := strings.ReplaceAll(text[2]+"\n"+text[3], "</script", `<\/script`)
	sum := sha256.Sum256([]byte(script))
	p.Style, p.Script = template.CSS(text[0]+text[1]), template.JS(script)
	p.Policy = template.HTMLAttr(fmt.Sprintf(`content="default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-%s'; base-uri 'none'; form-action 'none'"`,
		base64.StdEncoding.EncodeToString(sum[:])))
	return nil
}
