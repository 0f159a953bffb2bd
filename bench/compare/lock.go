package main

import (
	"os"
	"syscall"
	"time"
)

// turns takes turns with others on the machine who lock the same files: whoever holds all of them
// has the processor to himself. No files: nobody is waited for.
type turns struct {
	files []string
	most  time.Duration // that a turn lasts while there is a place to end it
	held  []*os.File
	since time.Time
}

// take makes sure that it is our turn; one that has lasted long enough goes to the others first.
func (t *turns) take() error {
	if len(t.held) > 0 {
		if time.Since(t.since) < t.most {
			return nil
		}
		t.end()
	}
	for _, name := range t.files {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o666)
		if err != nil {
			t.end()
			return err
		}
		t.held = append(t.held, f)
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
			t.end()
			return err
		}
	}
	t.since = time.Now()
	return nil
}

// end gives the turn back.
func (t *turns) end() {
	for _, f := range t.held {
		f.Close()
	}
	t.held = nil
}
