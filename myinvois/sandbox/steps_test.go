package sandbox

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// good is what every step says of a document without a fault.
func good() map[string]string {
	all := map[string]string{}
	for _, name := range []string{
		"Step03-Duplicated Submission Validator", "Step04-Code Field Validator", "Step05-Taxpayer Profile Validator",
		"Step06-Document References Validator", "Step07-Document Currency Validator", "Step08-Document Signature Validator",
	} {
		all[name] = "Valid"
	}
	return all
}

func TestTheStepsAreNamedInTheirOrder(t *testing.T) {
	if diff := cmp.Diff(slices.Sorted(maps.Keys(good())), Steps()); diff != "" {
		t.Errorf("the steps (-want +got):\n%s", diff)
	}
}

// stepCase is a document, and what one step must say of it.
type stepCase struct {
	name  string
	draft draft
	step  string // the beginning of its name; "" for none
	want  string // its code and those within
}

func TestEachStepFindsWhatItIsFor(t *testing.T) {
	const rate = `<cac:TaxExchangeRate><cbc:CalculationRate>4.5</cbc:CalculationRate></cac:TaxExchangeRate>`
	keys := signers()
	for _, row := range []stepCase{
		{"nothing", draft{}, "", ""},
		{"nothing, of version 1.3", draft{version: "1.3"}, "", ""},
		{"nothing, signed by the issuer itself", draft{signer: keys.issuer}, "", ""},
		{"nothing, in a foreign currency", draft{currency: "USD", extra: rate}, "", ""},
		{"nothing, of a buyer nobody knows", draft{buyerTIN: "C11111111110", buyerBRN: "199901000001"}, "", ""},
		{"nothing, with a reference to elsewhere", draft{typeCode: "02", reference: "F9D425P6DS7D8IU1ZZZZZZZZZZ"}, "", ""},
		{"nothing, with no reference", draft{typeCode: "02", reference: "NA"}, "", ""},
		{"a currency that is none", draft{currency: "ringgit", extra: rate}, "Step04", "Error04 CV302"},
		{"a state that is none", draft{state: "18"}, "Step04", "Error04 CV302"},
		{"the state that was valid once", draft{state: "00"}, "Step04", "Error04 CV302"},
		{"a buyer's wrong BRN", draft{buyerBRN: "202101098766"}, "Step05", "Error05 ERR406"},
		{"a currency without a rate", draft{currency: "USD"}, "Step07", "Error07 Error07"},
		{"an amount that was changed", draft{after: swap(">124.09<", ">124.10<")}, "Step08", "Error21 DS322"},
		{"a signing time that was changed", draft{after: swap("SigningTime>2026-11-20T03:00:00Z", "SigningTime>2026-11-20T03:00:01Z")}, "Step08", "Error21 DS320"},
		{"a signature value that is none", draft{after: func(b []byte) []byte { return swapValue(b, "ds:SignatureValue", "AAAA") }}, "Step08", "Error21 DS333"},
		{"no signature", draft{after: unsigned}, "Step08", "Error21 DS301"},
		{"an authority that nobody trusts", draft{signer: keys.stranger}, "Step08", "Error21 DS329"},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := lay(t, nil)
			token := b.agent()
			_, uuids := b.accepted(token, row.draft.paper(t, "XML"))
			holdSteps(t, b, token, uuids[0], row)
		})
	}
}

// holdSteps compares all steps of a document with what one of them must say.
func holdSteps(t *testing.T, b *bed, token, uuid string, row stepCase) {
	t.Helper()
	want := good()
	for name := range want {
		if row.step != "" && strings.HasPrefix(name, row.step) {
			want[name] = row.want
		}
	}
	if diff := cmp.Diff(want, b.steps(token, uuid)); diff != "" {
		t.Errorf("the steps (-want +got):\n%s", diff)
	}
	state, raw := "Valid", http.StatusOK
	if row.step != "" {
		state, raw = "Invalid", http.StatusNotFound
	}
	if got := b.Documents()[len(b.Documents())-1].Status; got != state {
		t.Errorf("got the document %s, want %s", got, state)
	}
	if a := b.call(token, "GET", "/api/v1.0/documents/"+uuid+"/raw", ""); a.Code != raw {
		t.Errorf("the raw document: got %d, want %d", a.Code, raw)
	}
}

