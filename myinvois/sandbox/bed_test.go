package sandbox

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/roamsign/roamsign/ca"
	"github.com/roamsign/roamsign/xades"
)

// The people of the tests. The agent is the issuer's intermediary.
const (
	issuerTIN, issuerBRN = "C20880050010", "201901054321"
	agentTIN, agentBRN   = "C20880050090", "202001234590"
	buyerTIN, buyerBRN   = "C31415926530", "202101098765"
)

// start is when every test begins.
var start = time.Date(2026, 11, 20, 4, 0, 0, 0, time.UTC)

// signers are what documents are signed with: made once, since keys take long.
var signers = sync.OnceValue(func() (s struct {
	authority     *ca.Authority
	key           *rsa.PrivateKey
	agent, issuer *x509.Certificate
	stranger      *x509.Certificate // of no authority that anybody trusts
	roots         *x509.CertPool
}) {
	validity := ca.Validity{NotBefore: start.Add(-30 * 24 * time.Hour), NotAfter: start.Add(365 * 24 * time.Hour)}
	certificate := func(a *ca.Authority, tin, brn string) *x509.Certificate {
		c, err := a.Signing(ca.Organization{Country: "MY", Name: "Ujian", TIN: tin, CommonName: "Ujian", BRN: brn}, &s.key.PublicKey, validity)
		if err != nil {
			panic(err)
		}
		return c
	}
	var err error
	if s.key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		panic(err)
	}
	if s.authority, err = ca.New("Test Signing", ca.RSA, validity); err != nil {
		panic(err)
	}
	s.agent, s.issuer = certificate(s.authority, agentTIN, agentBRN), certificate(s.authority, issuerTIN, issuerBRN)
	self, err := x509.CreateCertificate(rand.Reader, s.agent, s.agent, &s.key.PublicKey, s.key)
	if err == nil {
		s.stranger, err = x509.ParseCertificate(self)
	}
	if err != nil {
		panic(err)
	}
	s.roots = x509.NewCertPool()
	s.roots.AddCert(s.authority.Certificate())
	return s
})

// bed is a platform with a clock that the test moves.
type bed struct {
	*Platform
	t   *testing.T
	mu  sync.Mutex
	at  time.Time
	ids []string // what the contract's placeholders stand for
}

func (b *bed) pass(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.at = b.at.Add(d)
}

// world is the tests' world; change may change it.
func world(change func(*Config)) Config {
	config := Config{
		Clients: []Client{
			{ID: "agent-erp", Secrets: []string{"agent-secret-1", "agent-secret-2"}, TIN: agentTIN},
			{ID: "issuer-erp", Secrets: []string{"issuer-secret"}, TIN: issuerTIN},
			{ID: "buyer-erp", Secrets: []string{"buyer-secret"}, TIN: buyerTIN},
			{ID: "blocked-erp", Secrets: []string{"blocked-secret"}, TIN: buyerTIN, Blocked: true},
		},
		Taxpayers: []Taxpayer{
			{TIN: issuerTIN, BRN: issuerBRN, Name: "Kopi Kampung Baru Sdn. Bhd.", Represented: []Representation{{
				By: agentTIN, From: start.Add(-30 * 24 * time.Hour), To: start.Add(30 * 24 * time.Hour), Rights: Rights(),
			}}},
			{TIN: agentTIN, BRN: agentBRN, Name: "Contoh Perantara Sdn. Bhd."},
			{TIN: buyerTIN, BRN: buyerBRN, Name: "Pembeli Sdn. Bhd."},
			{TIN: "IG12345678912", BRN: "201901234567", Name: "Tukang Jahit", Represented: []Representation{{
				By: agentTIN, From: start.Add(-time.Hour), To: start.Add(time.Hour), Rights: []Right{MaySubmit},
			}}},
		},
		Roots: signers().roots,
	}
	if change != nil {
		change(&config)
	}
	return config
}

func lay(t *testing.T, change func(*Config)) *bed {
	t.Helper()
	b := &bed{t: t, at: start}
	config := world(change)
	config.Now = func() time.Time {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.at
	}
	p, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	b.Platform = p
	return b
}

// answer is a response, and what the placeholders of its text stand for.
type answer struct {
	*httptest.ResponseRecorder
	t *testing.T
}

