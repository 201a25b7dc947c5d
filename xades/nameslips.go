package xades

import (
	"slices"
	"strings"
)

// issuerSlip explains an issuer name that is not in .NET's form, by writing the
// certificate's name in the forms that signers are known to use.
func issuerSlip(der []byte, written string) string {
	want, err := Name(der)
	if err != nil {
		return ""
	}
	reversed := splitName(want)
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
	} {
		text := strings.Join(try.rdns, try.separator)
		switch written {
		case text:
			return try.happened
		case strings.ReplaceAll(text, "=", " = "):
			return try.happened + "; and there must be no blanks around ="
		}
	}
	switch {
	case written == strings.ReplaceAll(want, "=", " = "):
		return "there must be no blanks around ="
	case strings.EqualFold(written, want):
		return "it differs in capitals only"
	case sameElements(written, reversed):
		return "it has the same elements in another order"
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

func sameElements(written string, rdns []string) bool {
	given := strings.Split(strings.ReplaceAll(written, ", ", ","), ",")
	wanted := strings.Split(strings.ReplaceAll(strings.Join(rdns, ","), ", ", ","), ",")
	slices.Sort(given)
	slices.Sort(wanted)
	return slices.Equal(given, wanted)
}
