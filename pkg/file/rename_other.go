//go:build !linux

package file

import "os"

// renameNew renames; a folder that is not empty is not replaced.
func renameNew(from, to string) error { return os.Rename(from, to) }

// exchange swaps two names.
func exchange(a, b string) error { return exchangeInSteps(a, b) }
