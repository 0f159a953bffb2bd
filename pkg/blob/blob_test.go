package blob

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const helloDigest = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

func open(t *testing.T) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPutPlaceDelete(t *testing.T) {
	s, ctx := open(t), context.Background()
	file := filepath.Join(t.TempDir(), "hello")
	if err := os.WriteFile(file, []byte("hello"), 0o644); err != nil {
		t.Fatal(err)
	}
	for name, put := range map[string]func() (string, int64, error){
		"reader": func() (string, int64, error) { return s.Put(ctx, strings.NewReader("hello")) },
		"file":   func() (string, int64, error) { return s.PutFile(ctx, file) },
		"again":  func() (string, int64, error) { return s.PutFile(ctx, file) },
	} {
		if digest, size, err := put(); digest != helloDigest || size != 5 || err != nil {
			t.Errorf("%s: %s, %d, %v", name, digest, size, err)
		}
	}
	to := filepath.Join(t.TempDir(), "placed")
	if err := s.Place(ctx, helloDigest, to); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(to); err != nil || !bytes.Equal(got, []byte("hello")) {
		t.Errorf("placed %q, %v", got, err)
	}
	var listed []string
	if err := s.List(func(d string, _ int64) error { listed = append(listed, d); return nil }); err != nil || len(listed) != 1 {
		t.Errorf("listed %v, %v", listed, err)
	}
	if err := s.Delete(helloDigest); err != nil {
		t.Fatal(err)
	}
	if has, err := s.Has(helloDigest); has || err != nil {
		t.Errorf("has a deleted blob: %v, %v", has, err)
	}
	if err := s.Place(ctx, helloDigest, to); !errors.Is(err, ErrNotFound) {
		t.Errorf("placed a deleted blob: %v", err)
	}
	if left, _ := os.ReadDir(filepath.Join(s.root, "tmp")); len(left) != 0 {
		t.Errorf("left in tmp: %v", left)
	}
}

func TestDamagedBlobIsRefused(t *testing.T) {
	s, ctx := open(t), context.Background()
	if _, _, err := s.Put(ctx, strings.NewReader("hello")); err != nil {
		t.Fatal(err)
	}
	path, _ := s.path(helloDigest)
	if err := os.WriteFile(path, []byte("hellp"), 0o644); err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), "placed")
	if err := s.Place(ctx, helloDigest, to); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("placed a damaged blob: %v", err)
	}
	if _, err := os.Stat(to); err == nil {
		t.Error("a damaged blob was placed")
	}
}

func TestNotADigest(t *testing.T) {
	s := open(t)
	for _, d := range []string{"", "..", strings.Repeat("z", 64), strings.ToUpper(helloDigest), "../../" + helloDigest} {
		if _, err := s.Has(d); err == nil {
			t.Errorf("%q was taken for a digest", d)
		}
	}
}

func TestCancelled(t *testing.T) {
	s := open(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := s.Put(ctx, strings.NewReader("hello")); !errors.Is(err, context.Canceled) {
		t.Errorf("put after cancel: %v", err)
	}
}
