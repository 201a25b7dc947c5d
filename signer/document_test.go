package signer

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/roamsign/roamsign/policy"
	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
	"github.com/roamsign/roamsign/xades"
)

// invoice reads a document written for this project.
func invoice(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "xades", "testdata", filepath.FromSlash(name)))
	must(t, err)
	return text
}

func TestDocumentsAreSignedWhole(t *testing.T) {
	r := start(t, setting{})
	client := r.as(erp)
	for _, row := range []struct {
		name, file, version string
	}{
		{"an XML invoice", "xml/invoice-1.1.xml", ""},
		{"a JSON invoice", "json/invoice-1.1.json", ""},
		{"a version to be set", "xml/invoice-1.0.xml", "1.1"},
		{"a self-billed XML invoice", "xml/self-billed-1.1.xml", ""},
		{"a self-billed JSON invoice", "json/self-billed-1.1.json", ""},
	} {
		out, err := client.SignDocument(t.Context(), &roamsignv1.SignDocumentRequest{
			Tin: ownTIN, RequestId: "request-1", Document: invoice(t, row.file), SetVersion: row.version,
		})
		if err != nil {
			t.Errorf("%s: %v", row.name, err)
			continue
		}
		report := xades.Verify(out.GetDocument(), xades.VerifyOptions{})
		if !report.Valid() || !bytes.Equal(report.Digest[:], out.GetDocumentDigest()) {
			t.Errorf("%s: got %+v, want a valid document of that digest", row.name, report.Findings)
		}
		if !report.Certificate.Equal(r.material.leaf) {
			t.Errorf("%s: signed under %v", row.name, report.Certificate.Subject)
		}
	}
}

func TestASignedDocumentIsSignedAgainOnlyWhenAsked(t *testing.T) {
	r := start(t, setting{})
	client := r.as(erp)
	first, err := client.SignDocument(t.Context(), &roamsignv1.SignDocumentRequest{
		Tin: ownTIN, RequestId: "request-1", Document: invoice(t, "json/invoice-1.1.json"),
	})
	must(t, err)
	again := &roamsignv1.SignDocumentRequest{Tin: ownTIN, RequestId: "request-2", Document: first.GetDocument()}
	_, err = client.SignDocument(t.Context(), again)
	checkRefused(t, "signed already", err, codes.InvalidArgument, "DOCUMENT_INVALID")
	again.ReplaceSignature = true
	second, err := client.SignDocument(t.Context(), again)
	if err != nil || !bytes.Equal(second.GetDocumentDigest(), first.GetDocumentDigest()) {
		t.Errorf("replaced: got %v, want the same digest", err)
	}
}

func TestWarningsReachTheCaller(t *testing.T) {
	r := start(t, setting{})
	document := bytes.Replace(invoice(t, "json/self-billed-1.1.json"), []byte(`"_":384.0`), []byte(`"_":384.00`), 1)
	out, err := r.as(erp).SignDocument(t.Context(), &roamsignv1.SignDocumentRequest{
		Tin: ownTIN, RequestId: "request-1", Document: document, KeepLiterals: true,
	})
	if err != nil || len(out.GetWarnings()) == 0 || !bytes.Contains(out.GetDocument(), []byte("384.00")) {
		t.Errorf("got %v and warnings %q, want the literal kept and warned of", err, out.GetWarnings())
	}
}

func TestDocumentsThatCannotBeSignedSayWhy(t *testing.T) {
	r := start(t, setting{})
	client := r.as(erp)
	for _, row := range []struct {
		name     string
		document []byte
		want     string
	}{
		{"empty", nil, "malformed"},
		{"no document", []byte("%PDF-1.7"), "malformed"},
		{"cut off", invoice(t, "xml/invoice-1.1.xml")[:2000], "malformed"},
		{"an unsigned version", invoice(t, "xml/invoice-1.0.xml"), "version 1.0"},
		{"a DOCTYPE", []byte(`<!DOCTYPE Invoice><Invoice/>`), "malformed"},
		{"over the limit", bytes.Repeat([]byte(" "), xades.MaxInput+1), "too large"},
	} {
		_, err := client.SignDocument(t.Context(), &roamsignv1.SignDocumentRequest{Tin: ownTIN, RequestId: "request-1", Document: row.document})
		checkRefused(t, row.name, err, codes.InvalidArgument, "DOCUMENT_INVALID")
		if got := toldBy(t, err); !strings.Contains(got.Message, row.want) {
			t.Errorf("%s: got %q, want %q in it", row.name, got.Message, row.want)
		}
	}
	_, err := client.SignDocument(t.Context(), &roamsignv1.SignDocumentRequest{
		Tin: ownTIN, RequestId: "request-1", Document: invoice(t, "xml/invoice-1.1.xml"), SetVersion: "1.2",
	})
	checkRefused(t, "a version that is none", err, codes.InvalidArgument, "INVALID_REQUEST")
	_, err = client.SignDocument(t.Context(), &roamsignv1.SignDocumentRequest{Document: make([]byte, maxRequest+1)})
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("over the message limit: got %v, want RESOURCE_EXHAUSTED from gRPC", err)
	}
	if n := r.key.used(); n != 0 {
		t.Errorf("the key was used %d times, want never", n)
	}
}

