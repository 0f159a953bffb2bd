package main

import (
	"os"
	"syscall"
)

// lockFile is a file whose lock says who may use the processor: benchmarks take it exclusively, work
// that is merely heavy shares it, so both can go on on one machine.
type lockFile string

// hold takes the locks in order and returns what gives them back. Exclusively: all of them, and to
// the end; shared: the last one, once the others could be had.
func hold(locks []lockFile, exclusive bool) (release func(), err error) {
	var held []*os.File
	release = func() {
		for _, f := range held {
			f.Close()
		}
	}
	for i, name := range locks {
		f, err := os.OpenFile(string(name), os.O_RDWR|os.O_CREATE, 0o666)
		if err != nil {
			release()
			return nil, err
		}
		held = append(held, f)
		how := syscall.LOCK_EX
		if !exclusive && i == len(locks)-1 {
			how = syscall.LOCK_SH
		}
		if err := syscall.Flock(int(f.Fd()), how); err != nil {
			release()
			return nil, err
		}
	}
	if !exclusive {
		for _, f := range held[:max(len(held)-1, 0)] {
			f.Close()
		}
		held = held[max(len(held)-1, 0):]
	}
	return release, nil
}
