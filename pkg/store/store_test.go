package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-8780d58e/spin/pkg/store"
	"github.com/seed-8780d58e/spin/pkg/store/storetest"
)

var epoch = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func ask(t *testing.T, s *store.Store, sql string) string {
	t.Helper()
	var b strings.Builder
	if err := s.Query(t.Context(), sql, "TSV", &b); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func insert(t *testing.T, s *store.Store, token string, b *store.Batch) {
	t.Helper()
	if err := s.Insert(t.Context(), token, b); err != nil {
		t.Fatal(err)
	}
}

func digest(t *testing.T, s *store.Store, run string) string {
	t.Helper()
	d, err := s.RowsDigest(t.Context(), run)
	if err != nil {
		t.Fatal(err)
	}
	if len(d) != 64 {
		t.Fatalf("digest %q", d)
	}
	return d
}

// rowCounts is the rows of every table, without FINAL: duplicates count.
func rowCounts(t *testing.T, s *store.Store) string {
	t.Helper()
	tables, err := s.Schema(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, tb := range tables {
		if !tb.View {
			out = append(out, tb.Name+" "+ask(t, s, "SELECT count() FROM "+tb.Name))
		}
	}
	return strings.Join(out, ", ")
}

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
	if !reflect.DeepEqual(before, after) {
		t.Error("the second migration changed the schema")
	}
	// A migration that was cut short runs again from its start.
	ask(t, s, "ALTER TABLE goose_db_version DELETE WHERE version_id > 0 SETTINGS mutations_sync = 2")
	if err := s.Migrate(t.Context()); err != nil {
		t.Errorf("the same statements again: %v", err)
	}
}

func TestRowTypesAreTheTables(t *testing.T) {
	s := storetest.Open(t)
	tables, err := s.Schema(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	batch := reflect.TypeFor[store.Batch]()
	fields := 0
	for _, tb := range tables {
		if tb.Comment == "" {
			t.Errorf("%s has no comment", tb.Name)
		}
		if tb.View {
			continue
		}
		f, ok := batch.FieldByNameFunc(func(n string) bool { return strings.ToLower(n) == tb.Name })
		if !ok {
			t.Errorf("Batch has no rows of %s", tb.Name)
			continue
		}
		fields++
		row := f.Type.Elem()
		tb.Columns = written(tb.Columns)
		if row.NumField() != len(tb.Columns) {
			t.Errorf("%s has %d fields, the table %d columns", row, row.NumField(), len(tb.Columns))
			continue
		}
		for i, c := range tb.Columns {
			if tag := row.Field(i).Tag.Get("ch"); tag != c.Name {
				t.Errorf("%s field %d is %q, the column %q", row, i, tag, c.Name)
			}
			if c.Comment == "" {
				t.Errorf("%s.%s has no comment", tb.Name, c.Name)
			}
		}
	}
	if fields != batch.NumField() {
		t.Errorf("Batch has %d tables, the database %d", batch.NumField(), fields)
	}
}

// written are the columns that an insert fills, not those that ClickHouse makes.
func written(columns []store.Column) []store.Column {
	return slices.DeleteFunc(slices.Clone(columns), func(c store.Column) bool { return c.Made })
}

func TestInsertReadsBack(t *testing.T) {
	s := storetest.Open(t)
	want := play("r1", "a", epoch)
	insert(t, s, "t", want)
	runs, err := s.Runs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(runs, want.Runs) {
		t.Errorf("runs\n got %+v\nwant %+v", runs, want.Runs)
	}
	steps, err := s.Steps(t.Context(), "r1", "spin")
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(steps, want.Steps) {
		t.Errorf("steps\n got %+v\nwant %+v", steps, want.Steps)
	}
	scores, err := s.Scores(t.Context(), "r1")
	if err != nil {
		t.Fatal(err)
	}
	if len(scores) != 4 || !reflect.DeepEqual(scores[0], want.Scores[0]) {
		t.Errorf("scores\n got %+v\nwant %+v", scores, want.Scores)
	}
	x := want.Samples[13]
	got := ask(t, s, "SELECT text = 'model answer 1 of iteration 1 to 0: \\'a\\\\b\\té\\'\\n', token_ids, length(token_logps), seed, n_tokens FROM samples WHERE sample_id = '"+x.SampleID+"'")
	if want := "1\t[9,0,1]\t3\t9223372036854775909\t3"; got != want {
		t.Errorf("sample %q, want %q", got, want)
	}
}

func TestInsertExactlyOnce(t *testing.T) {
	s := storetest.Open(t)
	b := play("r1", "a", epoch)
	if err := s.Insert(t.Context(), "", b); !errors.Is(err, store.ErrToken) {
		t.Errorf("no token: %v", err)
	}
	insert(t, s, "games/1-6", b)
	want := rowCounts(t, s)
	insert(t, s, "games/1-6", b)
	if got := rowCounts(t, s); got != want {
		t.Errorf("after a retry %s, want %s", got, want)
	}
	// A try that died between tables: those it reached are skipped, the others written.
	half := &store.Batch{Samples: play("r2", "a", epoch).Samples}
	insert(t, s, "games/7-9", half)
	whole := play("r2", "a", epoch)
	insert(t, s, "games/7-9", whole)
	if got, want := ask(t, s, "SELECT count(), uniqExact(run_id, sample_id) FROM samples"), "48\t48"; got != want {
		t.Errorf("samples %q, want %q", got, want)
	}
	// Another token is another insert, which the key still makes one row of.
	insert(t, s, "games/again", b)
	if got, want := ask(t, s, "SELECT count() FROM samples")+" "+ask(t, s, "SELECT count() FROM samples FINAL"), "72 48"; got != want {
		t.Errorf("samples %q, want %q", got, want)
	}
	insert(t, s, "empty", &store.Batch{})
}

func TestInsertCancelled(t *testing.T) {
	s := storetest.Open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Insert(ctx, "t", play("r1", "a", epoch)); err == nil {
		t.Error("no error")
	}
	if got := ask(t, s, "SELECT count() FROM samples"); got != "0" {
		t.Errorf("%s samples", got)
	}
	insert(t, s, "t", play("r1", "a", epoch))
	if got := ask(t, s, "SELECT count() FROM samples"); got != "24" {
		t.Errorf("%s samples", got)
	}
}

func TestInsertTooManyRows(t *testing.T) {
	s := storetest.Open(t)
	if err := s.Insert(t.Context(), "t", &store.Batch{Events: make([]store.Event, store.MaxRows+1)}); err == nil || !strings.Contains(err.Error(), "100001 rows of events") {
		t.Error(err)
	}
}

func TestRemove(t *testing.T) {
	s := storetest.Open(t)
	insert(t, s, "1", play("r1", "a", epoch))
	want := rowCounts(t, s)
	insert(t, s, "2", play("r2", "a", epoch))
	if err := s.Remove(t.Context(), "r2"); err != nil {
		t.Fatal(err)
	}
	if got := rowCounts(t, s); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// shuffled cuts a batch's rows into up to n pieces in a random order, some of
// them twice.
func shuffled(b *store.Batch, r *rand.Rand, n int) []*store.Batch {
	out := make([]*store.Batch, n)
	for i := range out {
		out[i] = &store.Batch{}
	}
	v := reflect.ValueOf(b).Elem()
	for f := range v.NumField() {
		for _, i := range r.Perm(v.Field(f).Len()) {
			for range 1 + r.IntN(2) {
				piece := reflect.ValueOf(out[r.IntN(n)]).Elem().Field(f)
				piece.Set(reflect.Append(piece, v.Field(f).Index(i)))
			}
		}
	}
	return out
}

func TestRowsDigestIsOfContent(t *testing.T) {
	s := storetest.Open(t)
	insert(t, s, "r1", play("r1", "generator-a", epoch))
	want := digest(t, s, "r1")
	if again := digest(t, s, "r1"); again != want {
		t.Errorf("twice: %s, then %s", want, again)
	}
	// Another run of the same spec, by others, at another time, written in
	// another order, partly twice.
	for i, b := range shuffled(play("r2", "generator-b", epoch.Add(9*time.Hour)), rand.New(rand.NewPCG(1, 2)), 7) {
		insert(t, s, "r2/"+string(rune('a'+i)), b)
	}
	if got := digest(t, s, "r2"); got != want {
		t.Errorf("shuffled: %s, want %s", got, want)
	}
	if none := digest(t, s, "nobody"); none == want {
		t.Error("a run without rows has the same digest")
	}
}

// Every content column counts, and no circumstance does.
func TestTableDigestsColumnByColumn(t *testing.T) {
	s := storetest.Open(t)
	schema, err := s.Schema(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// digests are the digests of a run with the last of play's rows of each
	// table, changed in the columns that want wants.
	digests := func(run string, want func(n int, c store.Column) bool) map[string]store.TableDigest {
		b, all := &store.Batch{}, reflect.ValueOf(play(run, "a", epoch)).Elem()
		for _, tb := range schema {
			if tb.View {
				continue
			}
			named := func(n string) bool { return strings.ToLower(n) == tb.Name }
			rows := all.FieldByNameFunc(named)
			row := rows.Slice(rows.Len()-1, rows.Len())
			for i, c := range written(tb.Columns) {
				if c.Name != "run_id" && want(i, c) {
					change(t, row.Index(0).Field(i))
				}
			}
			reflect.ValueOf(b).Elem().FieldByNameFunc(named).Set(row)
		}
		insert(t, s, run, b)
		found, err := s.TableDigests(t.Context(), run)
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]store.TableDigest{}
		for _, d := range found {
			if d.Rows != 1 {
				t.Errorf("%s has %d rows", d.Table, d.Rows)
			}
			out[d.Table] = d
		}
		return out
	}
	base := digests("base", func(int, store.Column) bool { return false })
	if got := digests("circumstances", func(_ int, c store.Column) bool { return !c.Content }); !reflect.DeepEqual(got, base) {
		t.Errorf("digests depend on circumstances:\n%v\n%v", got, base)
	}
	content := 0
	for n := range 32 { // columns of the widest table
		got := digests(fmt.Sprint("column ", n), func(i int, c store.Column) bool { return i == n && c.Content })
		for _, tb := range schema {
			if tb.View || tb.Name == "events" || n >= len(tb.Columns) {
				continue
			}
			c := tb.Columns[n]
			if changed := got[tb.Name] != base[tb.Name]; changed != c.Content {
				t.Errorf("%s.%s, content %v: changed, it changes the digest: %v", tb.Name, c.Name, c.Content, changed)
			}
			if c.Content {
				content++
			}
		}
	}
	if content < 90 {
		t.Errorf("only %d content columns", content)
	}
}

func change(t *testing.T, v reflect.Value) {
	t.Helper()
	switch x := v.Addr().Interface().(type) {
	case *string:
		*x += "!"
	case *uint32:
		*x += 17
	case *uint64:
		*x += 17
	case *float32:
		*x += 0.5
	case *float64:
		*x += 0.5
	case *bool:
		*x = !*x
	case *time.Time:
		*x = x.Add(time.Second)
	case **time.Time:
		*x = nil
	case *[]uint32:
		*x = append([]uint32{1}, *x...)
	case *[]float32:
		*x = append([]float32{1}, *x...)
	case *[]string:
		*x = append([]string{"x"}, *x...)
	default:
		t.Fatalf("change %T", x)
	}
}
