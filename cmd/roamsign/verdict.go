package main

import (
	"cmp"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/roamsign/roamsign/xades"
)

// verdict is what verify tells of one file. Its JSON is a contract: what the
// document does not yield is null.
type verdict struct {
	File        string     `json:"file"`
	Valid       bool       `json:"valid"`
	Format      *string    `json:"format"`
	Digest      *string    `json:"digest"`
	SigningTime *time.Time `json:"signing_time"`
	Certificate *issued    `json:"certificate"`
	Findings    []finding  `json:"findings"`

	facts xades.Facts // for people
}

// issued is what is told of a certificate.
type issued struct {
	Subject   string    `json:"subject"`
	Issuer    string    `json:"issuer"`
	Serial    string    `json:"serial"`
	NotBefore time.Time `json:"not_before"`
	NotAfter  time.Time `json:"not_after"`
}

type finding struct {
	Code     string `json:"code"`
	Severity string `json:"severity"`
	Message  string `json:"message"`
}

func judge(name string, report *xades.Report) verdict {
	v := verdict{File: name, Valid: report.Valid(), Findings: []finding{}, facts: report.Facts}
	if report.Format != 0 {
		v.Format = new(report.Format.String())
	}
	if report.Digest != [32]byte{} {
		v.Digest = new(base64.StdEncoding.EncodeToString(report.Digest[:]))
	}
	if !report.SigningTime.IsZero() {
		v.SigningTime = new(report.SigningTime.UTC())
	}
	if c := report.Certificate; c != nil {
		v.Certificate = describe(c)
	}
	for _, f := range report.Findings {
		v.Findings = append(v.Findings, finding{f.Code, string(f.Severity), oneLine(f.Message)})
	}
	return v
}

// nameOf writes a name as MyInvois documents do; one that cannot be read, not at
// all.
func nameOf(der []byte) string {
	name, err := xades.Name(der)
	if err != nil {
		return "unreadable: " + err.Error()
	}
	return name
}

func describe(c *x509.Certificate) *issued {
	return &issued{
		Subject: nameOf(c.RawSubject), Issuer: nameOf(c.RawIssuer), Serial: c.SerialNumber.String(),
		NotBefore: c.NotBefore.UTC(), NotAfter: c.NotAfter.UTC(),
	}
}

func showJSON(to io.Writer, verdicts []verdict) error {
	encoder := json.NewEncoder(to)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(verdicts)
}

// show prints a verdict so that it can be sent to a colleague: errors first.
func show(to io.Writer, v verdict) {
	word := "valid"
	if !v.Valid {
		word = "NOT VALID"
	}
	fmt.Fprintf(to, "%s: %s\n", v.File, word)
	for _, row := range v.rows() {
		fmt.Fprintf(to, "  %-13s %s\n", row[0], row[1])
	}
	sorted := slices.SortedStableFunc(slices.Values(v.Findings), func(a, b finding) int { return cmp.Compare(a.Severity, b.Severity) })
	for _, f := range sorted {
		fmt.Fprintf(to, "  %-7s %-5s %s\n", f.Severity, cmp.Or(f.Code, "-"), f.Message)
	}
}

// rows are the facts above the findings, a name and a value each.
func (v verdict) rows() [][2]string {
	var rows [][2]string
	add := func(name, value string) {
		if value != "" {
			rows = append(rows, [2]string{name, oneLine(value)})
		}
	}
	if v.Format != nil && v.facts.Type != "" {
		document := fmt.Sprintf("%s %s, type %s, version %s", *v.Format, v.facts.Number, v.facts.Type, v.facts.Version)
		add("document", document)
	}
	if v.facts.TIN != "" {
		add("taxpayer", strings.TrimSuffix(v.facts.TIN+", "+v.facts.BRN, ", "))
	}
	if v.SigningTime != nil {
		add("signed", v.SigningTime.Format(time.RFC3339))
	}
	if c := v.Certificate; c != nil {
		add("certificate", c.Subject)
		add("issued by", c.Issuer)
		add("serial", fmt.Sprintf("%s, from %s to %s", c.Serial, c.NotBefore.Format(time.DateOnly), c.NotAfter.Format(time.DateOnly)))
	}
	if v.Digest != nil {
		add("digest", *v.Digest)
	}
	return rows
}
