package bench

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"time"

	"github.com/roamsign/roamsign/client"
	"github.com/roamsign/roamsign/hsm"
	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
)

// scene measures some rows together.
type scene struct {
	rows []string
	play func(*stage) []row
}

// scenes are all that there are, in the order of the table. The last one has
// seen the service through all before.
var scenes = []scene{
	{[]string{"start"}, (*stage).starts},
	{[]string{"signdigest/c1"}, singles(1)},
	{[]string{"signdigest/c4"}, singles(4)},
	{[]string{"signdigest/c16"}, singles(16)},
	{[]string{"signdigest/c64"}, singles(64)},
	{[]string{"signdigest/c256"}, singles(256)},
	{[]string{"signdigests/100"}, (*stage).batches},
	{[]string{"signdocument/xml"}, whole("xml", "invoice.xml")},
	{[]string{"signdocument/json"}, whole("json", "self-billed.json")},
	{[]string{"signxml", "signall"}, (*stage).invoices},
	{[]string{"hsm/c4"}, direct(4)},
	{[]string{"hsm/c64"}, direct(64)},
	{[]string{"ceiling/signdigest", "ceiling/signdigests"}, ceiling("", 0)},
	{[]string{"ceiling/signdigest/1ms", "ceiling/signdigests/1ms"}, ceiling("/1ms", time.Millisecond)},
	{[]string{"ceiling/signdigest/5ms", "ceiling/signdigests/5ms"}, ceiling("/5ms", 5*time.Millisecond)},
	{[]string{"audit/on-off"}, (*stage).record},
	{[]string{"xades/xml/9KB", "xades/xml/290KB", "xades/json", "xades/prepare-complete"}, (*stage).documents},
	{[]string{"fairness/p99", "fairness/shares", "fairness/batches", "fairness/p99/softhsm", "fairness/shares/softhsm"}, (*stage).fairness},
	{[]string{"rss/rest", "rss/load", "rss/after"}, (*stage).memories},
}

// What the baselines are called.
const (
	ofLimit = "bare C_Sign"
	ofGRPC  = "bare gRPC"
)

// roamsignd is the service, started when it is first asked for.
func (s *stage) roamsignd() *server {
	if s.service == nil {
		s.service = s.serve()
		_, err := s.service.single(0)
		s.check(err)
		s.rest = s.service.memory("VmRSS")
	}
	return s.service
}

// bareSessions is what the bare server had when it was first measured; more
// sessions than cores suit it.
const bareSessions = 8

// grpc is the bare server, likewise.
func (s *stage) grpc() *server {
	if s.plain == nil {
		s.plain = s.employ(orders{Role: "bare", Sessions: bareSessions})
	}
	return s.plain
}

// compared makes a row of a contender beside its baseline.
func compared(name, of string, own, base series) row {
	r := row{Name: name, Value: own.speed(), Unit: "signatures/s", Baseline: base.speed(), Ratio: own.by(base), Of: of, Better: higher, CPU: own.cost()}
	r.P50, r.P95, r.P99 = own.quantiles()
	return r
}

// connectionsFor is how many connections so many callers share: one carries 100
// requests at once.
func connectionsFor(callers int) int { return 1 + callers/100 }

// singles is SignDigest by so many callers.
func singles(count int) func(*stage) []row {
	return func(s *stage) []row {
		own, plain := s.roamsignd(), s.grpc()
		own.connect(connectionsFor(count))
		plain.connect(connectionsFor(count))
		all := alternate(s.pace.rounds, s.pace.span, s.threads(min(count, 64)), plain.by(count, plain.single), own.by(count, own.single))
		r := compared(fmt.Sprintf("signdigest/c%d", count), ofGRPC, all[2], all[1])
		r.OfLimit = all[2].by(all[0])
		p50, p95, p99 := all[1].quantiles()
		r.Note = fmt.Sprintf("gRPC: %.2f of C_Sign, %.1f / %.1f / %.1f ms, %.0f µs; C_Sign: %.0f/s, %.0f µs",
			all[1].by(all[0]), p50, p95, p99, all[1].cost(), all[0].speed(), all[0].cost())
		return []row{r}
	}
}

// abreast is how many threads the limit has that is no row's own.
const abreast = 16

// batches is SignDigests in hundreds, by 4 callers.
func (s *stage) batches() []row {
	own := s.roamsignd()
	all := alternate(s.pace.rounds, s.pace.span, s.threads(abreast), own.by(4, own.hundred))
	return []row{compared("signdigests/100", ofLimit, all[1], all[0])}
}

// whole is SignDocument by 16 callers.
func whole(format, sample string) func(*stage) []row {
	return func(s *stage) []row {
		document, err := os.ReadFile(filepath.Join("..", "..", "testdata", sample))
		s.check(err)
		own := s.roamsignd()
		sign := func(int) (int, error) {
			_, err := own.clients[0].SignDocument(s.b.Context(), &roamsignv1.SignDocumentRequest{
				Tin: taxpayer, Document: document, RequestId: own.request().GetRequestId(),
			})
			return 1, err
		}
		all := alternate(s.pace.rounds, s.pace.span, s.threads(abreast), own.by(abreast, sign))
		return []row{compared("signdocument/"+format, ofLimit, all[1], all[0])}
	}
}

