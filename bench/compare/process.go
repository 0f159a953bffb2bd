package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/seed-8780d58e/spin/bench/unit"
)

// process is a rival that is warm and waits.
type process struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	out     *json.Decoder
	log     *os.File
	results chan unit.Result
	failed  chan error
}

// allocator is the peers' environment: glibc keeps what is freed and takes huge pages, which makes
// PyTorch's passes over large fresh tensors several times as fast as by default on some machines.
func allocator() []string {
	return []string{"GLIBC_TUNABLES=glibc.malloc.hugetlb=1", "MALLOC_MMAP_MAX_=0", "MALLOC_TRIM_THRESHOLD_=17179869184", "MALLOC_TOP_PAD_=268435456"}
}

// start runs the worker for c and waits until it is ready.
func (h *harness) start(c unit.Config, patience time.Duration) (*process, unit.Ready, error) {
	raw, err := json.Marshal(c)
	if err != nil {
		return nil, unit.Ready{}, err
	}
	args := []string{h.worker, string(raw)}
	if c.Engine != "" {
		args = []string{h.python, filepath.Join(h.out, "peers", "worker.py"), string(raw)}
	}
	log, err := os.CreateTemp("", "spin-bench-*.log")
	if err != nil {
		return nil, unit.Ready{}, err
	}
	p := &process{cmd: exec.Command(args[0], args[1:]...), log: log, results: make(chan unit.Result), failed: make(chan error, 1)}
	p.cmd.Stderr = log
	if c.Engine != "" && !c.FreshMemory {
		p.cmd.Env = append(os.Environ(), allocator()...)
	}
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, unit.Ready{}, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, unit.Ready{}, err
	}
	p.out = json.NewDecoder(out)
	if err := p.cmd.Start(); err != nil {
		return nil, unit.Ready{}, err
	}
	ready := make(chan unit.Ready, 1)
	go p.read(ready)
	select {
	case r := <-ready:
		return p, r, nil
	case err := <-p.failed:
		err = p.explain(err)
		p.stop()
		return nil, unit.Ready{}, err
	case <-time.After(patience):
		p.stop()
		return nil, unit.Ready{}, fmt.Errorf("not ready after %v", patience)
	}
}

// read passes on what the process says, until it ends.
func (p *process) read(ready chan<- unit.Ready) {
	var r unit.Ready
	if err := p.out.Decode(&r); err != nil {
		p.failed <- err
		return
	}
	ready <- r
	for {
		var r unit.Result
		if err := p.out.Decode(&r); err != nil {
			p.failed <- err
			return
		}
		p.results <- r
	}
}

// errSlow is a unit that took longer than anyone would wait.
var errSlow = errors.New("too slow")

// work asks for one unit, and also says how many cores others used meanwhile.
func (p *process) work(patience time.Duration) (r unit.Result, others float64, err error) {
	before, began := readBusy(p.cmd.Process.Pid), time.Now()
	if _, err := p.in.Write([]byte("\n")); err != nil {
		return r, 0, p.explain(err)
	}
	select {
	case r = <-p.results:
		others = readBusy(p.cmd.Process.Pid).others(before) / time.Since(began).Seconds()
		if r.Error != "" {
			return r, others, errors.New(r.Error)
		}
		return r, others, nil
	case err := <-p.failed:
		return r, 0, p.explain(err)
	case <-time.After(patience):
		return r, 0, fmt.Errorf("%w: a unit takes more than %v", errSlow, patience)
	}
}

// stop ends the process, whatever it is doing.
func (p *process) stop() {
	p.in.Close()
	ended := make(chan struct{})
	go func() {
		for {
			select {
			case <-p.results:
			case <-ended:
				return
			}
		}
	}()
	timer := time.AfterFunc(5*time.Second, func() { p.cmd.Process.Kill() })
	p.cmd.Wait()
	timer.Stop()
	close(ended)
	p.log.Close()
	os.Remove(p.log.Name())
}

// explain adds the last line that the process wrote about its end.
func (p *process) explain(err error) error {
	if errors.Is(err, io.EOF) {
		err = errors.New("the process ended")
	}
	raw, _ := os.ReadFile(p.log.Name())
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	return fmt.Errorf("%w: %s", err, lines[len(lines)-1])
}

// busy is CPU time in seconds: of the whole machine, and of one process.
type busy struct{ machine, process float64 }

// others is what the rest of the machine used since before.
func (b busy) others(before busy) float64 {
	return max(b.machine-before.machine-(b.process-before.process), 0)
}

// readBusy reads /proc/stat and /proc/PID/stat (proc(5)); zeros where there are none.
func readBusy(pid int) (b busy) {
	const tick = 100 // USER_HZ, fixed on Linux
	if raw, err := os.ReadFile("/proc/stat"); err == nil {
		line, _, _ := strings.Cut(string(raw), "\n")
		for i, f := range strings.Fields(line)[1:] {
			v, _ := strconv.ParseFloat(f, 64)
			if i != 3 && i != 4 && i < 8 { // idle, iowait; guests are counted in user
				b.machine += v / tick
			}
		}
	}
	if raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil {
		_, rest, _ := strings.Cut(string(raw), ") ")
		if f := strings.Fields(rest); len(f) > 12 {
			user, _ := strconv.ParseFloat(f[11], 64)
			system, _ := strconv.ParseFloat(f[12], 64)
			b.process = (user + system) / tick
		}
	}
	return b
}
