package main

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"time"

	"github.com/roamsign/roamsign/audit"
	"github.com/roamsign/roamsign/client"
)

// logged is an entry of the audit log as it is told, by the names that
// docs/FORMATS.md gives its fields. Its JSON is a contract.
type logged struct {
	Index       uint64    `json:"index"`
	Time        time.Time `json:"time"`
	Signer      string    `json:"signer"`
	Caller      string    `json:"caller"`
	TIN         string    `json:"tin"`
	TINChecked  bool      `json:"tin_checked"`
	Method      string    `json:"method"`
	Certificate string    `json:"certificate"`
	Document    string    `json:"document"`
	Properties  string    `json:"properties"`
	Number      string    `json:"number"`
	Request     string    `json:"request"`
}

// loggedEntry tells the entry that a receipt proves.
func loggedEntry(r audit.Receipt) logged {
	e := r.Entry
	return logged{
		Index: r.Index, Time: e.Time, Signer: e.Signer, Caller: e.Caller, TIN: e.TIN, TINChecked: e.TINChecked, Method: e.Method,
		Certificate: hex.EncodeToString(e.Certificate[:]), Document: base64.StdEncoding.EncodeToString(e.Document[:]),
		Properties: base64Of(e.SignedProperties), Number: e.Number, Request: e.RequestID,
	}
}

// loggedRecord tells an entry as a signer lists it.
func loggedRecord(r *client.Record) logged {
	return logged{
		Index: r.Index, Time: r.Time, Signer: r.Signer, Caller: r.Caller, TIN: r.TIN, TINChecked: r.TINChecked, Method: r.Method,
		Certificate: hex.EncodeToString(r.Certificate[:]), Document: base64.StdEncoding.EncodeToString(r.DocDigest[:]),
		Properties: base64Of(r.PropsDigest), Number: r.Number, Request: r.RequestID,
	}
}

// base64Of writes a digest; none, not at all.
func base64Of(digest [32]byte) string {
	if digest == [32]byte{} {
		return ""
	}
	return base64.StdEncoding.EncodeToString(digest[:])
}

// how says whose word it is that the document is the taxpayer's.
func (l *logged) how() string {
	if l.TINChecked {
		return "(the signer read it in the document)"
	}
	return "(stated by the caller)"
}

func writeJSON(to io.Writer, value any) error {
	encoder := json.NewEncoder(to)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}
