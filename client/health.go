package client

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// ErrNotServing is the error of a signer that answers, and says that it cannot
// sign at present.
var ErrNotServing = errors.New("not serving")

// Health asks the health service of one signer, at an address HOST:PORT, about one
// of its services; the empty name is the signer as a whole. It is for probes: it
// asks once, and as anybody with a certificate may, whom the policy need not name.
// The server has to show a certificate for that name, whatever the address is; of
// the configuration only CA, Certificate and Key are used. It returns nil where the
// service is served, and no later than ctx ends. The error is [ErrNotServing], or
// tells why there is no answer.
func (c Config) Health(ctx context.Context, address, name, service string) error {
	secured, err := c.TLS()
	if err != nil {
		return err
	}
	secured.ServerName = name
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(credentials.NewTLS(secured)), grpc.WithDisableServiceConfig(), grpc.WithContextDialer(dial))
	if err != nil {
		return fmt.Errorf("preparing the connection: %w", err)
	}
	defer conn.Close()
	answer, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{Service: service})
	switch {
	case status.Code(err) == codes.NotFound:
		return fmt.Errorf("the signer knows no service %q", service)
	case ctx.Err() != nil:
		return fmt.Errorf("no answer from %s in time: %w", address, ctx.Err())
	case err != nil:
		return answered(err)
	case answer.GetStatus() != healthv1.HealthCheckResponse_SERVING:
		return ErrNotServing
	}
	return nil
}