// swapValue changes the text of an element.
func swapValue(b []byte, name, to string) []byte {
	before, rest, _ := strings.Cut(string(b), "<"+name+">")
	_, after, _ := strings.Cut(rest, "</"+name+">")
	return []byte(before + "<" + name + ">" + to + "</" + name + ">" + after)
}

// unsigned takes the signature blocks out.
func unsigned(b []byte) []byte {
	text := string(b)
	for _, block := range [][2]string{{"<UBLExtensions", "</UBLExtensions>"}, {"<cac:Signature>", "</cac:Signature>"}} {
		before, rest, _ := strings.Cut(text, block[0])
		_, after, _ := strings.Cut(rest, block[1])
		text = before + after
	}
	return []byte(text)
}

func TestTheSignerIsTheIssuerOrWhoSubmits(t *testing.T) {
	keys := signers()
	for _, row := range []struct {
		name   string
		change func(*Config)
		token  func(*bed) string
		draft  draft
		want   string
	}{
		{"an intermediary, with its own certificate", nil, (*bed).agent, draft{}, "Valid"},
		{"an intermediary, with the issuer's", nil, (*bed).agent, draft{signer: keys.issuer}, "Valid"},
		{"the issuer, with its own", nil, (*bed).issuer, draft{signer: keys.issuer}, "Valid"},
		{"the issuer, with the intermediary's", nil, (*bed).issuer, draft{}, "Error21 DS311 DS312"},
		{"an intermediary of another BRN", func(c *Config) { c.Taxpayers[1].BRN = "200001000001" }, (*bed).agent, draft{}, "Error21 DS312"},
		{"an intermediary that did not represent yet", func(c *Config) { c.Taxpayers[0].Represented[0].From = start.Add(-30 * time.Minute) },
			(*bed).agent, draft{}, "Error21 DS311"},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := lay(t, row.change)
			token := row.token(b)
			_, uuids := b.accepted(token, row.draft.paper(t, "JSON"))
			if got := b.steps(token, uuids[0])["Step08-Document Signature Validator"]; got != row.want {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
}

func TestUnsignedVersionsHaveNoStepForASignature(t *testing.T) {
	b := lay(t, nil)
	token := b.agent()
	_, uuids := b.accepted(token, draft{version: "1.0"}.paper(t, "JSON"))
	want := good()
	delete(want, "Step08-Document Signature Validator")
	if diff := cmp.Diff(want, b.steps(token, uuids[0])); diff != "" {
		t.Errorf("the steps (-want +got):\n%s", diff)
	}
}

func TestStrictnessWantsToKnowEverybody(t *testing.T) {
	strict := func(c *Config) { c.Strict = true }
	for _, row := range []stepCase{
		{"nothing", draft{}, "", ""},
		{"nothing, of the general public", draft{buyerTIN: "EI00000000010", buyerBRN: "NA"}, "", ""},
		{"a buyer nobody knows", draft{buyerTIN: "C11111111110", buyerBRN: "199901000001"}, "Step05", "Error05 ERR406"},
		{"a reference to elsewhere", draft{typeCode: "02", reference: "F9D425P6DS7D8IU1ZZZZZZZZZZ"}, "Step06", "Error06 Error06"},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := lay(t, strict)
			token := b.agent()
			_, uuids := b.accepted(token, row.draft.paper(t, "XML"))
			holdSteps(t, b, token, uuids[0], row)
		})
	}
}