func TestADocumentOfAnotherTaxpayerIsRefusedWithBoth(t *testing.T) {
	r := start(t, setting{})
	_, err := r.as(portal).SignDocument(t.Context(), &roamsignv1.SignDocumentRequest{
		Tin: foreignTIN, RequestId: "request-1", Document: invoice(t, "xml/invoice-1.1.xml"),
	})
	checkRefused(t, "another's document", err, codes.FailedPrecondition, "TAXPAYER_MISMATCH")
	want := map[string]string{"request_id": "request-1", "tin": foreignTIN, "document_tin": ownTIN}
	if diff := cmp.Diff(want, toldBy(t, err).Metadata); diff != "" {
		t.Errorf("metadata (-want +got):\n%s", diff)
	}
	// Who may not sign for the taxpayer it names does not learn what we read.
	_, err = r.as(erp).SignDocument(t.Context(), &roamsignv1.SignDocumentRequest{
		Tin: foreignTIN, RequestId: "request-1", Document: invoice(t, "xml/invoice-1.1.xml"),
	})
	checkRefused(t, "a foreign taxpayer", err, codes.PermissionDenied, "NOT_ALLOWED")
	if n := r.key.used(); n != 0 {
		t.Errorf("the key was used %d times, want never", n)
	}
}

func TestTaxpayersAndDocumentsThatBelongTogether(t *testing.T) {
	long := strings.Repeat("x", 10_000)
	for _, row := range []struct {
		name     string
		tin      policy.TIN
		facts    xades.Facts
		mismatch map[string]string // nil: they belong together
	}{
		{"a company", ownTIN, xades.Facts{TIN: ownTIN, BRN: "201901054321"}, nil},
		{"a company without a number", ownTIN, xades.Facts{TIN: ownTIN}, nil},
		{"a sole proprietor's business", soleTIN, xades.Facts{TIN: "IG40125678090", BRN: "202003123456"}, nil},
		{"a business written in full", soleTIN, xades.Facts{TIN: soleTIN}, nil},
		{"another business of the same owner", soleTIN, xades.Facts{TIN: "IG40125678090", BRN: "202003999999"},
			map[string]string{"tin": soleTIN, "document_tin": "IG40125678090", "document_brn": "202003999999"}},
		{"an owner without the business", soleTIN, xades.Facts{TIN: "IG40125678090"},
			map[string]string{"tin": soleTIN, "document_tin": "IG40125678090", "document_brn": ""}},
		{"the owner himself, in a document of his business", "IG40125678090", xades.Facts{TIN: "IG40125678090", BRN: "202003123456"}, nil},
		{"no TIN", ownTIN, xades.Facts{}, map[string]string{"tin": ownTIN, "document_tin": ""}},
		{"the samples' words", ownTIN, xades.Facts{TIN: "Supplier's TIN"}, map[string]string{"tin": ownTIN, "document_tin": "Supplier's TIN"}},
		{"endless words", ownTIN, xades.Facts{TIN: long}, map[string]string{"tin": ownTIN, "document_tin": long[:maxMetadata] + "..."}},
	} {
		err := checkTaxpayer(row.tin, row.facts)
		if row.mismatch == nil {
			if err != nil {
				t.Errorf("%s: got %v, want none", row.name, err)
			}
			continue
		}
		if diff := cmp.Diff(row.mismatch, refuse(err, "").metadata); diff != "" {
			t.Errorf("%s (-want +got):\n%s", row.name, diff)
		}
	}
}
