package e2e

import (
	"bytes"
	"context"
	"errors"

	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/seed-8780d58e/spin/pkg/bus"
	"github.com/seed-8780d58e/spin/pkg/run"
	"github.com/seed-8780d58e/spin/pkg/store/embedded"
	"github.com/seed-8780d58e/spin/pkg/store/storetest"
	"github.com/seed-8780d58e/spin/services/spin/command"
)

// secured is a broker with the configuration of deploy/nats, and the keys of its roles.
type secured struct {
	t    *testing.T
	keys string
	url  string
}

// secure makes keys by deploy/keys.sh and starts a broker on deploy/nats/nats-server.conf as it is.
func secure(t *testing.T) *secured {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("deploy/keys.sh needs openssl: ", err)
	}
	s := &secured{t: t, keys: filepath.Join(t.TempDir(), "keys")}
	script := exec.Command("sh", "../../deploy/keys.sh", s.keys, "localhost", "127.0.0.1")
	script.Env = append(os.Environ(), "LISTEN=127.0.0.1:-1") // any free port
	if out, err := script.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	env, err := os.ReadFile(filepath.Join(s.keys, "nats.env"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(env)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		t.Setenv(name, strings.Trim(value, `"`))
	}
	options, err := server.ProcessConfigFile("../../deploy/nats/nats-server.conf")
	if err != nil {
		t.Fatal(err)
	}
	if options.HTTPHost != "127.0.0.1" {
		t.Errorf("monitoring listens on %s", options.HTTPHost)
	}
	options.HTTPPort, options.NoSigs, options.NoLog = 0, true, true
	broker, err := server.NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	broker.Start()
	t.Cleanup(func() {
		broker.Shutdown()
		broker.WaitForShutdown()
	})
	if !broker.ReadyForConnections(30 * time.Second) {
		t.Fatal("the broker does not come up")
	}
	s.url = strings.Replace(broker.ClientURL(), "nats://", "tls://", 1)
	return s
}

func (s *secured) file(name string) string { return filepath.Join(s.keys, name) }

// flags are how a role says who it is.
func (s *secured) flags(role string) []string {
	return []string{"--nats-url", s.url, "--nats-ca", s.file("ca.crt"), "--nats-cert", s.file(role + ".crt"), "--nats-key", s.file(role + ".key"), "--nats-nkey", s.file(role + ".nk")}
}

// connect is a service's connection.
func (s *secured) connect(role, inbox string) *bus.Conn {
	s.t.Helper()
	c, err := bus.Connect(s.t.Context(), bus.Config{URL: s.url, Security: bus.Security{
		CA: s.file("ca.crt"), Cert: s.file(role + ".crt"), Key: s.file(role + ".key"), NKey: s.file(role + ".nk"), Inbox: "_INBOX_" + inbox,
	}}, zerolog.Nop())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(c.Close)
	return c
}

