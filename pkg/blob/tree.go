package blob

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// scheme stands before the digest of a tree where a path could be.
const scheme = "blob:"

// TreePath is how a run's spec names a tree where it could name a path: blob:<digest>/<name>, the name for people.
func TreePath(digest, name string) string { return scheme + digest + "/" + name }

// ParseTreePath is the digest of such a path; ok is false for a path of files.
func ParseTreePath(path string) (digest string, ok bool) {
	rest, ok := strings.CutPrefix(path, scheme)
	digest, _, _ = strings.Cut(rest, "/")
	return digest, ok
}

// Bounds of a tree's manifest, which comes from others.
const (
	maxManifest = 1 << 20
	maxFiles    = 4096
)

// tree is a file, or the files of a folder, as a blob that names blobs. Encoded it is the same bytes for the same files.
type tree struct {
	Files []file `json:"files"` // by name
}

type file struct {
	Name   string `json:"name"` // no folder in it
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// PutTree stores a file, or the files of a folder for which keep says so (folders in it are left out), and returns what names them all.
func (s *Store) PutTree(ctx context.Context, path string, keep func(name string) bool) (string, error) {
	names, dir := []string{filepath.Base(path)}, filepath.Dir(path)
	if entries, err := os.ReadDir(path); err == nil {
		names, dir = nil, path
		for _, e := range entries { // in the order of their names
			info, err := os.Stat(filepath.Join(path, e.Name())) // through links, as people's model caches have them
			if err == nil && info.Mode().IsRegular() && keep(e.Name()) {
				names = append(names, e.Name())
			}
		}
	}
	var t tree
	for _, name := range names {
		ref, err := s.PutFile(ctx, filepath.Join(dir, name))
		if err != nil {
			return "", err
		}
		t.Files = append(t.Files, file{name, ref.Size, ref.SHA256})
	}
	data, err := json.Marshal(t)
	if err != nil {
		return "", err
	}
	if _, err := parseTree(data); err != nil {
		return "", fmt.Errorf("put %s: %w", path, err)
	}
	ref, err := s.Put(ctx, bytes.NewReader(data))
	return ref.SHA256, err
}

// FetchTree brings a tree's files into the folder dir, and returns their path: that of the file, where it is one, else dir.
func (s *Store) FetchTree(ctx context.Context, digest, dir string) (string, error) {
	t, err := s.tree(ctx, digest)
	if err != nil {
		return "", err
	}
	for _, f := range t.Files {
		if err := s.Fetch(ctx, f.SHA256, filepath.Join(dir, f.Name)); err != nil {
			return "", fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	if len(t.Files) == 1 {
		return filepath.Join(dir, t.Files[0].Name), nil
	}
	return dir, nil
}

// TreeBlobs are all blobs of a tree: its files' and its own.
func (s *Store) TreeBlobs(ctx context.Context, digest string) ([]string, error) {
	t, err := s.tree(ctx, digest)
	if err != nil {
		return nil, err
	}
	blobs := []string{digest}
	for _, f := range t.Files {
		blobs = append(blobs, f.SHA256)
	}
	return blobs, nil
}

func (s *Store) tree(ctx context.Context, digest string) (tree, error) {
	r, err := s.Get(ctx, digest)
	if err != nil {
		return tree{}, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, maxManifest+1))
	if err != nil {
		return tree{}, err
	}
	t, err := parseTree(data)
	if err != nil {
		return tree{}, fmt.Errorf("blob %s: %w", digest, err)
	}
	return t, nil
}

// parseTree reads a manifest whose names can be files of one folder, and whose digests can be blobs.
func parseTree(data []byte) (tree, error) {
	var t tree
	if len(data) > maxManifest {
		return t, fmt.Errorf("a list of files of %d bytes or more, want at most %d", len(data), maxManifest)
	}
	if err := json.Unmarshal(data, &t); err != nil {
		return t, fmt.Errorf("not a list of files: %w", err)
	}
	if len(t.Files) == 0 || len(t.Files) > maxFiles {
		return t, fmt.Errorf("a list of %d files, want 1 to %d", len(t.Files), maxFiles)
	}
	seen := map[string]bool{}
	for _, f := range t.Files {
		if !isName(f.Name) || seen[f.Name] {
			return t, fmt.Errorf("file name %.100q: want different names without a folder", f.Name)
		}
		if seen[f.Name] = true; !isDigest(f.SHA256) || f.Size < 0 {
			return t, fmt.Errorf("file %s: digest %.70q and size %d", f.Name, f.SHA256, f.Size)
		}
	}
	return t, nil
}

// isName reports whether s names a file in a folder, and nothing outside of it.
func isName(s string) bool {
	return s != "" && len(s) <= 255 && s != "." && s != ".." && !strings.ContainsAny(s, "/\\\x00")
}
