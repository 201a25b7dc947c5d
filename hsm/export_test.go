package hsm

import (
	"context"
	"crypto/x509"
	"log/slog"
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
