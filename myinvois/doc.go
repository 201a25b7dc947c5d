// Package myinvois submits signed documents to LHDN's MyInvois platform and
// learns what became of them: logging in as a taxpayer or on behalf of one,
// submitting, polling, cancelling, rejecting.
//
// It signs nothing and judges no document: bytes come in signed. It sends a
// document's bytes as they came, never others, because the platform's protection
// against a second submission knows a payload by its hash.
//
// The one idea: what is about to be sent is on the disk before it is sent
// ([Journal]), so whatever ends the process leaves either a document that was not
// sent, or one whose very bytes can be sent again and be recognized. [Courier]
// does it in that order.
//
// The facts about the platform are those of its SDK site as of July 2026.
package myinvois