// TestRoles plays a run with every service under its own role and nothing in common but the broker and
// ClickHouse: model, data and checkpoints go through the broker's object store. Then it tries what each
// role must not do.
func TestRoles(t *testing.T) {
	s := secure(t)
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", bin, "../generator", "../trainer", "../evaluator", "../recorder")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	archive := t.TempDir()
	clickhouse, _ := storetest.Serve(t, archive)
	logs := map[string]*bytes.Buffer{}
	start := func(role string, args ...string) {
		args = append(args, "--log-format", "json")
		if role != "recorder" {
			args = append(args, "--blob-url", "nats://", "--scratch", t.TempDir(), "--threads", "1")
		}
		out := &bytes.Buffer{}
		logs[role] = out
		c := exec.Command(filepath.Join(bin, role), append(args, s.flags(role)...)...)
		c.Stdout, c.Stderr = out, out
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			err := errors.Join(c.Process.Signal(syscall.SIGTERM), c.Wait())
			if err != nil {
				t.Errorf("%s: %v\n%s", role, err, out)
			}
			if strings.Contains(strings.ToLower(out.String()), "permissions violation") {
				t.Errorf("%s did what it must not, or must be allowed to:\n%s", role, out)
			}
		})
	}
	start("trainer")
	waitFor(t, "the trainer makes the streams", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		admin, err := bus.Connect(ctx, bus.Config{URL: s.url, Security: bus.Security{
			CA: s.file("ca.crt"), Cert: s.file("admin.crt"), Key: s.file("admin.key"), NKey: s.file("admin.nk"), Inbox: "_INBOX_spin",
		}}, zerolog.Nop())
		if err != nil {
			return false
		}
		defer admin.Close()
		_, err = admin.Objects(ctx, bus.BlobBucket, false)
		return err == nil
	})
	start("generator", "--dtype", "f32")
	start("evaluator")
	start("recorder", "--clickhouse-url", clickhouse.Address(), "--clickhouse-user", embedded.User, "--clickhouse-password-file", filepath.Join(archive, embedded.TokenFile), "--max-wait", "50ms")

	// The run file names paths of this machine; what is submitted names digests.
	spec := newSpec(t, dataset(t))
	text, err := run.Format(spec)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "run.yaml")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
	id := strings.TrimSpace(commandLine(t, 0, append([]string{"submit", file, "--blob-url", "nats://", "--scratch", t.TempDir()}, s.flags("admin")...)...))
	analyst := s.connect("analyst", "spin")
	waitFor(t, "the run is played", func() bool {
		r, _, err := bus.State[run.Run]{Bucket: analyst.Control()}.Load(t.Context(), run.Key(id))
		if err != nil || r.Status != run.Submitted && r.Status != run.Running && r.Status != run.Finished {
			t.Fatalf("the run is %s: %s %v", r.Status, r.Reason, err)
		}
		if !strings.HasPrefix(r.Spec.Model.Path, "blob:") || !strings.HasPrefix(r.Spec.Data.Path, "blob:") || r.SpecDigest != spec.Digest() {
			t.Fatalf("submitted %+v", r.Spec)
		}
		return r.Status == run.Finished
	})
	if out := commandLine(t, 0, append([]string{"tap", "--run", id, "--kind", "checkpoints"}, s.flags("analyst")...)...); strings.Count(out, "\n") != 3+iterations {
		t.Errorf("an analyst sees %d checkpoints:\n%s", strings.Count(out, "\n"), out)
	}
	if out := commandLine(t, 2, append([]string{"abort", id}, s.flags("admin")...)...); !strings.Contains(out, "is done") && !strings.Contains(out, "finished") {
		t.Errorf("an administrator aborts a finished run: %s", out)
	}
	t.Run("denied", func(t *testing.T) { s.denied(t, id) })
}

// commandLine runs spin, which must end with a code, and returns what it says.
func commandLine(t *testing.T, code int, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	if got := command.Main(t.Context(), args, command.Streams{In: strings.NewReader(""), Out: &out, Err: &errs}); got != code {
		t.Fatalf("spin %s: exit %d: %s", strings.Join(args, " "), got, &errs)
	}
	return out.String() + errs.String()
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Minute); !done(); time.Sleep(50 * time.Millisecond) { // between two looks
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within five minutes", what)
		}
	}
}

