package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/event"
	"github.com/seed-8780d58e/spin/pkg/fault"
	"github.com/seed-8780d58e/spin/pkg/run"
	"github.com/seed-8780d58e/spin/pkg/store"
	clickhouse "github.com/seed-8780d58e/spin/pkg/store/embedded"
	"github.com/seed-8780d58e/spin/pkg/store/storetest"
)

// binaries is a folder with the services' binaries, built with the tag fault, and nats-server's.
type binaries struct {
	dir   string
	ports *ports // of all deployments
}

func buildBinaries(t testing.TB) binaries {
	t.Helper()
	b := binaries{t.TempDir(), newPorts()}
	for _, args := range [][]string{
		{"-tags", "fault", "../generator", "../trainer", "../evaluator", "../recorder", "../spin"},
		{"github.com/nats-io/nats-server/v2"},
	} {
		build := exec.Command("go", append([]string{"build", "-o", b.dir + "/"}, args...)...)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	return b
}

func (b binaries) path(name string) string { return filepath.Join(b.dir, name) }

// setup is what differs between deployments.
type setup struct {
	limits bus.Limits // zero: hasty
	nodes  int        // of the broker: 0 or 1, or 3 with three copies of each stream
	poison string     // generators die on this prompt
	// prepare, if not nil, is called with the deployment's folder before anything is in it.
	prepare func(dir string)
}

// hasty are limits with the patience of a test.
func hasty() bus.Limits {
	l := bus.DefaultLimits()
	l.AckWait, l.RetryDelay, l.LeaseTTL = 2*time.Second, 50*time.Millisecond, 2*time.Second
	return l
}

// deployment is a broker, a ClickHouse and any services, each a process of its own, over TCP.
type deployment struct {
	t          testing.TB
	bin        binaries
	dir        string
	setup      setup
	url        string // of the broker
	archiveURL string
	brokers    []*process
	clickhouse *process
	services   []*process
	admin      *bus.Conn
	store      *store.Store
	stopped    bool
}

// deploy starts broker and ClickHouse. The deployment ends with the test, or at stop.
func deploy(t testing.TB, bin binaries, s setup) *deployment {
	t.Helper()
	d := &deployment{t: t, bin: bin, dir: t.TempDir(), setup: s}
	for _, sub := range []string{"logs", "blobs", "broker"} {
		if err := os.Mkdir(filepath.Join(d.dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if s.prepare != nil {
		s.prepare(d.dir)
	}
	t.Cleanup(d.stop)
	d.startBroker(max(1, s.nodes))
	d.startClickHouse()
	limits := s.limits
	if limits == (bus.Limits{}) {
		limits = hasty()
	}
	limits.Replicas = max(1, s.nodes)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var err error
	// The first to come says what the limits are; the services take them from the broker.
	if d.admin, err = bus.Init(ctx, bus.Config{URL: d.url, Token: brokerToken, Name: "admin", Limits: limits}, zerolog.Nop()); err != nil {
		t.Fatal(err)
	}
	d.openStore(ctx)
	return d
}

const brokerToken = "trial"

// ports hands out loopback ports, each once: a restart must find its own again, so none may be of the range from which the system gives ports to
// connections, nor another deployment's.
type ports struct {
	mu   sync.Mutex
	next int
}

const firstPort, lastPort = 12_000, 30_000

func newPorts() *ports { return &ports{next: firstPort + os.Getpid()*97%(lastPort-firstPort)} }

func (p *ports) free(t testing.TB) int {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for range lastPort - firstPort {
		if p.next++; p.next > lastPort {
			p.next = firstPort
		}
		if l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", p.next)); err == nil {
			l.Close()
			return p.next
		}
	}
	t.Fatal("no port is free")
	return 0
}

// startBroker starts nats-server, one or a cluster.
func (d *deployment) startBroker(nodes int) {
	d.t.Helper()
	var ports []int
	var urls, routes []string
	for i := range nodes {
		ports = append(ports, d.bin.ports.free(d.t), d.bin.ports.free(d.t))
		urls = append(urls, fmt.Sprintf("nats://127.0.0.1:%d", ports[2*i]))
		routes = append(routes, fmt.Sprintf("nats://127.0.0.1:%d", ports[2*i+1]))
	}
	d.url = strings.Join(urls, ",")
	if err := os.WriteFile(d.tokenFile(), []byte(brokerToken), 0o600); err != nil {
		d.t.Fatal(err)
	}
	for i := range nodes {
		name := fmt.Sprint("broker-", i)
		conf := fmt.Sprintf("server_name: %s\nlisten: 127.0.0.1:%d\nmax_payload: 8MB\nauthorization { token: %s }\njetstream { store_dir: %q, sync_interval: 10s, max_file_store: 64GB }\n",
			name, ports[2*i], brokerToken, filepath.Join(d.dir, "broker", name))
		if nodes > 1 {
			conf += fmt.Sprintf("cluster { name: spin, listen: 127.0.0.1:%d, routes: [%s] }\n", ports[2*i+1], strings.Join(routes, ", "))
		}
		path := filepath.Join(d.dir, name+".conf")
		if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
			d.t.Fatal(err)
		}
		d.brokers = append(d.brokers, d.process(name, nil, d.bin.path("nats-server"), "-c", path).start())
	}
}

func (d *deployment) tokenFile() string { return filepath.Join(d.dir, "token") }

// engine, in the environment of this test's binary, makes it a ClickHouse behind its HTTP door.
const engine = "SPIN_TEST_CLICKHOUSE"

func (d *deployment) startClickHouse() {
	d.t.Helper()
	cfg, err := json.Marshal(clickhouse.Config{
		Library: storetest.Library(d.t), Dir: filepath.Join(d.dir, "clickhouse"), Addr: fmt.Sprint("127.0.0.1:", d.bin.ports.free(d.t)), Grace: 2 * time.Second,
	})
	if err != nil {
		d.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		d.t.Fatal(err)
	}
	d.clickhouse = d.process("clickhouse", []string{engine + "=" + string(cfg)}, self).start()
	for deadline := time.Now().Add(30 * time.Second); d.archiveURL == ""; time.Sleep(20 * time.Millisecond) {
		d.archiveURL, err = clickhouse.Find(d.t.Context(), filepath.Join(d.dir, "clickhouse"))
		if err != nil && time.Now().After(deadline) {
			d.t.Fatalf("%v\n%s", err, tail(d.clickhouse.log))
		}
	}
}

// serveClickHouse is that process.
func serveClickHouse(config string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var cfg clickhouse.Config
	if err := json.Unmarshal([]byte(config), &cfg); err != nil {
		return err
	}
	server, err := clickhouse.Open(cfg)
	for deadline := time.Now().Add(5 * time.Second); err != nil && time.Now().Before(deadline); { // the port of the killed one
		time.Sleep(50 * time.Millisecond)
		server, err = clickhouse.Open(cfg)
	}
	if err != nil {
		return err
	}
	return server.Run(ctx)
}

func (d *deployment) openStore(ctx context.Context) {
	d.t.Helper()
	var err error
	if d.store, err = store.Open(ctx, store.Options{URL: d.archiveURL}); err != nil {
		d.t.Fatal(err)
	}
	if err := d.store.Migrate(ctx); err != nil {
		d.t.Fatal(err)
	}
}

// process is a program of this deployment, not yet started.
func (d *deployment) process(name string, env []string, path string, args ...string) *process {
	environment := append(slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "SPIN_") && !strings.HasPrefix(kv, "SPIN_CPU=") }), env...)
	return newProcess(d.t, name, filepath.Join(d.dir, "logs", name+".log"), func() *exec.Cmd {
		c := exec.Command(path, args...)
		c.Env = slices.Clone(environment)
		return c
	})
}