// do sends a request; headers are name, value, name, value.
func (b *bed) do(method, path, body string, headers ...string) answer {
	b.t.Helper()
	r := httptest.NewRequestWithContext(b.t.Context(), method, path, strings.NewReader(body))
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	b.ServeHTTP(w, r)
	if w.Header().Get("X-Roamsign-Sandbox") != "This is not LHDN. Nothing submitted here is an e-invoice." || len(w.Header().Get("correlationId")) != 26 {
		b.t.Errorf("%s %s: got the headers %v, want the notice and a correlation ID", method, path, w.Header())
	}
	return answer{w, b.t}
}

// login sends a login; behalf may be empty.
func (b *bed) login(id, secret, behalf string, more ...string) answer {
	b.t.Helper()
	form := url.Values{"client_id": {id}, "client_secret": {secret}, "grant_type": {"client_credentials"}, "scope": {"InvoicingAPI"}}
	for i := 0; i+1 < len(more); i += 2 {
		form.Set(more[i], more[i+1])
	}
	headers := []string{"Content-Type", "application/x-www-form-urlencoded"}
	if behalf != "" {
		headers = append(headers, "onbehalfof", behalf)
	}
	return b.do("POST", "/connect/token", form.Encode(), headers...)
}

// token logs in.
func (b *bed) token(id, secret, behalf string) string {
	b.t.Helper()
	a := b.login(id, secret, behalf)
	var got struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal(a.Body.Bytes(), &got); err != nil || got.Token == "" {
		b.t.Fatalf("logging in: got %d %s", a.Code, a.Body)
	}
	return got.Token
}

func (b *bed) agent() string  { return b.token("agent-erp", "agent-secret-2", issuerTIN) }
func (b *bed) issuer() string { return b.token("issuer-erp", "issuer-secret", "") }
func (b *bed) buyer() string  { return b.token("buyer-erp", "buyer-secret", "") }

// call sends a request with a token.
func (b *bed) call(token, method, path, body string) answer {
	b.t.Helper()
	return b.do(method, path, body, "Authorization", "Bearer "+token, "Content-Type", "application/json")
}

// submitAll submits documents in one submission.
func (b *bed) submitAll(token string, papers ...paper) answer {
	b.t.Helper()
	return b.call(token, "POST", "/api/v1.0/documentsubmissions/", payload64(papers...))
}

// accepted submits documents, all of which must be accepted, and returns the
// submission's UID and their UUIDs.
func (b *bed) accepted(token string, papers ...paper) (uid string, uuids []string) {
	b.t.Helper()
	a := b.submitAll(token, papers...)
	var got struct {
		SubmissionUID     string
		AcceptedDocuments []struct{ UUID string }
	}
	if err := json.Unmarshal(a.Body.Bytes(), &got); err != nil || a.Code != http.StatusAccepted || len(got.AcceptedDocuments) != len(papers) {
		b.t.Fatalf("submitting: got %d %s", a.Code, a.Body)
	}
	for _, d := range got.AcceptedDocuments {
		uuids = append(uuids, d.UUID)
	}
	b.ids = append(b.ids, got.SubmissionUID, "SUBMISSION")
	for i, uuid := range uuids {
		b.ids = append(b.ids, uuid, fmt.Sprintf("UUID%d", i+1))
	}
	return got.SubmissionUID, uuids
}

// steps returns the status of each step of a document's validation, and the codes
// of what is wrong, once it is validated.
func (b *bed) steps(token, uuid string) map[string]string {
	b.t.Helper()
	b.pass(DefaultValidation)
	a := b.call(token, "GET", "/api/v1.0/documents/"+uuid+"/details", "")
	var got struct {
		ValidationResults struct {
			ValidationSteps []struct {
				Name, Status string
				Error        *struct {
					ErrorCode  string
					InnerError []struct{ ErrorCode string }
				}
			}
		}
	}
	if err := json.Unmarshal(a.Body.Bytes(), &got); err != nil || a.Code != http.StatusOK {
		b.t.Fatalf("asking for details: got %d %s", a.Code, a.Body)
	}
	steps := map[string]string{}
	for _, s := range got.ValidationResults.ValidationSteps {
		steps[s.Name] = s.Status
		if s.Error != nil {
			steps[s.Name] = s.Error.ErrorCode
			for _, inner := range s.Error.InnerError {
				steps[s.Name] += " " + inner.ErrorCode
			}
		}
	}
	return steps
}

// is compares a response with what is published: its status and its JSON, in which
// long IDs that nobody can know are LONGID.
func (a answer) is(status int, want string, ids ...string) {
	a.t.Helper()
	if a.Code != status {
		a.t.Errorf("got status %d, want %d: %s", a.Code, status, a.Body)
	}
	text := strings.NewReplacer(ids...).Replace(a.Body.String())
	if want == "" || text == "" {
		if want != text {
			a.t.Errorf("got the body %q, want %q", text, want)
		}
		return
	}
	if diff := cmp.Diff(decoded(a.t, want), blurred(decoded(a.t, text))); diff != "" {
		a.t.Errorf("the body (-published +got):\n%s", diff)
	}
}

