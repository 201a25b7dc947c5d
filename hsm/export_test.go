package hsm

import (
	"cmp"
	"context"
	"crypto/x509"
	"log/slog"
	"slices"

	"github.com/miekg/pkcs11"
)

// Cryptoki lets tests stand between this package and a real module.
type Cryptoki = cryptoki

// OpenThrough is Open, with all calls going through what wrap returns.
func OpenThrough(ctx context.Context, config Config, certificate *x509.Certificate, wrap func(Cryptoki) Cryptoki) (*Token, error) {
	return open(ctx, config, certificate, func(path string) (cryptoki, error) {
		p11, err := load(path)
		if err != nil {
			return nil, err
		}
		return wrap(p11), nil
	})
}

// OpenGroupThrough is OpenGroup, with all calls going through what wrap returns
// for the module at a path.
func OpenGroupThrough(ctx context.Context, configs []Config, certificate *x509.Certificate, log *slog.Logger, wrap func(string, Cryptoki) Cryptoki) (*Group, error) {
	return openGroup(ctx, configs, certificate, log, func(path string) (cryptoki, error) {
		p11, err := load(path)
		if err != nil {
			return nil, err
		}
		return wrap(path, p11), nil
	})
}

// ReturnValue is a row of the table of return values.
type ReturnValue struct {
	Value     uint
	Name      string
	Ours      bool // the request's fault, by that
	Permanent bool // somebody must do something first, by that
}

// ReturnValues is the table of return values, in order, and one that is not in it.
func ReturnValues() (all []ReturnValue) {
	for rv := range codes {
		all = append(all, returnValue(rv))
	}
	slices.SortFunc(all, func(a, b ReturnValue) int { return cmp.Compare(a.Value, b.Value) })
	return append(all, returnValue(pkcs11.CKR_VENDOR_DEFINED+42))
}

func returnValue(rv pkcs11.Error) ReturnValue {
	c := lookup(rv)
	return ReturnValue{Value: uint(rv), Name: c.name, Ours: c.class == requestClass, Permanent: c.class == permanentClass}
}