// service is a service of that kind, not yet started.
func (d *deployment) service(kind string, args ...string) *process {
	n := 0
	for _, p := range d.services {
		if strings.HasPrefix(p.name, kind) {
			n++
		}
	}
	flags := []string{"--nats-url", d.url, "--nats-token-file", d.tokenFile(), "--log-format", "json"}
	switch kind {
	case "recorder":
		flags = append(append(flags, "--max-wait", "50ms"), clickhouseFlags(d.t, d.archiveURL)...)
	case "trainer":
		flags = append(flags, "--blob-dir", filepath.Join(d.dir, "blobs"), "--threads", "1")
	case "generator":
		flags = append(flags, "--blob-dir", filepath.Join(d.dir, "blobs"), "--threads", "1", "--dtype", "f32", "--slots", "2")
	case "evaluator":
		flags = append(flags, "--blob-dir", filepath.Join(d.dir, "blobs"), "--threads", "1")
	}
	var env []string
	if kind == "generator" && d.setup.poison != "" {
		env = append(env, "SPIN_FAULT="+fault.GeneratorPrompt+"/"+d.setup.poison)
	}
	p := d.process(fmt.Sprint(kind, "-", n), env, d.bin.path(kind), append(flags, args...)...)
	d.services = append(d.services, p)
	return p
}