func decoded(t *testing.T, text string) any {
	t.Helper()
	var v any
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

// blurred replaces what is random.
func blurred(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			if s, ok := value.(string); ok && key == "longId" && len(s) == 52 {
				v[key] = "LONGID"
			} else if key == "access_token" && ok && strings.Count(s, ".") == 2 {
				v[key] = "JWT"
			} else {
				v[key] = blurred(value)
			}
		}
	case []any:
		for i := range v {
			v[i] = blurred(v[i])
		}
	}
	return v
}

// paper is a document to submit.
type paper struct {
	format, number string
	content        []byte
}

// payload64 is the body of a submission.
func payload64(papers ...paper) string {
	var items []string
	for _, p := range papers {
		digest := sha256.Sum256(p.content)
		items = append(items, fmt.Sprintf(`{"format":%q,"document":%q,"documentHash":%q,"codeNumber":%q}`,
			p.format, base64.StdEncoding.EncodeToString(p.content), hex.EncodeToString(digest[:]), p.number))
	}
	return `{"documents":[` + strings.Join(items, ",") + `]}`
}

// draft says what is special about a document. The zero draft is a good invoice.
type draft struct {
	number, typeCode, version string
	issued                    time.Time
	supplierTIN, supplierBRN  string
	buyerTIN, buyerBRN        string
	state, currency, extra    string
	reference                 string // the UUID of another document
	signer                    *x509.Certificate
	after                     func(signed []byte) []byte
}

// paper makes the document, signed, in a format.
func (d draft) paper(t *testing.T, format string) paper {
	t.Helper()
	or := func(given, usual string) string {
		if given == "" {
			return usual
		}
		return given
	}
	if d.issued.IsZero() {
		d.issued = start.Add(-time.Hour)
	}
	billing := ""
	if d.reference != "" {
		billing = fmt.Sprintf(map[string]string{
			"XML":  `<cac:BillingReference><cac:InvoiceDocumentReference><cbc:ID>X</cbc:ID><cbc:UUID>%s</cbc:UUID></cac:InvoiceDocumentReference></cac:BillingReference>`,
			"JSON": `"BillingReference":[{"InvoiceDocumentReference":[{"ID":[{"_":"X"}],"UUID":[{"_":"%s"}]}]}],`,
		}[format], d.reference)
	}
	p := paper{format: format, number: or(d.number, "INV-1")}
	template := map[string]string{"XML": xmlTemplate, "JSON": jsonTemplate}[format]
	p.content = []byte(strings.NewReplacer(
		"$NUMBER", p.number, "$DATE", d.issued.Format("2006-01-02"), "$TIME", d.issued.Format("15:04:05Z"),
		"$TYPE", or(d.typeCode, "01"), "$VERSION", or(d.version, "1.1"), "$CURRENCY", or(d.currency, "MYR"), "$STATE", or(d.state, "14"),
		"$STIN", or(d.supplierTIN, issuerTIN), "$SBRN", or(d.supplierBRN, issuerBRN), "$BTIN", or(d.buyerTIN, buyerTIN), "$BBRN", or(d.buyerBRN, buyerBRN),
		"$BILLING", billing, "$EXTRA", d.extra,
	).Replace(template))
	if v := or(d.version, "1.1"); v == "1.1" || v == "1.3" {
		certificate := d.signer
		if certificate == nil {
			certificate = signers().agent
		}
		p.content = signed(t, p.content, certificate, d.issued)
	}
	if d.after != nil {
		p.content = d.after(p.content)
	}
	return p
}

