package client

import (
	"context"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/roamsign/roamsign/xades"
	"google.golang.org/grpc/codes"
)

func TestSignedDocumentsVerifyUnderTheSignersCertificate(t *testing.T) {
	rows := []struct {
		file   string
		opts   Options
		number string
	}{
		{"invoice-1.1.xml", Options{}, "PBP-2026-000117"},
		{"invoice-1.1.json", Options{}, "PBP-2026-000117"},
		{"invoice-1.0.xml", Options{SetVersion: "1.1"}, "PBP-2026-000117"},
		{"invoice-1.0.json", Options{SetVersion: "1.3"}, "PBP-2026-000117"},
		{"credit-note-1.1.xml", Options{}, "PBP-CN-2026-0009"},
		{"credit-note-1.1.json", Options{KeepLiterals: true}, "PBP-CN-2026-0009"},
		{"self-billed-1.1.xml", Options{}, "PBP-SB-2026-0031"},
		{"self-billed-1.1.json", Options{}, "PBP-SB-2026-0031"},
	}
	for name, address := range map[string]string{
		"the service": startSigner(t),
		"the station": startStation(t, &station{}).address,
	} {
		c := dialled(t, configFor(t, address))
		for _, row := range rows {
			t.Run(name+"/"+row.file, func(t *testing.T) {
				sign := c.SignXML
				if strings.HasSuffix(row.file, ".json") {
					sign = c.SignJSON
				}
				signed, err := sign(t.Context(), seller, document(t, row.file), row.opts)
				if err != nil {
					t.Fatalf("signing: %v", err)
				}
				mustVerify(t, signed)
				if signed.Facts.Number != row.number || signed.TIN != seller {
					t.Errorf("got number %q for %q, want %q for %q", signed.Facts.Number, signed.TIN, row.number, seller)
				}
				if row.opts.KeepLiterals && len(signed.Warnings) == 0 {
					t.Error("got no warning of kept literals")
				}
			})
		}
	}
}

// mustVerify checks a signed document as an outsider would.
func mustVerify(t *testing.T, signed *Signed) {
	t.Helper()
	report := xades.Verify(signed.Document, xades.VerifyOptions{Roots: sharedBy(t).roots, At: time.Now().Add(time.Minute)})
	if !report.Valid() {
		t.Errorf("verifying: got findings %+v, want no errors", report.Findings)
	}
	if report.Digest != signed.DocDigest {
		t.Errorf("got DocDigest %x, want %x", signed.DocDigest, report.Digest)
	}
}

func TestSignDocumentTakesNothingButTheDocumentThatWasSent(t *testing.T) {
	c := dialled(t, configFor(t, startSigner(t)))
	content := document(t, "invoice-1.0.json")
	signed, err := c.SignDocument(t.Context(), Document{Content: content, Options: Options{SetVersion: "1.1"}})
	if err != nil {
		t.Fatalf("SignDocument: %v", err)
	}
	mustVerify(t, signed)
	if signed.TIN != seller || signed.RequestID == "" {
		t.Errorf("got TIN %q and request %q, want %q and one", signed.TIN, signed.RequestID, seller)
	}
	_, err = c.SignDocument(t.Context(), Document{TIN: "C31450097020", Content: content, Options: Options{AllowMismatch: true}})
	wantError(t, err, codes.InvalidArgument, "INVALID_REQUEST", "SignDocument")
}

func TestRefusalsTellWhatToDoNext(t *testing.T) {
	address := startSigner(t)
	granted, stranger := dialled(t, configFor(t, address)), dialled(t, configOf(t, "stranger.test", address))
	signAs := func(c *Client, tin string) error {
		_, err := c.SignXML(t.Context(), tin, document(t, "invoice-1.1.xml"), Options{AllowMismatch: true, RequestID: "r-1"})
		return err
	}
	wantError(t, signAs(stranger, seller), codes.PermissionDenied, "NOT_ALLOWED", "ask the operator")
	wantError(t, signAs(granted, "C77777777777"), codes.PermissionDenied, "NOT_ALLOWED", "on behalf of C77777777777")
	ended := signAs(granted, "C20990060020")
	wantError(t, ended, codes.PermissionDenied, "REPRESENTATION_ENDED", "MyInvois portal")
	if e := errorOf(t, ended); e.RequestID != "r-1" || e.Metadata["not_after"] == "" {
		t.Errorf("got request %q and metadata %v, want r-1 and the end of the representation", e.RequestID, e.Metadata)
	}
}

// errorOf returns a client's error.
func errorOf(t *testing.T, err error) *Error {
	t.Helper()
	e, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("got error %v, want an *Error", err)
	}
	return e
}

// wantError checks a client's error.
func wantError(t *testing.T, err error, code codes.Code, reason, sentence string) {
	t.Helper()
	e := errorOf(t, err)
	if e.Code != code || e.Reason != reason || !strings.Contains(e.Error(), sentence) {
		t.Errorf("got %v, reason %q: %v\nwant %v, reason %q, with %q in it", e.Code, e.Reason, e, code, reason, sentence)
	}
	if strings.Contains(e.Error(), "\n") {
		t.Errorf("got an error of several lines: %q", e)
	}
}

