package house

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// reserved tells, for an import and all below it, who alone may have it. An owner
// that ends in "/" stands for all packages below. Tests are spared: a foreign
// judge may need anything.
var reserved = []struct {
	path string
	to   []string
	why  string
}{
	{"C", []string{"hsm"}, "only hsm knows cgo"},
	{"github.com/miekg/pkcs11", []string{"hsm", "softhsm-test"}, "only hsm knows PKCS#11"},
	{"github.com/ThalesIgnite/crypto11", []string{"hsm", "softhsm-test"}, "only hsm knows PKCS#11"},
	{"github.com/beevik/etree", []string{"xades"}, "only xades knows the signature's XML"},
	{"google.golang.org/grpc", []string{"signer", "client", "proto/"}, "only signer and client know gRPC"},
	{"google.golang.org/protobuf", []string{"signer", "client", "proto/"}, "only signer and client know gRPC"},
	{"google.golang.org/genproto", []string{"signer", "client"}, "only signer and client know gRPC"},
	{"flag", []string{"cmd/", "internal/command"}, "only commands know flags"},
	{"os/signal", []string{"cmd/"}, "only commands know signals"},
	{"log", nil, "logs are log/slog's, passed in"},
	{"testing", []string{"softhsm-test"}, "tests stay in test files"},
	{"unsafe", []string{"hsm", "proto/"}, "only hsm knows a C library's memory"},
	{"github.com/pkg/errors", nil, "errors are wrapped with %w"},
}

// exact are the reserved imports that do not stand for what is below them.
var exact = []string{"log", "testing"}

// importsWhatItMay refuses imports that are reserved to others.
func importsWhatItMay(s *source) []string {
	if s.test {
		return nil
	}
	var faults []string
	for _, i := range s.imports {
		for _, r := range reserved {
			if !reaches(i.path, r.path) || slices.ContainsFunc(r.to, func(to string) bool { return stands(s.pkg, to) }) {
				continue
			}
			faults = append(faults, fmt.Sprintf("%s: imports %s: %s", s.path, i.path, r.why))
		}
	}
	return faults
}

// reaches reports whether an import is the one reserved, or one below it.
func reaches(imported, reserved string) bool {
	return imported == reserved ||
		strings.HasPrefix(imported, reserved+"/") && !slices.Contains(exact, reserved)
}

// stands reports whether pkg is the one named, or below it where it ends in "/".
func stands(pkg, named string) bool {
	return pkg == named || strings.HasSuffix(named, "/") && strings.HasPrefix(pkg, named)
}

// pure are the packages that take values and return values.
var pure = []string{"xades", "policy"}

// impure are the imports, with all below them, that have no place in a pure
// package: randomness, network, files, loggers, and a second reader of documents.
var impure = []string{
	"math/rand", "crypto/rand", "os", "log", "io/ioutil", "syscall", "runtime", "net", "encoding/xml",
}

// harmless are imports below impure ones that only compute.
var harmless = []string{"net/url", "net/netip", "net/mail"}

// clock are the functions of package time that ask a clock, or a disk.
var clock = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker", "LoadLocation"}

// staysPure refuses what a pure package may not touch.
func staysPure(s *source) []string {
	if s.test || !slices.Contains(pure, s.pkg) {
		return nil
	}
	var faults []string
	for _, i := range s.imports {
		for _, not := range impure {
			if (i.path == not || strings.HasPrefix(i.path, not+"/")) && !slices.Contains(harmless, i.path) {
				faults = append(faults, fmt.Sprintf("%s: imports %s: package %s is pure", s.path, i.path, s.pkg))
			}
		}
	}
	for e := range expressions(s) {
		for _, function := range clock {
			if s.calls(e, "time", function) {
				faults = append(faults, fmt.Sprintf("%s: time.%s: package %s is pure, time comes in as an argument", s.at(e), function, s.pkg))
			}
		}
	}
	return faults
}