func signed(t *testing.T, document []byte, certificate *x509.Certificate, at time.Time) []byte {
	t.Helper()
	prepared, err := xades.Prepare(document, certificate, at, xades.Options{})
	if err != nil {
		t.Fatalf("preparing %s: %v", document, err)
	}
	digest := prepared.DocDigest()
	value, err := rsa.SignPKCS1v15(nil, signers().key, crypto.SHA256, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	out, err := prepared.Complete(value)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// swap changes a text in a signed document.
func swap(from, to string) func([]byte) []byte {
	return func(b []byte) []byte { return bytes.Replace(b, []byte(from), []byte(to), 1) }
}

const xmlTemplate = `<Invoice xmlns="urn:oasis:names:specification:ubl:schema:xsd:Invoice-2" xmlns:cac="urn:oasis:names:specification:ubl:schema:xsd:CommonAggregateComponents-2" xmlns:cbc="urn:oasis:names:specification:ubl:schema:xsd:CommonBasicComponents-2">` +
	`<cbc:ID>$NUMBER</cbc:ID><cbc:IssueDate>$DATE</cbc:IssueDate><cbc:IssueTime>$TIME</cbc:IssueTime><cbc:InvoiceTypeCode listVersionID="$VERSION">$TYPE</cbc:InvoiceTypeCode><cbc:DocumentCurrencyCode>$CURRENCY</cbc:DocumentCurrencyCode>$BILLING` +
	`<cac:AccountingSupplierParty><cac:Party><cac:PartyIdentification><cbc:ID schemeID="TIN">$STIN</cbc:ID></cac:PartyIdentification><cac:PartyIdentification><cbc:ID schemeID="BRN">$SBRN</cbc:ID></cac:PartyIdentification>` +
	`<cac:PostalAddress><cbc:CountrySubentityCode>$STATE</cbc:CountrySubentityCode><cac:Country><cbc:IdentificationCode>MYS</cbc:IdentificationCode></cac:Country></cac:PostalAddress><cac:PartyLegalEntity><cbc:RegistrationName>Kopi Kampung Baru Sdn. Bhd.</cbc:RegistrationName></cac:PartyLegalEntity></cac:Party></cac:AccountingSupplierParty>` +
	`<cac:AccountingCustomerParty><cac:Party><cac:PartyIdentification><cbc:ID schemeID="TIN">$BTIN</cbc:ID></cac:PartyIdentification><cac:PartyIdentification><cbc:ID schemeID="BRN">$BBRN</cbc:ID></cac:PartyIdentification><cac:PartyLegalEntity><cbc:RegistrationName>Pembeli Sdn. Bhd.</cbc:RegistrationName></cac:PartyLegalEntity></cac:Party></cac:AccountingCustomerParty>$EXTRA` +
	`<cac:LegalMonetaryTotal><cbc:LineExtensionAmount currencyID="MYR">100.7</cbc:LineExtensionAmount><cbc:TaxExclusiveAmount currencyID="MYR">10.1</cbc:TaxExclusiveAmount><cbc:AllowanceTotalAmount currencyID="MYR">50</cbc:AllowanceTotalAmount><cbc:PayableAmount currencyID="MYR">124.09</cbc:PayableAmount></cac:LegalMonetaryTotal></Invoice>`

const jsonTemplate = `{"_D":"urn:oasis:names:specification:ubl:schema:xsd:Invoice-2","_A":"urn:oasis:names:specification:ubl:schema:xsd:CommonAggregateComponents-2","_B":"urn:oasis:names:specification:ubl:schema:xsd:CommonBasicComponents-2","Invoice":[{` +
	`"ID":[{"_":"$NUMBER"}],"IssueDate":[{"_":"$DATE"}],"IssueTime":[{"_":"$TIME"}],"InvoiceTypeCode":[{"_":"$TYPE","listVersionID":"$VERSION"}],"DocumentCurrencyCode":[{"_":"$CURRENCY"}],$BILLING` +
	`"AccountingSupplierParty":[{"Party":[{"PartyIdentification":[{"ID":[{"_":"$STIN","schemeID":"TIN"}]},{"ID":[{"_":"$SBRN","schemeID":"BRN"}]}],"PostalAddress":[{"CountrySubentityCode":[{"_":"$STATE"}],"Country":[{"IdentificationCode":[{"_":"MYS"}]}]}],"PartyLegalEntity":[{"RegistrationName":[{"_":"Kopi Kampung Baru Sdn. Bhd."}]}]}]}],` +
	`"AccountingCustomerParty":[{"Party":[{"PartyIdentification":[{"ID":[{"_":"$BTIN","schemeID":"TIN"}]},{"ID":[{"_":"$BBRN","schemeID":"BRN"}]}],"PartyLegalEntity":[{"RegistrationName":[{"_":"Pembeli Sdn. Bhd."}]}]}]}],` +
	`$EXTRA"LegalMonetaryTotal":[{"LineExtensionAmount":[{"_":100.7,"currencyID":"MYR"}],"TaxExclusiveAmount":[{"_":10.1,"currencyID":"MYR"}],"AllowanceTotalAmount":[{"_":50.0,"currencyID":"MYR"}],"PayableAmount":[{"_":124.09,"currencyID":"MYR"}]}]}]}`
