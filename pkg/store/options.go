package store

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/spf13/pflag"

	"github.com/seed-8780d58e/spin/pkg/secret"
)

// Options say which ClickHouse to use, and who we are there.
type Options struct {
	// URL of the server: http://host:8123/database (also https), or
	// clickhouse://host:9000/database for the native protocol. Options of
	// clickhouse-go may follow as ?name=value, e.g. secure=true&dial_timeout=5s.
	URL string
	// HTTPURL is where Query goes; "" is URL, which then must be HTTP.
	HTTPURL string
	// User there; "" is the URL's, else ClickHouse's default.
	User string
	// PasswordFile holds the user's password; "": the URL's, else none.
	PasswordFile string
	// CA is a file of certificates, PEM, that the server's must be signed by; ""
	// are the system's. Giving it asks for TLS, on the native protocol too.
	CA string
	// Cert and Key are our own certificate, PEM, where the server wants one.
	Cert, Key string
}

// Flags registers the options.
func (o *Options) Flags(fs *pflag.FlagSet) {
	fs.StringVar(&o.URL, "clickhouse-url", o.URL, "ClickHouse server, http://host:8123/database or clickhouse://host:9000/database (default the embedded engine)")
	fs.StringVar(&o.HTTPURL, "clickhouse-http-url", o.HTTPURL, "its HTTP interface for `spin sql`, where --clickhouse-url is native")
	fs.StringVar(&o.User, "clickhouse-user", o.User, "user there")
	fs.StringVar(&o.PasswordFile, "clickhouse-password-file", o.PasswordFile, "file with the user's password")
	fs.StringVar(&o.CA, "clickhouse-ca", o.CA, "certificates that the server's is signed by, PEM; giving it asks for TLS")
	fs.StringVar(&o.Cert, "clickhouse-cert", o.Cert, "our certificate for it, PEM")
	fs.StringVar(&o.Key, "clickhouse-key", o.Key, "our certificate's key, PEM")
}

// Check finds what is wrong with options that came from a command line: a
// password there or in the environment can be read by others.
func (o Options) Check() error {
	for flag, raw := range map[string]string{"--clickhouse-url": o.URL, "--clickhouse-http-url": o.HTTPURL} {
		if u, err := url.Parse(raw); err == nil {
			if _, password := u.User.Password(); password || u.Query().Has("password") {
				return fmt.Errorf("%s holds a password, which others can read off the command line: give --clickhouse-password-file", flag)
			}
		}
	}
	if (o.Cert == "") != (o.Key == "") {
		return errors.New("--clickhouse-cert and --clickhouse-key: give both or none")
	}
	return nil
}

// dial is the driver's options, and the address and client for Query; a nil
// address where there is no HTTP interface.
func (o Options) dial() (*clickhouse.Options, *url.URL, *http.Client, error) {
	opt, err := clickhouse.ParseDSN(secured(o.URL))
	if err != nil {
		return nil, nil, nil, fmt.Errorf("clickhouse url %s: %w", redact(o.URL), err)
	}
	opt.ClientInfo.Products = append(opt.ClientInfo.Products, struct{ Name, Version string }{"spin", "1"})
	web, err := httpURL(o)
	if err != nil {
		return nil, nil, nil, err
	}
	if o.User != "" {
		opt.Auth.Username = o.User
	}
	if o.PasswordFile != "" {
		if opt.Auth.Password, err = secret.Read(o.PasswordFile); err != nil {
			return nil, nil, nil, fmt.Errorf("--clickhouse-password-file: %w", err)
		}
	}
	if web != nil && (o.User != "" || o.PasswordFile != "") {
		web.User = url.UserPassword(opt.Auth.Username, opt.Auth.Password)
	}
	config, err := o.tls()
	if err != nil {
		return nil, nil, nil, err
	}
	client := http.DefaultClient
	if config != nil {
		for _, raw := range []string{o.URL, o.HTTPURL} {
			if strings.HasPrefix(raw, "http://") {
				return nil, nil, nil, fmt.Errorf("clickhouse url %s is not encrypted, and certificates are given: want https://", redact(raw))
			}
		}
		opt.TLS = config
		client = &http.Client{Transport: &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true, Proxy: http.ProxyFromEnvironment}}
	}
	return opt, web, client, nil
}

// secured says to the driver what https says to everybody else.
func secured(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "https" {
		return raw
	}
	q := u.Query()
	q.Set("secure", "true")
	u.RawQuery = q.Encode()
	return u.String()
}

// tls is the certificates' configuration; nil where none is given.
func (o Options) tls() (*tls.Config, error) {
	if o.CA == "" && o.Cert == "" {
		return nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CA != "" {
		pem, err := os.ReadFile(o.CA)
		if err != nil {
			return nil, fmt.Errorf("--clickhouse-ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--clickhouse-ca %s holds no certificate, want PEM", o.CA)
		}
	}
	if o.Cert != "" {
		if err := secret.Check(o.Key); err != nil {
			return nil, fmt.Errorf("--clickhouse-key: %w", err)
		}
		pair, err := tls.LoadX509KeyPair(o.Cert, o.Key)
		if err != nil {
			return nil, fmt.Errorf("--clickhouse-cert: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}