// fleet starts one of each service and that many generators.
func (d *deployment) fleet(generators int) (trainer, recorder *process) {
	recorder = d.service("recorder").start()
	trainer = d.service("trainer").start()
	d.service("evaluator").start()
	for range generators {
		d.service("generator").start()
	}
	return trainer, recorder
}

// all are the deployment's processes.
func (d *deployment) all() []*process {
	return append(append(slices.Clone(d.services), d.brokers...), d.clickhouse)
}

// stop ends everything, the services first, all at once.
func (d *deployment) stop() {
	if d.stopped {
		return
	}
	d.stopped = true
	together := func(ps []*process) {
		var stopping sync.WaitGroup
		for _, p := range ps {
			stopping.Go(p.stop)
		}
		stopping.Wait()
	}
	together(d.services)
	if d.admin != nil {
		d.admin.Close()
	}
	if d.store != nil {
		d.store.Close()
	}
	together(append(slices.Clone(d.brokers), d.clickhouse))
	if d.t.Failed() {
		for _, p := range d.all() {
			d.t.Log(tail(p.log))
		}
		if keep := os.Getenv("SPIN_TEST_KEEP"); keep != "" {
			_ = os.CopyFS(keep, os.DirFS(filepath.Join(d.dir, "logs")))
		}
	}
}

// kills counts all deaths by SIGKILL.
func (d *deployment) kills() int {
	n := 0
	for _, p := range d.all() {
		n += p.kills()
	}
	return n
}

// submit writes a run to the control bucket.
func (d *deployment) submit(spec run.Spec) string {
	return (&services{plane: &plane{t: d.t}, ctx: d.t.Context(), admin: d.admin}).submit(spec)
}

// state of a run.
func (d *deployment) state(id string) run.Run {
	d.t.Helper()
	r, _, err := bus.State[run.Run]{Bucket: d.admin.Control()}.Load(d.t.Context(), run.Key(id))
	if err != nil {
		d.t.Fatal(err)
	}
	return r
}

// wait looks until ok says so, or fails the test after a while.
func (d *deployment) wait(what string, patience time.Duration, ok func() bool) {
	d.t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) { // between two looks
		if time.Now().After(deadline) {
			d.t.Fatalf("waited %v for: %s", patience, what)
		}
	}
}

// finish waits until the run is done.
func (d *deployment) finish(id string, patience time.Duration) {
	d.t.Helper()
	d.wait("the run's end", patience, func() bool {
		r := d.state(id)
		if r.Status != run.Submitted && r.Status != run.Running && r.Status != run.Finished {
			d.t.Fatalf("the run is %s: %s", r.Status, r.Reason)
		}
		return r.Status == run.Finished
	})
}

