package softhsmtest_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/pkcs11"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/roamsign/roamsign/ca"
	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
	softhsmtest "github.com/roamsign/roamsign/softhsm-test"
)

// tls is how the daemon's own client connects.
func (d *daemon) tls(t *testing.T) *tls.Config {
	t.Helper()
	pool, err := ca.LoadPool(d.file("tls-ca.pem"))
	check(t, err)
	own, err := ca.LoadPair(d.file("client.pem"), d.file("client.key"))
	check(t, err)
	return &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{own}, MinVersion: tls.VersionTLS12}
}

// dial connects with gRPC alone.
func dial(t *testing.T, d *daemon, how *tls.Config) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(d.address, grpc.WithTransportCredentials(credentials.NewTLS(how)), grpc.WithStatsHandler(watcher{}))
	check(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// watcher serves whenSent.
type watcher struct{}

func (watcher) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (watcher) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (watcher) HandleConn(context.Context, stats.ConnStats)                       {}
func (watcher) HandleRPC(ctx context.Context, event stats.RPCStats) {
	_, out := event.(*stats.OutPayload)
	if sent, wanted := ctx.Value(sentKey{}).(chan struct{}); out && wanted {
		close(sent)
	}
}

func TestHealthAndReflectionAnswerThoseWithACertificate(t *testing.T) {
	t.Parallel()
	d := fresh(t)
	conn := dial(t, d, d.tls(t))
	const service = "roamsign.v1.SignerService"
	for _, name := range []string{"", service} {
		got, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{Service: name})
		if err != nil || got.GetStatus() != healthv1.HealthCheckResponse_SERVING {
			t.Errorf("health of %q: got %v, %v, want SERVING", name, got, err)
		}
	}
	stream, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	check(t, err)
	check(t, stream.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}))
	answer, err := stream.Recv()
	check(t, err)
	var names []string
	for _, one := range answer.GetListServicesResponse().GetService() {
		names = append(names, one.GetName())
	}
	for _, want := range []string{service, "grpc.health.v1.Health"} {
		if !slices.Contains(names, want) {
			t.Errorf("reflection lists %v, want %s among them", names, want)
		}
	}
}

func TestNobodyConnectsWithoutTheRightCertificate(t *testing.T) {
	t.Parallel()
	d := fresh(t)
	validity := ca.Validity{NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	authority, err := ca.New("another authority", ca.ECDSA, validity)
	check(t, err)
	stranger, err := authority.Client("spiffe://dev.roamsign.test/client", validity)
	check(t, err)
	server, err := ca.LoadPair(d.file("server.pem"), d.file("server.key"))
	check(t, err)
	for _, row := range []struct {
		name string
		how  func(*tls.Config)
	}{
		{"no certificate", func(c *tls.Config) { c.Certificates = nil }},
		{"the right name under another authority", func(c *tls.Config) {
			c.Certificates = nil // what is not asked for is sent all the same
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				return &tls.Certificate{Certificate: [][]byte{stranger.Certificate.Raw}, PrivateKey: stranger.Key}, nil
			}
		}},
		{"a server's certificate", func(c *tls.Config) { c.Certificates = []tls.Certificate{server} }},
		{"TLS 1.2", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }},
	} {
		t.Run(row.name, func(t *testing.T) {
			how := d.tls(t)
			row.how(how)
			conn := dial(t, d, how)
			_, err := roamsignv1.NewSignerServiceClient(conn).GetCertificate(t.Context(), &roamsignv1.GetCertificateRequest{})
			if status.Code(err) != codes.Unavailable {
				t.Errorf("GetCertificate: got %v, want that there is no connection", err)
			}
			_, err = healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{})
			if status.Code(err) != codes.Unavailable {
				t.Errorf("health: got %v, want that there is no connection", err)
			}
		})
	}
	if _, err := roamsignv1.NewSignerServiceClient(dial(t, d, d.tls(t))).GetCertificate(t.Context(), &roamsignv1.GetCertificateRequest{}); err != nil {
		t.Errorf("the right client, after all those: %v", err)
	}
}

func TestThePrivateKeyCannotLeaveTheToken(t *testing.T) {
	t.Parallel()
	d := fresh(t)
	tool := func(args ...string) result {
		command := exec.CommandContext(t.Context(), "pkcs11-tool", append([]string{
			"--module", softhsmtest.Library(t), "--token-label", "roamsign-dev", "--login", "--pin", "env:PIN",
		}, args...)...)
		command.Env = append(os.Environ(), "SOFTHSM2_CONF="+d.file("softhsm2.conf"), "PIN="+d.pin(t))
		return ran(t, command)
	}
	got := tool("--list-objects", "--type", "privkey")
	if got.code != 0 || strings.Count(got.out, "Private Key Object") != 1 {
		t.Fatalf("listing the private keys: got %+v, want one", got)
	}
	attributes := map[string]string{}
	for line := range strings.Lines(got.out) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		attributes[name] = strings.TrimSpace(value)
	}
	want := map[string]string{
		"Private Key Object; RSA": "", "label": "signing", "ID": "01",
		"Usage": "sign", "Access": "sensitive, always sensitive, never extractable, local",
	}
	if diff := cmp.Diff(want, attributes); diff != "" {
		t.Errorf("the private key (-want +got):\n%s", diff)
	}

	leaf, err := ca.LoadCertificates(d.file("signing.pem"))
	check(t, err)
	public := tool("--read-object", "--type", "pubkey", "--id", "01")
	key, err := x509.ParsePKIXPublicKey([]byte(public.out))
	check(t, err)
	if same, ok := leaf[0].PublicKey.(interface{ Equal(x any) bool }); ok && !same.Equal(key) {
		t.Error("the certificate is for another key than the token's")
	}
}

