// Package secret reads passwords, tokens and keys out of files. That is the only way in: what stands on a command line or in the environment can be
// read by others of the machine (ps, /proc), and ends up in shell histories and crash reports.
package secret

import (
	"bytes"
	"fmt"
	"io"
	"os"
)

// most is more than any key or credentials file has.
const most = 64 << 10

// Check refuses a file that everybody on the machine can read or change. A group may: that is how Kubernetes hands secrets to a process that is not
// root (fsGroup, defaultMode 0440).
func Check(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return fmt.Errorf("%s is a folder, want a file", path)
	}
	if mode := info.Mode().Perm(); mode&0o007 != 0 {
		return fmt.Errorf("%s holds a secret and everybody may open it (mode %#o): chmod 600 %s", path, mode, path)
	}
	return nil
}

// Read is what a file says, the white space around it left out. It refuses what Check does, and a file that says nothing.
func Read(path string) (string, error) {
	if err := Check(path); err != nil {
		return "", err
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return "", err
	}
	if b = bytes.TrimSpace(b); len(b) == 0 || len(b) > most {
		return "", fmt.Errorf("%s: want a secret of 1 byte to 64 KiB", path)
	}
	return string(b), nil
}
