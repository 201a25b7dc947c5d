package bench

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/roamsign/roamsign/ca"
	"github.com/roamsign/roamsign/hsm"
	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
)

// taxpayer is one of dev mode's.
const taxpayer = "C20880050010"

// patience bounds every wait for a process.
const patience = time.Minute

// stage is a folder of dev mode's, with a token in it, and the processes that
// use it. Its methods are for one goroutine.
type stage struct {
	b       *testing.B
	pace    pace
	scratch string
	dir     string // dev mode's
	token   hsm.Config
	service *server // roamsignd, from the first time it is asked for
	rest    float64 // its memory then
	plain   *server // the bare gRPC server
	bare    *limit
}

// newStage builds the programs, and makes dev mode's folder.
func newStage(b *testing.B, p pace) *stage {
	s := &stage{b: b, pace: p, scratch: b.TempDir()}
	s.dir = filepath.Join(s.scratch, "dev")
	s.run("go", "build", "-o", s.program(), "../../cmd/roamsignd")
	dev := s.start("dev", "--dir", s.dir, "--listen", "127.0.0.1:0")
	s.await("roamsignd dev", func() bool {
		_, err := os.Stat(filepath.Join(s.dir, "ready"))
		return err == nil
	})
	s.end(dev)
	var err error
	s.token, err = tokenOf(s.dir)
	s.check(err)
	for name, value := range s.token.Environment {
		b.Setenv(name, value)
	}
	return s
}

func (s *stage) program() string { return filepath.Join(s.scratch, "roamsignd") }

func (s *stage) check(err error) {
	s.b.Helper()
	if err != nil {
		s.b.Fatal(err)
	}
}

// run runs a program to its end and returns what it printed.
func (s *stage) run(name string, args ...string) string {
	s.b.Helper()
	command := exec.CommandContext(s.b.Context(), name, args...)
	var out, errs bytes.Buffer
	command.Stdout, command.Stderr = &out, &errs
	if err := command.Run(); err != nil {
		s.b.Fatalf("running %s: %v\n%s%s", command, err, out.String(), errs.String())
	}
	return out.String()
}

