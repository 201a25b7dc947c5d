package main

import (
	"crypto/x509/pkix"
	"fmt"
	"slices"
	"strings"
)

// distinguished writes a certificate's name as MyInvois documents do
// (X509IssuerName): last element first, "OID." before what has no short name.
func distinguished(name pkix.Name) string {
	short := map[string]string{
		"2.5.4.3": "CN", "2.5.4.5": "SERIALNUMBER", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "S",
		"2.5.4.10": "O", "2.5.4.11": "OU", "1.2.840.113549.1.9.1": "E",
	}
	var elements []string
	for _, element := range slices.Backward(name.Names) {
		oid := element.Type.String()
		label, known := short[oid]
		if !known {
			label = "OID." + oid
		}
		value := fmt.Sprint(element.Value)
		if strings.ContainsAny(value, `,+="<>#;`+"\n") {
			value = `"` + strings.ReplaceAll(value, `"`, `""`) + `"`
		}
		elements = append(elements, label+"="+value)
	}
	return strings.Join(elements, ", ")
}