// denied tries, for each role, subjects that the broker must not take from it, and one that it must.
func (s *secured) denied(t *testing.T, id string) {
	const digest = "0123456789abcdef0123456789abcdef"
	subject := func(kind string) string { return "spin." + digest + "." + kind }
	destroy := []string{
		"$JS.API.STREAM.DELETE.SPIN_GAMES", "$JS.API.STREAM.DELETE.KV_spin_control", "$JS.API.STREAM.PURGE.SPIN_CHECKPOINTS", "$JS.API.STREAM.MSG.DELETE.SPIN_CHECKPOINTS",
		"$JS.API.STREAM.PURGE.KV_spin_control", "$JS.API.STREAM.RESTORE.SPIN_GAMES", "$JS.API.STREAM.SNAPSHOT.SPIN_GAMES", "$JS.API.ACCOUNT.PURGE.SPIN", "$JS.API.STREAM.CREATE.OTHER",
	}
	state := []string{"$KV.spin_control.run." + id, "$KV.spin_control.iter." + id + ".0", "$KV.spin_control.limits", "$KV.spin_lease.leader.trainer." + id}
	trained := []string{subject("steps.0.spin.1"), subject("pairs.0.1"), subject("checkpoints.0.base"), "$O.spin_blobs.C.x", "$O.spin_blobs.M.x"}
	queue := []string{subject("prompts.0"), "$JS.API.CONSUMER.CREATE.SPIN_PROMPTS.x", "$JS.API.CONSUMER.DELETE.SPIN_PROMPTS.run-" + id, "$JS.API.STREAM.PURGE.SPIN_PROMPTS"}
	tasks := []string{"$JS.API.CONSUMER.MSG.NEXT.SPIN_PROMPTS.run-" + id, "$JS.ACK.SPIN_PROMPTS.run-" + id + ".1.1.1.1.0", "$KV.spin_attempts.x"}
	games, scores, dead := []string{subject("games.0.p")}, []string{subject("scores.0.spin.heldout.nll.heldout")}, []string{subject("dead.prompts")}
	recorded := []string{"$KV.spin_control.recorder.SPIN_GAMES"}
	all := func(lists ...[]string) (subjects []string) {
		for _, l := range lists {
			subjects = append(subjects, l...)
		}
		return subjects
	}
	for _, c := range []struct {
		role, inbox string
		may         string
		mayNot      []string
	}{
		{"generator", "generator", subject("games.0.p"), all(destroy, state, trained, queue, scores, recorded, []string{subject("events.trainer.failed"), "$JS.API.STREAM.PURGE.SPIN_GAMES"})},
		{"evaluator", "evaluator", subject("scores.0.spin.heldout.nll.heldout"), all(destroy, state, trained, queue, tasks, games, dead, recorded)},
		{"recorder", "recorder", "$KV.spin_control.recorder.x", all(destroy, state, trained, queue, tasks, games, scores, []string{subject("events.trainer.failed")})},
		{"analyst", "spin", "$JS.API.STREAM.INFO.SPIN_GAMES", all(destroy, state, trained, queue, tasks, games, scores, dead, recorded, []string{subject("events.spin.x"), "$JS.API.STREAM.PURGE.SPIN_GAMES", "$KV.spin_lease.member.generator.x"})},
		{"trainer", "trainer", subject("steps.0.spin.1"), all(destroy, scores, tasks, recorded, []string{subject("events.generator.x"), "$JS.API.STREAM.PURGE.SPIN_STEPS", "$KV.spin_control.dead." + id + ".1"})},
		{"admin", "spin", "$KV.spin_control.other", []string{"_INBOX_trainer.x", "$SYS.REQ.SERVER.PING", "other"}},
	} {
		t.Run(c.role, func(t *testing.T) {
			refused := make(chan string, 100)
			key, err := nats.NkeyOptionFromSeed(s.file(c.role + ".nk"))
			if err != nil {
				t.Fatal(err)
			}
			nc, err := nats.Connect(s.url, nats.RootCAs(s.file("ca.crt")), nats.ClientCert(s.file(c.role+".crt"), s.file(c.role+".key")), key,
				nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- strings.ToLower(err.Error()) }))
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			says := func() string {
				if err := nc.Flush(); err != nil { // the broker's answer to it comes after its complaints
					t.Fatal(err)
				}
				select {
				case text := <-refused:
					return text
				case <-time.After(2 * time.Second):
					return ""
				}
			}
			for _, subject := range c.mayNot {
				if err := nc.Publish(subject, []byte("{}")); err != nil {
					t.Fatal(err)
				}
				if text := says(); !strings.Contains(text, "permissions violation for publish to") || !strings.Contains(text, strings.ToLower(subject)) {
					t.Errorf("may publish to %s: %q", subject, text)
				}
			}
			for _, subject := range []string{">", "spin.>", "$KV.>", "_INBOX.>", "_INBOX_other.>", "$JS.EVENT.>"} {
				if _, err := nc.SubscribeSync(subject); err != nil {
					t.Fatal(err)
				}
				if text := says(); !strings.Contains(text, "permissions violation for subscription to") {
					t.Errorf("may listen to %s: %q", subject, text)
				}
			}
			if _, err := nc.SubscribeSync("_INBOX_" + c.inbox + ".x"); err != nil {
				t.Fatal(err)
			}
			if err := nc.Publish(c.may, nil); err != nil {
				t.Fatal(err)
			}
			if err := nc.Flush(); err != nil {
				t.Fatal(err)
			}
			select {
			case text := <-refused:
				t.Errorf("may not publish to %s, or hear answers: %s", c.may, text)
			default: // what it would have said is here before the flush's answer
			}
		})
	}
	t.Run("an error that says so", func(t *testing.T) {
		c := s.connect("generator", "generator")
		if _, err := c.Control().Create(t.Context(), "run.x", []byte("{}")); !errors.Is(err, bus.ErrDenied) {
			t.Errorf("a generator writes a run's state: %v", err)
		}
	})
	t.Run("strangers", func(t *testing.T) {
		ca, cert := nats.RootCAs(s.file("ca.crt")), nats.ClientCert(s.file("generator.crt"), s.file("generator.key"))
		for what, options := range map[string][]nats.Option{
			"without a key": {ca, cert}, "without a certificate": {ca}, "that trusts nobody": {}, "with a token": {ca, cert, nats.Token("x")}, "with a password": {ca, cert, nats.UserInfo("admin", "admin")},
		} {
			if nc, err := nats.Connect(s.url, options...); err == nil {
				nc.Close()
				t.Errorf("a client %s connects", what)
			}
		}
		if nc, err := nats.Connect(strings.Replace(s.url, "tls://", "nats://", 1)); err == nil {
			nc.Close()
			t.Error("a client without encryption connects")
		}
	})
}