func TestTheTokenGivesNoPartOfTheKey(t *testing.T) {
	d := fresh(t)
	t.Setenv("SOFTHSM2_CONF", d.file("softhsm2.conf"))
	module := pkcs11.New(softhsmtest.Library(t))
	check(t, module.Initialize())
	defer func() { check(t, module.Finalize()) }()
	slots, err := module.GetSlotList(true)
	check(t, err)
	session, err := module.OpenSession(slots[0], pkcs11.CKF_SERIAL_SESSION)
	check(t, err)
	check(t, module.Login(session, pkcs11.CKU_USER, d.pin(t)))
	check(t, module.FindObjectsInit(session, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY)}))
	keys, _, err := module.FindObjects(session, 2)
	check(t, err)
	check(t, module.FindObjectsFinal(session))
	if len(keys) != 1 {
		t.Fatalf("got %d private keys, want one", len(keys))
	}
	for name, attribute := range map[string]uint{
		"private exponent": pkcs11.CKA_PRIVATE_EXPONENT, "first prime": pkcs11.CKA_PRIME_1, "second prime": pkcs11.CKA_PRIME_2,
		"first exponent": pkcs11.CKA_EXPONENT_1, "second exponent": pkcs11.CKA_EXPONENT_2, "coefficient": pkcs11.CKA_COEFFICIENT,
	} {
		_, err := module.GetAttributeValue(session, keys[0], []*pkcs11.Attribute{pkcs11.NewAttribute(attribute, nil)})
		if !errors.Is(err, pkcs11.Error(pkcs11.CKR_ATTRIBUTE_SENSITIVE)) {
			t.Errorf("%s: got %v, want that it is sensitive", name, err)
		}
	}
	input := make([]byte, 256)
	for name, try := range map[string]func([]*pkcs11.Mechanism) error{
		"decrypt": func(m []*pkcs11.Mechanism) error {
			if err := module.DecryptInit(session, m, keys[0]); err != nil {
				return err
			}
			_, err := module.Decrypt(session, input)
			return err
		},
		"unwrap": func(m []*pkcs11.Mechanism) error {
			_, err := module.UnwrapKey(session, m, keys[0], input, []*pkcs11.Attribute{
				pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
			})
			return err
		},
	} {
		err := try([]*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_RSA_PKCS, nil)})
		if !errors.Is(err, pkcs11.Error(pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED)) {
			t.Errorf("to %s with the key: got %v, want that it is not permitted", name, err)
		}
	}
}

func TestThePINIsNowhereButInItsFile(t *testing.T) {
	t.Parallel()
	d := fresh(t)
	d.sign(t, write(t, filepath.Join(t.TempDir(), "invoice.xml"), invoice(t, "xml", "E2E-11")))
	process := filepath.Join("/proc", fmt.Sprint(d.process.Pid))
	places := map[string]string{
		"its arguments":   string(read(t, filepath.Join(process, "cmdline"))),
		"its environment": string(read(t, filepath.Join(process, "environ"))),
	}
	pin := d.pin(t)
	places["its log"] = d.stop(t)
	places["what it says"] = d.out.String()
	check(t, filepath.WalkDir(d.dir, func(path string, entry os.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && entry.Name() != "pin" {
			places[path] = string(read(t, path))
		}
		return err
	}))
	for place, text := range places {
		if strings.Contains(text, pin) {
			t.Errorf("the PIN stands in %s", place)
		}
	}
}

func TestTheLogHasALineForEachRequestAndNothingOfTheDocuments(t *testing.T) {
	t.Parallel()
	d := fresh(t)
	folder := t.TempDir()
	one := write(t, filepath.Join(folder, "one.xml"), invoice(t, "xml", "E2E-SECRET-1"))
	two := write(t, filepath.Join(folder, "two.json"), invoice(t, "json", "E2E-SECRET-2"))
	foreign := write(t, filepath.Join(folder, "foreign.xml"), []byte(strings.ReplaceAll(string(read(t, one)), own, "C31450097020")))
	want := map[string]int{"GetCertificate OK": 3, "SignDigest OK": 1, "SignDigests OK": 1, "SignDocument OK": 1, "SignDigest NOT_ALLOWED": 1}

	signed := d.sign(t, "--out", "-", one)                              // GetCertificate, SignDigest
	d.sign(t, "--out", filepath.Join(folder, "out"), one, two)          // GetCertificate, SignDigests
	d.sign(t, "--out", filepath.Join(folder, "out"), foreign)           // GetCertificate, SignDigest
	d.sign(t, "--via", "document", "--out", filepath.Join(folder), two) // SignDocument
	log := d.stop(t)
	got := map[string]int{}
	line := regexp.MustCompile(`^time=\S+ level=INFO msg=request method=(\w+) caller=spiffe://dev\.roamsign\.test/client .*\boutcome=(\w+)`)
	ofTheService := regexp.MustCompile(`^time=\S+ level=INFO msg=("token in service"|serving|stopped|"the index of the audit log is ready")\s`)
	for text := range strings.Lines(log) {
		if found := line.FindStringSubmatch(text); found != nil {
			got[found[1]+" "+found[2]]++
		} else if !ofTheService.MatchString(text) {
			t.Errorf("the log has another line than for a request:\n%s", text)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("requests in the log (-want +got):\n%s\n%s", diff, log)
	}
	secrets := []string{d.pin(t), "E2E-SECRET", "Kuala Lumpur", "Invoice", "BEGIN"}
	secrets = append(secrets, xmlParts(t, []byte(signed.out)).digest)
	for _, secret := range secrets {
		if strings.Contains(log, secret) {
			t.Errorf("the log has %q in it:\n%s", secret, log)
		}
	}
}