// start starts roamsignd. It writes its log as it would in service, to a file.
func (s *stage) start(args ...string) *exec.Cmd {
	s.b.Helper()
	log, err := os.OpenFile(filepath.Join(s.scratch, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	s.check(err)
	defer log.Close()
	command := exec.CommandContext(context.WithoutCancel(s.b.Context()), s.program(), args...)
	command.Stderr = log
	s.check(command.Start())
	s.b.Cleanup(func() { s.end(command) })
	return command
}

// end stops a process that was started here, and waits for it.
func (s *stage) end(command *exec.Cmd) {
	if command.ProcessState == nil {
		_ = command.Process.Signal(syscall.SIGTERM)
		s.wait(command)
	}
}

// wait waits for a process that was told to end.
func (s *stage) wait(command *exec.Cmd) {
	if command.ProcessState != nil {
		return
	}
	defer time.AfterFunc(patience, func() { _ = command.Process.Kill() }).Stop()
	_ = command.Wait() // how it ended is of no interest here
}

// await waits for something to become true.
func (s *stage) await(what string, done func() bool) {
	s.b.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	over := time.After(patience)
	for !done() {
		select {
		case <-tick.C:
		case <-over:
			text, _ := os.ReadFile(filepath.Join(s.scratch, "log"))
			s.b.Fatalf("waited in vain for %s\n%s", what, text[max(0, len(text)-2000):])
		}
	}
}

// server is a process that serves, and connections to it.
type server struct {
	stage       *stage
	process     *exec.Cmd
	end         func()
	address     string
	fingerprint [sha256.Size]byte // of the signing certificate
	clients     []roamsignv1.SignerServiceClient
	open        []*grpc.ClientConn // those of clients, in order, and of other callers
	asked       atomic.Uint64
}

// serve starts roamsignd on the folder, and returns once it takes connections.
func (s *stage) serve() *server {
	s.b.Helper()
	config := filepath.Join(s.dir, "roamsignd.yaml")
	text, err := os.ReadFile(config)
	s.check(err)
	var address struct {
		Listen string `yaml:"listen"`
	}
	s.check(yaml.Unmarshal(text, &address))
	leaf, err := ca.LoadCertificates(filepath.Join(s.dir, "signing.pem"))
	s.check(err)
	v := &server{stage: s, address: address.Listen, fingerprint: sha256.Sum256(leaf[0].Raw)}
	v.process = s.start("serve", "--config", config)
	v.end = func() { s.end(v.process) }
	s.await("roamsignd serve", v.accepts)
	v.connect(1)
	return v
}

func (v *server) accepts() bool {
	connection, err := (&net.Dialer{}).DialContext(v.stage.b.Context(), "tcp", v.address)
	if err == nil {
		_ = connection.Close()
	}
	return err == nil
}

// employ starts this program again in a role.
func (s *stage) employ(o orders) *server {
	s.b.Helper()
	o.Dir, o.Module = s.dir, s.token.Module
	if dir := os.Getenv("BENCH_PROFILE"); dir != "" {
		name := fmt.Sprintf("%s-%v.prof", o.Role, o.Delay)
		if o.Forget {
			name = "forgetful-" + name
		}
		o.Profile = filepath.Join(dir, name)
	}
	command := exec.CommandContext(context.WithoutCancel(s.b.Context()), os.Args[0])
	command.Env = append(command.Environ(), servant+"=1")
	log, err := os.OpenFile(filepath.Join(s.scratch, "log-"+o.Role), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	s.check(err)
	defer log.Close()
	command.Stderr = log
	in, err := command.StdinPipe()
	s.check(err)
	out, err := command.StdoutPipe()
	s.check(err)
	s.check(command.Start())
	v := &server{stage: s, process: command, end: func() {
		_ = in.Close() // which tells it to end
		s.wait(command)
	}}
	s.b.Cleanup(v.end)
	text, err := json.Marshal(o)
	s.check(err)
	_, err = in.Write(append(text, '\n'))
	s.check(err)
	address, err := bufio.NewReader(out).ReadString('\n')
	s.check(err)
	v.address = strings.TrimSpace(address)
	v.connect(1)
	return v
}

// connect opens connections, as the one client that dev mode knows.
func (v *server) connect(count int) {
	s := v.stage
	s.b.Helper()
	own, err := ca.LoadPair(filepath.Join(s.dir, "client.pem"), filepath.Join(s.dir, "client.key"))
	s.check(err)
	for len(v.clients) < count {
		v.clients = append(v.clients, v.dial(own))
	}
}

// hangUp closes all connections but the first.
func (v *server) hangUp() {
	for _, connection := range v.open[1:] {
		v.stage.check(connection.Close())
	}
	v.clients, v.open = v.clients[:1], v.open[:1]
}

// dial opens one more connection, as whom the certificate names.
func (v *server) dial(own tls.Certificate) roamsignv1.SignerServiceClient {
	s := v.stage
	s.b.Helper()
	roots, err := ca.LoadPool(filepath.Join(s.dir, "tls-ca.pem"))
	s.check(err)
	connection, err := grpc.NewClient("passthrough:///"+v.address, grpc.WithTransportCredentials(credentials.NewTLS(
		&tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, Certificates: []tls.Certificate{own}})))
	s.check(err)
	s.b.Cleanup(func() { _ = connection.Close() })
	v.open = append(v.open, connection)
	return roamsignv1.NewSignerServiceClient(connection)
}

// learn asks the server for its certificate.
func (v *server) learn() *server {
	answer, err := v.clients[0].GetCertificate(v.stage.b.Context(), &roamsignv1.GetCertificateRequest{})
	v.stage.check(err)
	v.fingerprint = sha256.Sum256(answer.GetCertificate())
	return v
}

// request is for one signature, each time under another ID.
func (v *server) request() *roamsignv1.SignDigestRequest {
	n := v.asked.Add(1)
	digest := digests()[n%known]
	return &roamsignv1.SignDigestRequest{
		Tin: taxpayer, DocumentDigest: digest[:], CertificateSha256: v.fingerprint[:], RequestId: "bench-" + strconv.FormatUint(n, 10),
		SignedPropertiesDigest: digest[:], DocumentNumber: "INV-1",
	}
}

var digests = sync.OnceValue(func() (all [known][sha256.Size]byte) {
	for n := range all {
		all[n] = digestOf(uint64(n))
	}
	return all
})

// single is a caller of SignDigest.
func (v *server) single(caller int) (int, error) {
	answer, err := v.clients[caller%len(v.clients)].SignDigest(v.stage.b.Context(), v.request())
	if err == nil && len(answer.GetSignature()) != 256 {
		err = errors.New("got no signature")
	}
	return 1, err
}

// hundred is a caller of SignDigests.
func (v *server) hundred(caller int) (int, error) {
	batch := &roamsignv1.SignDigestsRequest{Items: make([]*roamsignv1.SignDigestRequest, 100)}
	for i := range batch.Items {
		batch.Items[i] = v.request()
	}
	answer, err := v.clients[caller%len(v.clients)].SignDigests(v.stage.b.Context(), batch)
	if err != nil {
		return 0, err
	}
	for _, result := range answer.GetResults() {
		if len(result.GetSignature()) != 256 {
			return 0, fmt.Errorf("got no signature: %v", result.GetError())
		}
	}
	return len(answer.GetResults()), nil
}

// by are so many callers of something, each of whom keeps asking.
func (v *server) by(count int, call func(int) (int, error)) contender {
	return callers(v.stage.b, count, v.cpu, call)
}

// cpu is the processor time that the process has taken so far.
func (v *server) cpu() time.Duration { return processorTime(v.stage.b, v.process.Process.Pid) }

func processorTime(b *testing.B, pid int) time.Duration {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	const userTime, systemTime, tick = 11, 12, 10 * time.Millisecond // proc(5), fields 14 and 15
	user, uerr := strconv.Atoi(fields[userTime])
	system, serr := strconv.Atoi(fields[systemTime])
	if err := errors.Join(uerr, serr); err != nil {
		b.Fatal(err)
	}
	return time.Duration(user+system) * tick
}

// memory is a figure of the process in MB: VmRSS, or VmHWM, the most so far.
func (v *server) memory(figure string) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", v.process.Process.Pid))
	v.stage.check(err)
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); len(words) == 3 && words[0] == figure+":" {
			kilobytes, err := strconv.Atoi(words[1])
			v.stage.check(err)
			return float64(kilobytes) / 1024
		}
	}
	v.stage.b.Fatalf("no %s", figure)
	return 0
}