func TestNotesReferToWhatIsValid(t *testing.T) {
	b := lay(t, nil)
	token := b.agent()
	_, invoices := b.accepted(token, draft{}.paper(t, "XML"))
	early := draft{number: "CN-1", typeCode: "02", reference: invoices[0]}.paper(t, "XML")
	_, notes := b.accepted(token, early)
	if got := b.steps(token, notes[0])["Step06-Document References Validator"]; got != "Error06 Error06" {
		t.Errorf("of a note to what was not validated yet: got %q, want an error", got)
	}
	_, notes = b.accepted(token, draft{number: "CN-2", typeCode: "02", reference: invoices[0]}.paper(t, "XML"))
	if got := b.steps(token, notes[0])["Step06-Document References Validator"]; got != "Valid" {
		t.Errorf("of a note to what is valid: got %q", got)
	}
	cancel := func(uuid string) answer {
		return b.call(token, "PUT", "/api/v1.0/documents/state/"+uuid+"/state", `{"status":"cancelled","reason":"x"}`)
	}
	if a := cancel(invoices[0]); a.Code != 400 || !strings.Contains(a.Body.String(), `"ActiveReferencingDocuments"`) {
		t.Errorf("cancelling what a note refers to: got %d %s", a.Code, a.Body)
	}
	for _, uuid := range []string{notes[0], invoices[0]} {
		if a := cancel(uuid); a.Code != 200 {
			t.Errorf("cancelling the note, then the invoice: got %d %s", a.Code, a.Body)
		}
	}
}