// invoices is the client library, from unsigned invoices to signed ones.
func (s *stage) invoices() []row {
	own := s.roamsignd()
	config, err := client.Load(filepath.Join(s.dir, "client.yaml"))
	s.check(err)
	library, err := client.Dial(config)
	s.check(err)
	defer library.Close()
	sample, err := os.ReadFile(filepath.Join("..", "..", "testdata", "invoice.xml"))
	s.check(err)
	one := func(int) (int, error) {
		_, err := library.SignXML(s.b.Context(), "", sample, client.Options{})
		return 1, err
	}
	all := alternate(s.pace.rounds, s.pace.span, s.threads(1), own.by(1, one))
	rows := []row{compared("signxml", ofLimit, all[1], all[0])}
	rows[0].Note = "1 caller and thread"

	many := func(time.Duration) round {
		began, before, signed := time.Now(), own.cpu(), 0
		for _, err := range library.SignAll(s.b.Context(), numbered(sample, s.pace.invoices)) {
			s.check(err)
			signed++
		}
		return round{signatures: signed, took: time.Since(began), cpu: own.cpu() - before}
	}
	all = alternate(s.pace.few, 2*s.pace.span, s.threads(abreast), many)
	rows = append(rows, compared("signall", ofLimit, all[1], all[0]))
	rows[1].Unit, rows[1].Note = "invoices/s", fmt.Sprintf("%d invoices", s.pace.invoices)
	return rows
}

// numbered are copies of an invoice, each with a number of its own.
func numbered(sample []byte, count int) iter.Seq2[client.Document, error] {
	return func(yield func(client.Document, error) bool) {
		for n := range count {
			content := bytes.Replace(sample, []byte("KKB-2026-00417"), fmt.Appendf(nil, "KKB-2026-%05d", n), 1)
			if !yield(client.Document{Content: content}, nil) {
				return
			}
		}
	}
}

// direct is package hsm in this process.
func direct(count int) func(*stage) []row {
	return func(s *stage) []row {
		token, err := hsm.Open(s.b.Context(), s.token, s.signing())
		s.check(err)
		defer func() { s.check(token.Close(context.WithoutCancel(s.b.Context()))) }()
		sign := func(caller int) (int, error) {
			_, err := token.SignDigest(s.b.Context(), digests()[caller])
			return 1, err
		}
		pid := os.Getpid()
		all := alternate(s.pace.rounds, s.pace.span, s.threads(count),
			callers(s.b, count, func() time.Duration { return processorTime(s.b, pid) }, sign))
		r := compared(fmt.Sprintf("hsm/c%d", count), ofLimit, all[1], all[0])
		r.Note = fmt.Sprintf("%d sessions; C_Sign: %.0f µs", token.Sessions(), all[0].cost())
		return []row{r}
	}
}

// record is package signer on the token with a record, beside the same without one.
func (s *stage) record() []row {
	without := s.employ(orders{Role: "signer", Forget: true}).learn()
	with := s.employ(orders{Role: "signer"}).learn()
	all := alternate(s.pace.rounds, s.pace.span, without.by(abreast, without.single), with.by(abreast, with.single))
	r := compared("audit/on-off", "without a record", all[1], all[0])
	p50, p95, p99 := all[0].quantiles()
	r.Note = fmt.Sprintf("%d callers; without: %.1f / %.1f / %.1f ms, %.0f µs", abreast, p50, p95, p99, all[0].cost())
	without.end()
	with.end()
	return []row{r}
}

// ceiling is the service in front of a token that takes a fixed time, beside a
// bare server in front of the same.
func ceiling(suffix string, delay time.Duration) func(*stage) []row {
	// So many that the disk's time for a batch of entries is not what limits.
	const sessions, singly, inHundreds = 8, 256, 8
	return func(s *stage) []row {
		plain := s.employ(orders{Role: "table", Sessions: sessions, Delay: delay})
		own := s.employ(orders{Role: "standin", Sessions: sessions, Delay: delay}).learn()
		plain.connect(connectionsFor(singly))
		own.connect(connectionsFor(singly))
		of, note := "bare gRPC, same table", ""
		contenders := []contender{plain.by(singly, plain.single), own.by(singly, own.single), own.by(inHundreds, own.hundred)}
		if delay > 0 {
			of, note = "sessions by time", fmt.Sprintf("%d sessions", sessions)
			contenders[0] = func(span time.Duration) round {
				return round{signatures: int(sessions * span / delay), took: span}
			}
		} else {
			contenders = append(contenders, plain.by(inHundreds, plain.hundred))
		}
		all := alternate(s.pace.rounds, s.pace.span, contenders...)
		rows := []row{
			compared("ceiling/signdigest"+suffix, of, all[1], all[0]),
			compared("ceiling/signdigests"+suffix, of, all[2], all[len(contenders)/4*3]),
		}
		rows[0].Note, rows[1].Note = note, note
		plain.end()
		own.end()
		return rows
	}
}