// limit is the C program that does nothing but sign.
type limit struct {
	stage *stage
	pid   int
	in    io.Writer
	out   *bufio.Reader
}

// threads are loops of C_Sign.
func (s *stage) threads(count int) contender {
	if s.bare == nil {
		s.bare = s.limit()
	}
	return func(span time.Duration) round {
		s.b.Helper()
		before := processorTime(s.b, s.bare.pid)
		_, err := fmt.Fprintf(s.bare.in, "%d %d\n", count, span.Milliseconds())
		s.check(err)
		line, err := s.bare.out.ReadString('\n')
		s.check(err)
		var r round
		_, err = fmt.Sscan(line, &r.signatures, &r.took)
		s.check(err)
		r.cpu = processorTime(s.b, s.bare.pid) - before
		return r
	}
}

func (s *stage) limit() *limit {
	s.b.Helper()
	const most = "64"
	program := filepath.Join(s.scratch, "limit")
	s.run("gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-I/usr/include/p11-kit-1",
		"-o", program, filepath.Join("testdata", "limit", "limit.c"), "-ldl")
	command := exec.CommandContext(context.WithoutCancel(s.b.Context()), program, s.token.Module, s.token.TokenLabel, s.token.PINFile, most)
	command.Stderr = os.Stderr
	in, err := command.StdinPipe()
	s.check(err)
	out, err := command.StdoutPipe()
	s.check(err)
	s.check(command.Start())
	s.b.Cleanup(func() {
		_ = in.Close()
		s.wait(command)
	})
	return &limit{stage: s, pid: command.Process.Pid, in: in, out: bufio.NewReader(out)}
}

// signing returns the certificate that the service signs under.
func (s *stage) signing() *x509.Certificate {
	chain, err := ca.LoadCertificates(filepath.Join(s.dir, "signing.pem"))
	s.check(err)
	return chain[0]
}
