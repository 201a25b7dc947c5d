package signer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
	"github.com/roamsign/roamsign/xades"
)

// service is the server as gRPC sees it.
type service struct {
	roamsignv1.UnimplementedSignerServiceServer
	*Server
}

// Bounds that no configuration changes.
const (
	// maxRequest bounds a request: a whole document and what goes with it.
	maxRequest = xades.MaxInput + 64<<10
	// maxHeaders bounds a request's headers.
	maxHeaders = 16 << 10
	// handshake is how long a connection may take to prove who it is.
	handshake = 5 * time.Second
	// cutOff is how long requests may take to notice that they were cut off.
	cutOff = 5 * time.Second
	// polling is how often the key is asked whether it can sign, and the record
	// whether it can be written. Health is to follow within a second.
	polling = 250 * time.Millisecond
)

// Serve answers on the listener, and closes it, until ctx ends. Then requests in
// flight have the configuration's drain time before they are cut off. Once it
// has returned nothing uses the key or the record any more, unless the error says
// what outlived being cut off. A server serves once.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	endState, err := s.keepState()
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	state := health.NewServer()
	server := grpc.NewServer(s.options(ctx)...)
	healthv1.RegisterHealthServer(server, state)
	roamsignv1.RegisterSignerServiceServer(server, &service{Server: s})
	reflection.Register(server)

	serving := s.report(state, true)
	var owned sync.WaitGroup
	owned.Go(func() { s.watch(ctx, state, serving) })
	accepting := make(chan error, 1)
	owned.Go(func() {
		accepting <- server.Serve(s.newcomers.listen(listener))
	})

	var failed error
	select {
	case err := <-accepting:
		failed = fmt.Errorf("accepting connections: %w", err)
	case <-ctx.Done():
		_ = listener.Close()
		if err := <-accepting; !errors.Is(err, net.ErrClosed) {
			failed = fmt.Errorf("accepting connections: %w", err)
		}
	}
	cancel()
	state.Shutdown()
	failed = errors.Join(failed, s.drain(server), s.recorder.finish(cutOff))
	owned.Wait()
	return errors.Join(failed, endState())
}

// keepState goes on from the state folder, if there is one, and else tells what
// that means.
func (s *Server) keepState() (end func() error, err error) {
	if s.config.State == "" {
		if s.policy.Load().Daily() {
			s.admission.tell()
		}
		return func() error { return nil }, nil
	}
	return s.admission.keep(s.config.State, s.clock())
}

func (s *Server) options(stopping context.Context) []grpc.ServerOption {
	return append(s.tracer.options(),
		grpc.Creds(s.transport()),
		grpc.ForceServerCodecV2(newCodec()),
		grpc.InTapHandle(s.tap),
		grpc.UnaryInterceptor(s.unary),
		grpc.StreamInterceptor(s.stream(stopping)),
		grpc.MaxRecvMsgSize(maxRequest),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.MaxConcurrentStreams(uint32(s.config.Limits.Streams)),
		grpc.ConnectionTimeout(handshake),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Minute, Timeout: 20 * time.Second}),
		grpc.WaitForHandlers(true),
	)
}

// drain lets requests in flight finish, and cuts off those that take too long:
// that ends their contexts. Nobody comes any more; who came just now is let in first,
// since gRPC, once it is told to stop, hangs up on them.
func (s *Server) drain(server *grpc.Server) error {
	stopped := make(chan struct{}, 2)
	go func() {
		s.newcomers.wait()
		server.GracefulStop()
		stopped <- struct{}{}
	}()
	select {
	case <-stopped:
		return nil
	case <-time.After(s.config.Limits.Drain):
	}
	go func() { server.Stop(); stopped <- struct{}{} }()
	patience := time.After(cutOff)
	for range cap(stopped) {
		select {
		case <-stopped:
		case <-patience:
			return errors.New("stopping: requests still run, although they were cut off")
		}
	}
	return nil
}

// watch keeps the health service's word true.
func (s *Server) watch(ctx context.Context, state *health.Server, serving bool) {
	ticker := time.NewTicker(polling)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			serving = s.report(state, serving)
		}
	}
}

// report asks the key, the record, and whether the certificate in force stands, and
// tells the health service. A change of the key's or the certificate's is logged; the
// record speaks for itself.
func (s *Server) report(state *health.Server, before bool) bool {
	current := s.inForce()
	key, standing := current.key.Ready(), s.standing(current, s.clock())
	err := errors.Join(key, standing)
	s.overlook(current, err)
	status := healthv1.HealthCheckResponse_SERVING
	if err != nil || s.recorder.record.Ready() != nil {
		status = healthv1.HealthCheckResponse_NOT_SERVING
	}
	s.serving.Store(status == healthv1.HealthCheckResponse_SERVING)
	state.SetServingStatus("", status)
	state.SetServingStatus(roamsignv1.SignerService_ServiceDesc.ServiceName, status)
	state.SetServingStatus(FilesService, s.filesStatus())
	switch {
	case standing != nil && before:
		s.log.Error("nothing is signed: the certificate may not be signed under", slog.String("certificate", current.name()), slog.String("error", standing.Error()))
	case err != nil && before:
		s.log.Warn("the key cannot sign", slog.String("error", err.Error()))
	case err == nil && !before:
		s.log.Info("the key can sign again")
	}
	return err == nil
}