// result waits until evaluator and recorder have come to the end too, and reads what the run came to:
// where it is not what is wanted after a while, that is the result.
func (d *deployment) result(id string, spec run.Spec, want result) result {
	d.t.Helper()
	r := result{id: id}
	for t := range spec.Iterations {
		it, _, err := bus.State[run.Iteration]{Bucket: d.admin.Control()}.Load(d.t.Context(), run.IterationKey(id, run.SPINStage, t))
		if err != nil {
			d.t.Fatal(err)
		}
		r.weights = append(r.weights, it.Result)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) { // between two looks
		var err error
		if r.rows, err = d.store.RowsDigest(d.t.Context(), id); err == nil {
			r.tables, err = d.store.TableDigests(d.t.Context(), id)
		}
		if over := time.Now().After(deadline); over && err != nil {
			d.t.Fatal(err)
		} else if over || err == nil && r.rows == want.rows {
			return r
		}
	}
}

// settled waits until the rows change no more, for a run of which nobody knows what it should come to.
func (d *deployment) settled(id string, spec run.Spec) result {
	d.t.Helper()
	last := ""
	for same := 0; same < 20; time.Sleep(50 * time.Millisecond) { // a second without change
		now, err := d.store.RowsDigest(d.t.Context(), id)
		if err != nil {
			d.t.Fatal(err)
		}
		if same++; now != last {
			last, same = now, 0
		}
	}
	return d.result(id, spec, result{rows: last})
}

// exact holds that no row is there twice, without FINAL, and none is missing.
func (d *deployment) exact(id string, spec run.Spec) {
	d.t.Helper()
	of := " WHERE run_id = '" + id + "'"
	games := spec.Iterations * (spec.Data.Prompts + spec.Data.Heldout)
	pairs, steps := 0, 0
	for t := range spec.Iterations {
		pairs += spec.Data.Prompts * spec.PairsPerGame(t)
		steps += spec.Steps(t)
	}
	for _, c := range []struct {
		what, sql string
		want      int
	}{
		{"games", "count(), uniqExact(iteration, prompt_id) FROM games", games},
		{"samples", "count(), uniqExact(sample_id) FROM samples", games * spec.Draws},
		{"pairs", "count(), uniqExact(iteration, step, prompt_id, sample_iteration, draw) FROM pairs", pairs},
		{"steps", "count() - countIf(phase != 'spin'), uniqExactIf((iteration, step), phase = 'spin') FROM steps", steps},
		{"scores", "count(), uniqExact(phase, iteration, task, metric, split) FROM scores", -1},
		{"checkpoints", "count(), uniqExact(phase, iteration) FROM checkpoints", 2 + spec.Iterations + btoi(spec.Control != "none")},
	} {
		got := ask(d.t, d.store, "SELECT "+c.sql+of)
		if got[0] != got[1] || c.want >= 0 && got[0] != fmt.Sprint(c.want) {
			d.t.Errorf("%s: %s rows without FINAL, %s of them distinct, want %d", c.what, got[0], got[1], c.want)
		}
	}
}

// logged are the numbers that a process has logged under a key.
func (p *process) logged(key string) (values []float64) {
	b, _ := os.ReadFile(p.log)
	for line := range strings.Lines(string(b)) {
		var entry map[string]any
		if json.Unmarshal([]byte(line), &entry) == nil {
			if v, ok := entry[key].(float64); ok {
				values = append(values, v)
			}
		}
	}
	return values
}

// inSync waits until every stream has all its copies.
func (d *deployment) inSync() {
	d.t.Helper()
	conn, err := nats.Connect(d.url, nats.Token(brokerToken))
	if err != nil {
		d.t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		d.t.Fatal(err)
	}
	d.wait("all copies of the streams", 30*time.Second, func() bool {
		ctx, cancel := context.WithTimeout(d.t.Context(), 2*time.Second)
		defer cancel()
		streams := js.ListStreams(ctx)
		for info := range streams.Info() {
			if info.Cluster == nil || info.Cluster.Leader == "" {
				return false
			}
			for _, peer := range info.Cluster.Replicas {
				if !peer.Current || peer.Offline {
					return false
				}
			}
		}
		return streams.Err() == nil
	})
}

// played waits until that many games of a run are there.
func (d *deployment) played(id string, n int) {
	d.t.Helper()
	d.wait(fmt.Sprint(n, " games"), 30*time.Second, func() bool {
		there, err := d.admin.Subjects(d.t.Context(), bus.Games, event.Filter(id, event.Games))
		return err == nil && len(there) >= n
	})
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
