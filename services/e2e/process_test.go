package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is one program of a deployment. Whenever it dies it is started again, as systemd or
// Kubernetes would do.
type process struct {
	t      testing.TB
	name   string
	log    string           // path of its output, all starts in one
	create func() *exec.Cmd // a new one for each start

	mu       sync.Mutex
	changed  *sync.Cond
	cmd      *exec.Cmd // nil: not running
	faults   []string  // points at which the next starts are to die, one each
	held     bool      // not to be started again
	ending   bool      // told to stop for good
	ended    bool
	once     bool // having died at a point, it stays down until up
	outside  bool // this start was killed from outside, not by its fault, which is then tried again
	killed   int  // by SIGKILL, the faults' own included
	hit      []string
	starts   int
	failures []string // deaths of its own doing
}

// restartDelay is between a death and the next start.
const restartDelay = 20 * time.Millisecond

func newProcess(t testing.TB, name, log string, create func() *exec.Cmd) *process {
	p := &process{t: t, name: name, log: log, create: create}
	p.changed = sync.NewCond(&p.mu)
	return p
}

// start runs the program until stop.
func (p *process) start() *process {
	go p.loop()
	return p
}

func (p *process) loop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.ending {
		for p.held && !p.ending {
			p.changed.Wait()
		}
		if p.ending {
			break
		}
		fault := ""
		if len(p.faults) > 0 {
			fault = p.faults[0]
		}
		cmd, out, err := p.launch(fault)
		if err != nil {
			p.failures = append(p.failures, err.Error())
			break
		}
		p.cmd, p.outside = cmd, false
		p.starts++
		p.changed.Broadcast()
		p.mu.Unlock()
		err = cmd.Wait()
		out.Close()
		p.mu.Lock()
		p.cmd = nil
		p.judge(err, fault)
		p.changed.Broadcast()
		if !p.ending {
			p.mu.Unlock()
			time.Sleep(restartDelay)
			p.mu.Lock()
		}
	}
	p.ended = true
	p.changed.Broadcast()
}

func (p *process) launch(fault string) (*exec.Cmd, *os.File, error) {
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, nil, err
	}
	cmd := p.create()
	cmd.Stdout, cmd.Stderr = out, out
	if fault != "" {
		cmd.Env = append(cmd.Env, "SPIN_FAULT="+fault)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // nothing outlives the test
	if err := cmd.Start(); err != nil {
		out.Close()
		return nil, nil, err
	}
	return cmd, out, nil
}

// judge notes how the program died. The caller holds p.mu.
func (p *process) judge(err error, fault string) {
	var exit *exec.ExitError
	switch killed := errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL; {
	case killed:
		p.killed++
		if fault != "" && !p.outside {
			p.hit, p.faults = append(p.hit, fault), p.faults[1:]
			p.held = p.held || p.once
		}
	case !p.ending && !p.held: // it may end while it is held: that was a SIGTERM
		p.failures = append(p.failures, fmt.Sprintf("ended by itself: %v", err))
	case err != nil && !p.ending:
		p.failures = append(p.failures, fmt.Sprintf("ended badly: %v", err))
	}
}

// dieAt makes the next starts die at the points, one each.
func (p *process) dieAt(points ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults = append(p.faults, points...)
}

// hits are the points at which it died, and those that are still to come.
func (p *process) hits() (hit, left []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.hit...), append([]string(nil), p.faults...)
}

// signal sends one to the running program; false where none runs.
func (p *process) signal(s syscall.Signal) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return false
	}
	if s == syscall.SIGKILL {
		p.outside = true
	}
	return p.cmd.Process.Signal(s) == nil
}

// kill is kill -9.
func (p *process) kill() bool { return p.signal(syscall.SIGKILL) }

// down kills the program and keeps it down until up; with term it is asked to stop, and waited for.
func (p *process) down(s syscall.Signal) {
	p.mu.Lock()
	p.held = true
	p.mu.Unlock()
	p.signal(s)
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.cmd != nil {
		p.changed.Wait()
	}
}

func (p *process) up() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = false
	p.changed.Broadcast()
}

// stop asks the program to stop, for good, and reports what went wrong in its life.
func (p *process) stop() {
	p.mu.Lock()
	p.ending = true
	p.changed.Broadcast()
	if p.cmd != nil {
		_ = p.cmd.Process.Signal(syscall.SIGCONT)
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // gone already: fine
	}
	late := time.AfterFunc(20*time.Second, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.cmd != nil {
			p.failures = append(p.failures, "did not stop within 20 s of SIGTERM")
			_ = p.cmd.Process.Kill()
		}
	})
	defer late.Stop()
	for !p.ended {
		p.changed.Wait()
	}
	failures := p.failures
	p.mu.Unlock()
	if len(failures) > 0 {
		p.t.Errorf("%s, %d times, first: %s\n%s", p.name, len(failures), failures[0], tail(p.log))
	}
}

// pid of the running program, 0 where none runs.
func (p *process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// kills counts deaths by SIGKILL.
func (p *process) kills() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.killed
}

// waitHit waits until the program has died at a point.
func (p *process) waitHit() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.hit) == 0 && !p.ended {
		p.changed.Wait()
	}
}

// said reports whether the program's output holds a text.
func (p *process) said(text string) bool {
	b, _ := os.ReadFile(p.log)
	return strings.Contains(string(b), text)
}

// count is how often it does.
func (p *process) count(text string) int {
	b, _ := os.ReadFile(p.log)
	return strings.Count(string(b), text)
}

// tail is the end of a log.
func tail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return filepath.Base(path) + ":\n" + strings.Join(lines[max(0, len(lines)-8):], "\n")
}
