package bus_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
	"github.com/rs/zerolog"

	"github.com/seed-8780d58e/spin/pkg/bus"
)

func TestConnectRefuses(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	open, junk := file("open", "SUAsesame", 0o644), file("junk", "SUAsesame", 0o600)
	for _, c := range []struct {
		what string
		cfg  bus.Config
		want string
	}{
		{"two ways at once", bus.Config{Token: "sesame", Security: bus.Security{NKey: junk}}, "give one of them"},
		{"half a certificate", bus.Config{Security: bus.Security{Cert: junk}}, "without its key"},
		{"a key for all to see", bus.Config{Security: bus.Security{NKey: open}}, "chmod 600"},
		{"credentials for all to see", bus.Config{Security: bus.Security{Creds: open}}, "chmod 600"},
		{"no key at all", bus.Config{Security: bus.Security{NKey: junk}}, "want the seed"},
		{"no such authority", bus.Config{Security: bus.Security{CA: filepath.Join(dir, "none")}}, "no such file"},
		{"a token over an open wire", bus.Config{URL: "nats://broker.example:4222", Token: "sesame"}, "could be read on the way"},
		{"and with one of several", bus.Config{URL: "nats://127.0.0.1:4222,nats://10.0.0.1:4222", Token: "sesame"}, "could be read on the way"},
		{"a password in the address", bus.Config{URL: "nats://me:sesame@127.0.0.1:1,me:sesame@127.0.0.1:2", Security: bus.Security{Cert: junk}}, "nats://127.0.0.1:1,127.0.0.1:2"},
	} {
		if c.cfg.URL == "" {
			c.cfg.URL = "nats://127.0.0.1:1"
		}
		_, err := bus.Connect(t.Context(), c.cfg, zerolog.Nop())
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

// TestCredentials connects by a credentials file, the JWT of a user whose account an operator has signed, as hosted brokers hand them out.
func TestCredentials(t *testing.T) {
	dir := t.TempDir()
	operator, system, account, user := newPair(t, nkeys.CreateOperator), newPair(t, nkeys.CreateAccount), newPair(t, nkeys.CreateAccount), newPair(t, nkeys.CreateUser)
	accountClaims := jwt.NewAccountClaims(account.public)
	accountClaims.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1, Streams: -1, Consumer: -1}
	accountJWT, err := accountClaims.Encode(operator.pair)
	if err != nil {
		t.Fatal(err)
	}
	systemJWT, err := jwt.NewAccountClaims(system.public).Encode(operator.pair)
	if err != nil {
		t.Fatal(err)
	}
	operatorJWT, err := jwt.NewOperatorClaims(operator.public).Encode(operator.pair)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.NewUserClaims(user.public).Encode(account.pair)
	if err != nil {
		t.Fatal(err)
	}
	credentials, err := jwt.FormatUserConfig(token, user.seed)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "user.creds")
	if err := os.WriteFile(file, credentials, 0o600); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "server.conf")
	text := fmt.Sprintf("listen: 127.0.0.1:-1\noperator: %s\nresolver: MEMORY\nsystem_account: %s\nresolver_preload: { %s: %s, %s: %s }\njetstream: { store_dir: %q }\n",
		operatorJWT, system.public, system.public, systemJWT, account.public, accountJWT, filepath.Join(dir, "js"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	options, err := server.ProcessConfigFile(config)
	if err != nil {
		t.Fatal(err)
	}
	options.NoSigs, options.NoLog = true, true
	broker, err := server.NewServer(options)
	if err != nil {
		t.Fatal(err)
	}
	broker.Start()
	defer broker.WaitForShutdown()
	defer broker.Shutdown()
	if !broker.ReadyForConnections(10 * time.Second) {
		t.Fatal("the broker does not come up")
	}
	cfg := bus.Config{URL: broker.ClientURL(), Security: bus.Security{Creds: file}, Limits: quick()}
	c, err := bus.Init(t.Context(), cfg, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Control().Create(t.Context(), "run.x", []byte("1")); err != nil {
		t.Error(err)
	}
	cfg.Creds = ""
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if c, err := bus.Connect(ctx, cfg, zerolog.Nop()); err == nil {
		c.Close()
		t.Error("connects without credentials")
	}
}

// pair is a key with what is said about it.
type pair struct {
	pair   nkeys.KeyPair
	public string
	seed   []byte
}

func newPair(t *testing.T, create func() (nkeys.KeyPair, error)) pair {
	t.Helper()
	k, err := create()
	if err != nil {
		t.Fatal(err)
	}
	public, err := k.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	seed, err := k.Seed()
	if err != nil {
		t.Fatal(err)
	}
	return pair{k, public, seed}
}
