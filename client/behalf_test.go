package client

import (
	"errors"
	"strings"
	"testing"

	"github.com/roamsign/roamsign/policy"
	"github.com/roamsign/roamsign/xades"
)

func TestOnWhoseBehalfADocumentIsSigned(t *testing.T) {
	const (
		other    = "C31450097020"
		business = "IG20880051110:202203054321"
	)
	rows := []struct {
		name     string
		stated   string
		facts    xades.Facts
		allow    bool
		fallback policy.TIN
		want     policy.TIN
		refused  []string // what the refusal has to say
	}{
		{name: "the document's own", facts: xades.Facts{TIN: seller}, want: seller},
		{name: "the document's own before the configuration's", facts: xades.Facts{TIN: seller}, fallback: other, want: seller},
		{name: "the stated one, whom the document names", stated: seller, facts: xades.Facts{TIN: seller}, fallback: other, want: seller},
		{name: "the stated one, where the document names nobody", stated: seller, facts: xades.Facts{}, fallback: other, want: seller},
		{name: "the configuration's, where the document names nobody", facts: xades.Facts{}, fallback: other, want: other},
		{name: "the configuration's, where the document names no valid TIN", facts: xades.Facts{TIN: "Supplier's TIN"}, fallback: other, want: other},
		{name: "the configuration's, where the document names the public", facts: xades.Facts{TIN: "EI00000000010"}, fallback: other, want: other},
		{name: "another stated one, by permission", stated: seller, facts: xades.Facts{TIN: other}, allow: true, want: seller},
		{name: "a sample's, by permission", stated: seller, facts: xades.Facts{TIN: "Supplier's TIN"}, allow: true, want: seller},
		{name: "a sole proprietor's business by its number", facts: xades.Facts{TIN: "IG20880051110", BRN: "202203054321"}, fallback: business, want: business},
		{name: "a sole proprietor's business stated", stated: business, facts: xades.Facts{TIN: "IG20880051110"}, want: business},
		{name: "a sole proprietor's other business", facts: xades.Facts{TIN: "IG20880051110", BRN: "201903000001"}, fallback: business, want: "IG20880051110"},
		{name: "nobody, where another one is stated", stated: seller, facts: xades.Facts{TIN: other}, refused: []string{seller, other, "supplier"}},
		{name: "nobody, where another buyer is stated", stated: seller, facts: xades.Facts{TIN: other, SelfBilled: true}, refused: []string{seller, other, "buyer"}},
		{name: "nobody, where a sample is signed for one", stated: seller, facts: xades.Facts{TIN: "Supplier's TIN"}, refused: []string{seller, "Supplier's TIN"}},
		{name: "nobody, where another business is stated", stated: business, facts: xades.Facts{TIN: "IG20880051110", BRN: "201903000001"}, refused: []string{business}},
		{name: "nobody, where what is stated is no TIN", stated: "Pustaka", facts: xades.Facts{TIN: seller}, refused: []string{`"Pustaka" is not a TIN`}},
		{name: "nobody, where nobody is named at all", facts: xades.Facts{}, refused: []string{"say on whose behalf"}},
		{name: "nobody, where only a sample's word is there", facts: xades.Facts{TIN: "Supplier's TIN"}, refused: []string{"Supplier's TIN", "say on whose behalf"}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			got, err := onBehalf(Document{TIN: row.stated, Options: Options{AllowMismatch: row.allow}}, row.facts, row.fallback)
			if got != row.want {
				t.Errorf("got %q, want %q", got, row.want)
			}
			if (err != nil) != (row.refused != nil) {
				t.Fatalf("got error %v", err)
			}
			for _, part := range row.refused {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("got error %q, want %q in it", err, part)
				}
			}
			if _, typed := errors.AsType[*Error](err); err != nil && !typed {
				t.Errorf("got error %T, want *Error", err)
			}
		})
	}
}
