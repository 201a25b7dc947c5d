package xades

import (
	"crypto/x509"
	"slices"
	"strings"
)

// issuerSlip explains an issuer name that is not in .NET's form, by writing the
// certificate's name in the forms that signers are known to use.
func issuerSlip(cert *x509.Certificate, written string) string {
	want, err := Name(cert.RawIssuer)
	if err != nil {
		return ""
	}
	if subject, err := Name(cert.RawSubject); err == nil && written == subject {
		return "that is the subject's name; it must be the issuer's"
	}
	rdns := splitName(want)
	if happened := orderSlip(rdns, written); happened != "" {
		return happened
	}
	for _, rdn := range rdns {
		if value, found := strings.CutPrefix(rdn, "CN="); found && (written == value || written == rdn) {
			return "that is the CN alone; it must be the whole name"
		}
	}
	renamed := dotNETNames.Replace(" " + strings.ReplaceAll(strings.ReplaceAll(written, "/", ", "), ",", ", "))
	switch {
	case written == strings.ReplaceAll(want, "=", " = "):
		return "there must be no blanks around ="
	case strings.EqualFold(written, want):
		return "it differs in capitals only"
	case strings.Contains(written, "+"):
		return "" // a set of several
	case strings.HasPrefix(written, "/") && sameElements(renamed, rdns):
		return "it is written as OpenSSL's one line"
	case sameElements(written, rdns):
		return "it has the same elements in another order"
	case sameElements(renamed, rdns):
		return "its elements are named otherwise than .NET names them: E for the e-mail address, S for the state, OID. before the numbers of others"
	}
	return ""
}

// dotNETNames writes the names that other libraries give to elements as .NET's.
var dotNETNames = strings.NewReplacer(
	" emailAddress=", " E=", " EMAILADDRESS=", " E=", " Email=", " E=", " 1.2.840.113549.1.9.1=", " E=",
	" ST=", " S=", " organizationIdentifier=", " OID.2.5.4.97=", " 2.5.4.97=", " OID.2.5.4.97=",
	" serialNumber=", " SERIALNUMBER=", " 2.5.4.5=", " SERIALNUMBER=",
)

// orderSlip explains a name whose elements are those of .NET's form, otherwise
// ordered or set apart.
func orderSlip(reversed []string, written string) string {
	forward := slices.Clone(reversed)
	slices.Reverse(forward)
	for _, try := range []struct {
		rdns      []string
		separator string
		happened  string
	}{
		{forward, ", ", "the elements stand in the certificate's own order; they must stand in the reverse of it"},
		{forward, ",", "the elements stand in the certificate's own order, without blanks after the commas; they must stand in the reverse of it, with them"},
		{reversed, ",", "a blank is missing after each comma"},
		{reversed, "\n", "the elements stand in lines of their own"},
		{forward, "\n", "the elements stand in lines of their own, in the certificate's own order; they must stand in the reverse of it"},
	} {
		text := strings.Join(try.rdns, try.separator)
		switch written {
		case text:
			return try.happened
		case strings.ReplaceAll(text, "=", " = "):
			return try.happened + "; and there must be no blanks around ="
		}
	}
	return ""
}

// splitName splits a name that Name wrote into its RDNs.
func splitName(name string) (rdns []string) {
	from, quoted := 0, false
	for i := range len(name) {
		switch {
		case name[i] == '"':
			quoted = !quoted
		case !quoted && strings.HasPrefix(name[i:], ", "):
			rdns = append(rdns, name[from:i])
			from = i + 2
		}
	}
	return append(rdns, name[from:])
}

// sameElements tells whether a name has those elements, in whatever order.
func sameElements(written string, rdns []string) bool {
	given := elements(written)
	wanted := elements(strings.Join(rdns, ","))
	return slices.Equal(given, wanted)
}

// elements splits a name at commas, and sorts what it is of.
func elements(name string) (all []string) {
	for element := range strings.SplitSeq(name, ",") {
		if element = strings.Trim(element, " "); element != "" {
			all = append(all, element)
		}
	}
	slices.Sort(all)
	return all
}
