package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/seed-8780d58e/spin/pkg/run"
)

// trialBroker takes the broker away in the middle of a run.
func trialBroker(t *testing.T, bin binaries, spec run.Spec, want result) string {
	outage := 4 * time.Second
	if *chaos {
		outage = time.Minute
	}
	d := deploy(t, bin, setup{})
	trainer, _ := d.fleet(2)
	id := d.submit(spec)
	d.played(id, 5)
	d.brokers[0].down(syscall.SIGKILL)
	time.Sleep(outage)
	d.brokers[0].up()
	began := time.Now()
	d.finish(id, time.Minute)
	took := time.Since(began)
	same(t, "a broker that was away", d.result(id, spec, want), want)
	d.exact(id, spec)
	if !trainer.said("broker connection lost") || !trainer.said("broker connection is back") {
		t.Error("the trainer did not say that the broker was away")
	}
	return fmt.Sprintf("away for %v in the middle of a run, which ended %.1f s after its return by itself: the same weights and rows", outage, took.Seconds())
}

// trialClickHouse takes ClickHouse away: training does not wait for it.
func trialClickHouse(t *testing.T, bin binaries, spec run.Spec, want result) string {
	outage := 8 * time.Second
	if *chaos {
		outage = 10 * time.Minute
	}
	d := deploy(t, bin, setup{})
	_, recorder := d.fleet(2)
	id := d.submit(spec)
	d.played(id, 5)
	d.clickhouse.down(syscall.SIGKILL)
	began := time.Now()
	d.finish(id, time.Minute)
	ended := time.Since(began)
	recorder.kill() // a recorder that starts without ClickHouse waits for it
	time.Sleep(time.Until(began.Add(outage)))
	d.clickhouse.up()
	began = time.Now()
	same(t, "a ClickHouse that was away", d.result(id, spec, want), want)
	d.exact(id, spec)
	if !recorder.said("ClickHouse") {
		t.Error("the recorder did not say that ClickHouse was away")
	}
	return fmt.Sprintf("away for %v: the run ended meanwhile, after %.1f s; its rows were complete %.1f s after ClickHouse's return, the recorder killed in between", outage, ended.Seconds(), time.Since(began).Seconds())
}

// trialDisk fills the disk of each writer in turn, on small file systems of their own, and makes room
// after a while.
func trialDisk(t *testing.T, bin binaries, spec run.Spec, want result) string {
	if os.Geteuid() != 0 {
		return "skipped: small file systems need root"
	}
	hold := 3 * time.Second
	if *chaos {
		hold = 30 * time.Second
	}
	figure := ""
	for _, c := range []struct {
		folder, says string
		by           string
	}{
		{"broker", "full", "trainer-0"},
		{"blobs", "space", "trainer-0"},
		{"clickhouse", "ClickHouse did not take a batch", "recorder-0"},
	} {
		disk := &disk{t: t, size: 256 << 20}
		d := deploy(t, bin, setup{prepare: func(dir string) { disk.mount(filepath.Join(dir, c.folder)) }})
		trainer, recorder := d.fleet(2)
		id := d.submit(spec)
		d.played(id, 3)
		disk.fill()
		time.Sleep(hold)
		disk.free()
		if c.folder == "broker" {
			d.brokers[0].kill() // nats-server keeps a failed write in mind until it starts again
		}
		began := time.Now()
		d.finish(id, time.Minute)
		same(t, "a full disk of "+c.folder, d.result(id, spec, want), want)
		d.exact(id, spec)
		if said := trainer.said(c.says) || recorder.said(c.says); !said {
			figure += fmt.Sprintf("(%s: nobody met it) ", c.folder)
		}
		figure += fmt.Sprintf("%s full for %v, ended %.1f s after; ", c.folder, hold, time.Since(began).Seconds())
		d.stop()
		disk.unmount()
	}
	return figure + "the same weights and rows"
}

// disk is a small file system.
type disk struct {
	t       testing.TB
	size    int
	dir     string
	mounted bool
}

func (k *disk) mount(dir string) {
	k.t.Helper()
	k.dir = dir
	if err := os.MkdirAll(dir, 0o755); err != nil {
		k.t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", k.size)); err != nil {
		k.t.Skipf("mount a small file system: %v", err)
	}
	k.mounted = true
	k.t.Cleanup(k.unmount)
}

func (k *disk) unmount() {
	if k.mounted {
		k.mounted = false
		if err := unix.Unmount(k.dir, unix.MNT_DETACH); err != nil {
			k.t.Error(err)
		}
	}
}

// fill leaves no byte.
func (k *disk) fill() {
	k.t.Helper()
	f, err := os.Create(filepath.Join(k.dir, "filler"))
	if err != nil {
		k.t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 1<<20); ; {
		if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
			if len(block) == 1 {
				return
			}
			block = block[:len(block)/2]
		} else if err != nil {
			k.t.Fatal(err)
		}
	}
}

func (k *disk) free() {
	k.t.Helper()
	if err := os.Remove(filepath.Join(k.dir, "filler")); err != nil {
		k.t.Fatal(err)
	}
}

// trialCluster kills the nodes of a cluster, one at a time, each stream on all three.
func trialCluster(t *testing.T, bin binaries, spec run.Spec, want result) string {
	d := deploy(t, bin, setup{nodes: 3})
	rounds, nodes := 1, d.brokers[:1]
	if *chaos {
		rounds, nodes = 5, d.brokers
	}
	d.fleet(2)
	var runs []string
	for range rounds {
		for i, node := range nodes {
			id := d.submit(spec)
			runs = append(runs, id)
			d.played(id, 3+i)
			node.down(syscall.SIGKILL)
			d.finish(id, 2*time.Minute) // with two of three
			node.up()
			d.inSync()
		}
	}
	for _, id := range runs {
		same(t, "a node that was killed", d.result(id, spec, want), want)
		d.exact(id, spec)
	}
	return fmt.Sprintf("%d runs on 3 nodes with 3 copies of every stream, a node killed in the middle of each, in turn; each ended on the other two: the same weights and rows", len(runs))
}

// trialRolling restarts every process, one after the other, while runs go on.
func trialRolling(t *testing.T, bin binaries, spec run.Spec, want result) string {
	d := deploy(t, bin, setup{})
	d.fleet(2)
	var runs []string
	restarts := 0
	for _, p := range d.all() {
		id := d.submit(spec)
		runs = append(runs, id)
		d.played(id, 3)
		p.down(syscall.SIGTERM)
		p.up()
		restarts++
		d.finish(id, time.Minute)
	}
	for _, id := range runs {
		same(t, "a rolling restart", d.result(id, spec, want), want)
		d.exact(id, spec)
	}
	return fmt.Sprintf("%d processes restarted by SIGTERM, each in the middle of a run: every one ended with exit code 0, no run saw an error: the same weights and rows", restarts)
}