func TestImportsStayWithThoseTheyAreReservedTo(t *testing.T) {
	hold(t, importsWhatItMay)
}

func TestAReservedImportIsFound(t *testing.T) {
	prove(t, importsWhatItMay, []fake{
		{"pkcs11 in hsm", "hsm/a.go", `package hsm; import "github.com/miekg/pkcs11"`, ""},
		{"pkcs11 in softhsm-test", "softhsm-test/a.go", `package softhsmtest; import "github.com/miekg/pkcs11"`, ""},
		{"pkcs11 in a command", "cmd/roamsignd/a.go", `package main; import "github.com/miekg/pkcs11"`, "only hsm"},
		{"crypto11 renamed", "signer/a.go", `package signer; import c "github.com/ThalesIgnite/crypto11"`, "only hsm"},
		{"cgo", "xades/a.go", `package xades; import "C"`, "cgo"},
		{"etree in xades", "xades/a.go", `package xades; import "github.com/beevik/etree"`, ""},
		{"etree elsewhere", "client/a.go", `package client; import "github.com/beevik/etree"`, "only xades"},
		{"etree in a test", "client/a_test.go", `package client; import "github.com/beevik/etree"`, ""},
		{"gRPC in signer", "signer/a.go", `package signer; import "google.golang.org/grpc/codes"`, ""},
		{"gRPC in generated code", "proto/roamsign/v1/a.go", `package roamsignv1; import "google.golang.org/grpc"`, ""},
		{"gRPC in a command", "cmd/roamsign/a.go", `package main; import "google.golang.org/grpc/credentials"`, "only signer and client"},
		{"protobuf in policy", "policy/a.go", `package policy; import "google.golang.org/protobuf/proto"`, "only signer and client"},
		{"flags in a command", "cmd/roamsign/a.go", `package main; import "flag"`, ""},
		{"flags elsewhere", "hsm/a.go", `package hsm; import "flag"`, "flags"},
		{"signals elsewhere", "signer/a.go", `package signer; import "os/signal"`, "signals"},
		{"log", "cmd/roamsign/a.go", `package main; import "log"`, "log/slog"},
		{"log/slog", "signer/a.go", `package signer; import "log/slog"`, ""},
		{"testing outside tests", "signer/a.go", `package signer; import "testing"`, "test files"},
		{"a name that only begins alike", "hsm/a.go", `package hsm; import "flagrant"`, ""},
	})
}

func TestPurePackagesStayPure(t *testing.T) {
	hold(t, staysPure)
}

func TestAnImpurePackageIsFound(t *testing.T) {
	prove(t, staysPure, []fake{
		{"time as a value", "xades/a.go", `package xades; import "time"; func f(t time.Time) bool { return t.After(time.Time{}) }`, ""},
		{"the clock", "xades/a.go", `package xades; import "time"; var t = time.Now()`, "time.Now"},
		{"the clock as a value", "policy/a.go", `package policy; import "time"; var now = time.Now`, "time.Now"},
		{"the clock renamed", "policy/a.go", `package policy; import clock "time"; func f() { clock.Sleep(1) }`, "time.Sleep"},
		{"the clock elsewhere", "signer/a.go", `package signer; import "time"; var t = time.Now()`, ""},
		{"the clock in a test", "policy/a_test.go", `package policy; import "time"; var t = time.Now()`, ""},
		{"randomness", "xades/a.go", `package xades; import "math/rand/v2"`, "math/rand/v2"},
		{"good randomness", "xades/a.go", `package xades; import "crypto/rand"`, "crypto/rand"},
		{"the network", "policy/a.go", `package policy; import "net/http"`, "net/http"},
		{"a URL", "policy/a.go", `package policy; import "net/url"`, ""},
		{"files", "policy/a.go", `package policy; import "os"`, "os"},
		{"a logger", "xades/a.go", `package xades; import "log/slog"`, "log/slog"},
		{"a second reader", "xades/a.go", `package xades; import "encoding/xml"`, "encoding/xml"},
	})
}