func TestBadDocumentsAreToldWithoutAConnection(t *testing.T) {
	c := dialled(t, configFor(t, deadAddress(t)))
	whole := document(t, "invoice-1.1.xml")
	for name, row := range map[string]struct {
		content []byte
		opts    Options
		want    error
	}{
		"empty":                     {nil, Options{}, xades.ErrMalformed},
		"cut short":                 {whole[:len(whole)/2], Options{}, xades.ErrMalformed},
		"a PDF":                     {[]byte("%PDF-1.7\n1 0 obj"), Options{}, xades.ErrMalformed},
		"ten megabytes":             {make([]byte, 10<<20), Options{}, xades.ErrTooLarge},
		"an unsigned version":       {document(t, "invoice-1.0.xml"), Options{}, xades.ErrVersion},
		"a version nobody knows":    {whole, Options{SetVersion: "2.0"}, xades.ErrVersion},
		"JSON that was called XML":  {document(t, "invoice-1.1.json"), Options{}, xades.ErrMalformed},
		"with a document type":      {append([]byte("<!DOCTYPE x>"), whole...), Options{}, xades.ErrMalformed},
		"whose JSON ends in midair": {document(t, "invoice-1.1.json")[:2000], Options{}, xades.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := c.SignXML(t.Context(), seller, row.content, row.opts); !errors.Is(err, row.want) {
				t.Errorf("got error %v, want %v", err, row.want)
			}
		})
	}
}

func TestAWrongSignatureIsNotTaken(t *testing.T) {
	s := startStation(t, &station{twist: func(signature []byte) []byte {
		twisted := slices.Clone(signature)
		twisted[17] ^= 1
		return twisted
	}})
	c := dialled(t, configFor(t, s.address))
	if _, err := c.SignXML(t.Context(), "", document(t, "invoice-1.1.xml"), Options{}); !errors.Is(err, xades.ErrSignature) {
		t.Errorf("got error %v, want %v", err, xades.ErrSignature)
	}
}

func TestTheCertificateIsFetchedOnceAndAgainWhenItRotates(t *testing.T) {
	s := startStation(t, &station{})
	c := dialled(t, configFor(t, s.address))
	var used []*x509.Certificate
	for i := range 4 {
		if i == 2 {
			s.rotate()
		}
		signed, err := c.SignJSON(t.Context(), "", document(t, "invoice-1.1.json"), Options{RequestID: "same"})
		if err != nil {
			t.Fatalf("signing: %v", err)
		}
		mustVerify(t, signed)
		used = append(used, xades.Verify(signed.Document, xades.VerifyOptions{}).Certificate)
	}
	a := sharedBy(t)
	for i, want := range []int{0, 0, 1, 1} {
		if !used[i].Equal(a.certificates[want]) {
			t.Errorf("signature %d is under another certificate than number %d", i, want)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fetched != 2 {
		t.Errorf("got the certificate fetched %d times, want 2", s.fetched)
	}
	if want := slices.Repeat([]string{"same"}, 5); !cmp.Equal(s.requests, want) {
		t.Errorf("got request IDs %q, want %q", s.requests, want)
	}
}

func TestSignersThatNeverAgreeAreGivenUp(t *testing.T) {
	s := startStation(t, &station{})
	s.before = func(ctx context.Context, _ int) error {
		return refusal(codes.FailedPrecondition, "CERTIFICATE_ROTATED", 0)
	}
	c := dialled(t, configFor(t, s.address))
	_, err := c.SignXML(t.Context(), "", document(t, "invoice-1.1.xml"), Options{})
	wantError(t, err, codes.FailedPrecondition, "CERTIFICATE_ROTATED", "try again once the rotation is over")
	if calls, _ := s.counts(); calls != 1+rebuilds {
		t.Errorf("got %d calls, want %d", calls, 1+rebuilds)
	}
}

func TestTheSigningTimeIsTheConfigurationsClocks(t *testing.T) {
	cfg := configFor(t, startStation(t, &station{}).address)
	at := time.Now().Add(-10 * time.Minute).Truncate(time.Second)
	cfg.Now = func() time.Time { return at.In(time.FixedZone("MYT", 8*3600)) }
	signed, err := dialled(t, cfg).SignXML(t.Context(), "", document(t, "invoice-1.1.xml"), Options{})
	if err != nil {
		t.Fatalf("signing: %v", err)
	}
	if got := xades.Verify(signed.Document, xades.VerifyOptions{}).SigningTime; !got.Equal(at) {
		t.Errorf("got SigningTime %v, want %v", got, at.UTC())
	}
}

func TestTaxpayersAreThoseThatThePolicyGrantsNow(t *testing.T) {
	c := dialled(t, configFor(t, startSigner(t)))
	list, err := c.Taxpayers(t.Context())
	if err != nil {
		t.Fatalf("Taxpayers: %v", err)
	}
	methods := []string{"SignDigest", "SignDigests", "SignDocument"}
	want := []Taxpayer{
		{TIN: seller, BRN: "201901045678", Name: "Pustaka Bukit Pelangi Sdn. Bhd.", Methods: methods, Rights: []string{"submit"}},
		{TIN: "C31450097020", Methods: methods, Rights: []string{"submit"}},
	}
	if diff := cmp.Diff(want, list); diff != "" {
		t.Errorf("taxpayers (-want +got):\n%s", diff)
	}
}

func TestTheCertificateComesWithItsIssuers(t *testing.T) {
	c := dialled(t, configFor(t, startSigner(t)))
	chain, err := c.Certificate(t.Context())
	if err != nil {
		t.Fatalf("Certificate: %v", err)
	}
	a := sharedBy(t)
	if len(chain) != 2 || !chain[0].Equal(a.certificates[0]) || !chain[1].Equal(a.signing.Certificate()) {
		t.Errorf("got a chain of %d that is not the signer's", len(chain))
	}
}
