package xades

import "bytes"

// jsonSlip names the slip with JSON that gives the digest wanted; else a literal
// that servers and libraries are known to write otherwise than it stands, as the
// likely cause.
func (a *attempts) jsonSlip(d *reading) string {
	effort := len(d.canonical) + perCharacter*(bytes.Count(d.canonical, []byte{','})+bytes.Count(d.canonical, []byte{'\\'}))
	var unsafe []string
	if a.afford(effort) {
		if doc, err := scanJSON(d.source, jsonOptions{literals: literalsKept}); err == nil {
			unsafe = doc.warnings
		}
	}
	if happened := a.slip(d.jsonForms(a, effort, len(unsafe) > 0)); happened != "" || len(unsafe) == 0 {
		return happened
	}
	return "it was changed after it was signed, or its literals were written otherwise when the digest was taken; the first that does not survive: " + unsafe[0]
}

// jsonForms are the known slips with JSON. To write the document anew takes the
// effort given.
func (d *reading) jsonForms(a *attempts, effort int, unsafe bool) []form {
	var forms []form
	add := func(happened string, text func() [][]byte) { forms = append(forms, form{happened, text}) }
	for _, version := range d.otherVersions() {
		add(versionChanged(version), func() [][]byte { return d.json.withVersion(version) })
	}
	add("the member Signature was not removed before hashing", d.json.withPointer)
	add("numbers and strings were rewritten after the digest was taken, or before it: it is the digest of their safe form", func() [][]byte {
		if !unsafe || !a.afford(effort) {
			return nil
		}
		doc, err := scanJSON(d.source, jsonOptions{literals: literalsSafe})
		if err != nil {
			return nil
		}
		return some(doc.canonical)
	})
	styled := func(numbers numberStyle, texts stringStyle) {
		add(both(numbers.happened, texts.happened), func() [][]byte {
			if !a.afford(effort) {
				return nil
			}
			return a.restyle(d.canonical, numbers, texts)
		})
	}
	for _, numbers := range jsonNumberStyles[1:] {
		styled(numbers, jsonStringStyles[0])
	}
	for _, texts := range jsonStringStyles[1:] {
		styled(jsonNumberStyles[0], texts)
	}
	for _, texts := range jsonStringStyles[1:] {
		for _, numbers := range jsonNumberStyles[1:] {
			styled(numbers, texts)
		}
	}
	return forms
}

func both(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + ", and " + b
}

// withVersion is the canonical JSON with another listVersionID.
func (d *jsonDocument) withVersion(version string) [][]byte {
	if d.versionTo == 0 {
		return nil
	}
	name := ""
	if d.versionAt == d.versionTo { // there is none
		name = `"listVersionID":`
		if d.canonical[d.versionAt-1] != '{' {
			name = "," + name
		}
	}
	return [][]byte{d.canonical[:d.versionAt], []byte(name + `"` + version + `"`), d.canonical[d.versionTo:]}
}

// withPointer is the canonical JSON with the member Signature left in, last.
func (d *jsonDocument) withPointer() [][]byte {
	if d.signature == nil {
		return nil
	}
	name := `,"Signature":`
	if d.empty {
		name = name[1:]
	}
	return [][]byte{d.canonical[:d.spliceAt], []byte(name), d.signature, d.canonical[d.spliceAt:]}
}

// jsonPropsForms are the known slips with the signed properties in JSON.
func jsonPropsForms(props []byte) []form {
	_, list, _ := bytes.Cut(props, []byte(`"SignedProperties":`))
	list = bytes.TrimSuffix(list, []byte("}"))
	return []form{
		{"it was taken over SignedProperties alone; it belongs over QualifyingProperties, with \"Target\"", func() [][]byte {
			return some(bytes.TrimSuffix(bytes.TrimPrefix(list, []byte("[")), []byte("]")))
		}},
		{"it was taken over the list in SignedProperties; it belongs over QualifyingProperties, with \"Target\"", func() [][]byte { return some(list) }},
	}
}