func TestASubmissionIsAsGoodAsItsDocuments(t *testing.T) {
	bad := draft{number: "BAD", state: "18"}
	for _, row := range []struct {
		name   string
		drafts []draft
		want   string
	}{
		{"all good", []draft{{number: "A"}, {number: "B"}}, "valid"},
		{"some good", []draft{{number: "A"}, bad}, "partially valid"},
		{"none good", []draft{bad}, "invalid"},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := lay(t, nil)
			token := b.agent()
			var papers []paper
			for _, d := range row.drafts {
				papers = append(papers, d.paper(t, "XML"))
			}
			uid, _ := b.accepted(token, papers...)
			overall := func() string {
				var got struct{ OverallStatus string }
				if err := json.Unmarshal(b.call(token, "GET", "/api/v1.0/documentsubmissions/"+uid, "").Body.Bytes(), &got); err != nil {
					t.Fatal(err)
				}
				return got.OverallStatus
			}
			if got := overall(); got != "in progress" {
				t.Errorf("at first: got %q", got)
			}
			b.pass(2 * time.Second)
			if got := overall(); got != row.want {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
}

func TestWhatIsWrongAtTheDoorIsRejected(t *testing.T) {
	change := func(p paper, f func(*paper)) paper { f(&p); return p }
	of := func(t *testing.T) paper { return draft{}.paper(t, "XML") }
	for _, row := range []struct {
		name string
		body func(*testing.T) string
		want string // the codes of the details
	}{
		{"a hash of other bytes", func(t *testing.T) string {
			return strings.Replace(payload64(of(t)), `"documentHash":"`, `"documentHash":"00`, 1)
		}, "BadArgument documentHash"},
		{"a hash in capitals", func(t *testing.T) string {
			before, after, _ := strings.Cut(payload64(of(t)), `"documentHash":"`)
			return before + `"documentHash":"` + strings.ToUpper(after[:64]) + after[64:]
		}, "BadArgument documentHash"},
		{"another format than it says", func(t *testing.T) string { return payload64(change(of(t), func(p *paper) { p.format = "JSON" })) }, "BadArgument format"},
		{"a format that is none", func(t *testing.T) string { return payload64(change(of(t), func(p *paper) { p.format = "PDF" })) }, "BadArgument format"},
		{"another number than it has", func(t *testing.T) string { return payload64(change(of(t), func(p *paper) { p.number = "INV-7" })) }, "BadArgument codeNumber"},
		{"a number that is too long", func(t *testing.T) string { return payload64(draft{number: strings.Repeat("9", 51)}.paper(t, "XML")) }, "BadArgument codeNumber"},
		{"no document", func(t *testing.T) string { return payload64(paper{"XML", "INV-1", nil}) }, "BadArgument document"},
		{"too long a document", func(t *testing.T) string {
			return payload64(paper{"XML", "INV-1", make([]byte, 300<<10+1)})
		}, "MaximumSizeExceeded document"},
		{"what is no document", func(t *testing.T) string { return payload64(paper{"XML", "INV-1", []byte("<Invoice>")}) }, "InvalidStructure document"},
		{"a type that is none", func(t *testing.T) string { return payload64(draft{typeCode: "05", version: "1.0"}.paper(t, "JSON")) }, "InvalidStructure InvoiceTypeCode"},
		{"a version that is none", func(t *testing.T) string { return payload64(draft{version: "2.0"}.paper(t, "JSON")) }, "InvalidStructure listVersionID"},
		{"issued in the future", func(t *testing.T) string { return payload64(draft{issued: start.Add(time.Second)}.paper(t, "XML")) }, "CF321 DatetimeIssued"},
		{"issued too long ago", func(t *testing.T) string {
			return payload64(draft{issued: start.Add(-72*time.Hour - time.Second)}.paper(t, "XML"))
		}, "CF321 DatetimeIssued"},
		{"issued just in time", func(t *testing.T) string { return payload64(draft{issued: start.Add(-72 * time.Hour)}.paper(t, "XML")) }, ""},
		{"issued this second", func(t *testing.T) string { return payload64(draft{issued: start}.paper(t, "XML")) }, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := lay(t, nil)
			a := b.call(b.agent(), "POST", "/api/v1.0/documentsubmissions/", row.body(t))
			var got struct {
				RejectedDocuments []struct {
					Error struct {
						Details []struct{ Code, Target string }
					}
				}
			}
			if err := json.Unmarshal(a.Body.Bytes(), &got); err != nil || a.Code != 202 {
				t.Fatalf("got %d %s", a.Code, a.Body)
			}
			var codes []string
			for _, r := range got.RejectedDocuments {
				for _, d := range r.Error.Details {
					codes = append(codes, d.Code+" "+d.Target)
				}
			}
			if said := strings.Join(codes, ", "); said != row.want {
				t.Errorf("got %q, want %q", said, row.want)
			}
			if n := len(b.Documents()); (n == 1) != (row.want == "") {
				t.Errorf("got %d documents accepted", n)
			}
		})
	}
}

func TestWhatIsTooMuchIsRefusedWhole(t *testing.T) {
	one := draft{}.paper(t, "XML")
	other := draft{number: "INV-2"}.paper(t, "JSON")
	for _, row := range []struct {
		name, body string
		status     int
		code       string
	}{
		{"101 documents", payload64(slices.Repeat([]paper{one}, 101)...), 400, "MaximumSizeExceeded"},
		{"more than 5 MiB", strings.Repeat(" ", 5<<20+1), 400, "MaximumSizeExceeded"},
		{"two formats", payload64(one, other), 400, "BadStructure"},
		{"no documents", `{"documents":[]}`, 400, "BadStructure"},
		{"members that nobody knows", strings.Replace(payload64(one), `"format"`, `"form":"x","format"`, 1), 400, "BadStructure"},
		{"two objects", payload64(one) + payload64(one), 400, "BadStructure"},
		{"what is no base64", strings.Replace(payload64(one), `"document":"`, `"document":"!`, 1), 400, "BadStructure"},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := lay(t, nil)
			a := b.call(b.agent(), "POST", "/api/v1.0/documentsubmissions/", row.body)
			if a.Code != row.status || !strings.Contains(a.Body.String(), fmt.Sprintf(`"code":%q`, row.code)) {
				t.Errorf("got %d %s, want %d %s", a.Code, a.Body, row.status, row.code)
			}
		})
	}
}
