package signer

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"path"
	"runtime/debug"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/roamsign/roamsign/internal/fault"
	"github.com/roamsign/roamsign/policy"
	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
)

// call is one RPC on its way: who makes it, and what its line in the log says.
// It belongs to the goroutine of its handler.
type call struct {
	caller      policy.Caller
	tin         policy.TIN
	id          requestID
	certificate *certificate // it began under; nil: before that mattered
	outcome     string       // of a call that gets an answer; empty: OK
	level       slog.Level
	attrs       []slog.Attr
	batch
}

type callKey struct{}

// callOf returns the call that [Server.unary] put into the context.
func callOf(ctx context.Context) *call { return ctx.Value(callKey{}).(*call) }

// ours tells the API's methods from those of the health and reflection
// services, which answer to any client with a certificate.
func ours(method string) bool {
	return strings.HasPrefix(method, "/"+roamsignv1.SignerService_ServiceDesc.ServiceName+"/")
}

// unary stands around every unary RPC: it identifies the caller, bounds the
// time, catches panics, turns the error into a status, and writes the one line.
func (s *Server) unary(ctx context.Context, in any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, s.config.Limits.Request)
	defer cancel()
	c := &call{}
	out, err := s.guarded(context.WithValue(ctx, callKey{}, c), c, in, handle)
	return out, s.finish(ctx, info.FullMethod, c, err, began)
}

func (s *Server) guarded(ctx context.Context, c *call, in any, handle grpc.UnaryHandler) (out any, err error) {
	defer recovered(&err)
	if c.caller, err = s.identifyPeer(ctx); err != nil {
		return nil, err
	}
	return handle(ctx, in)
}

// stream stands around health watches and reflection. It ends them when the
// service stops, since watches have no end of their own.
func (s *Server) stream(stopping context.Context) grpc.StreamServerInterceptor {
	return func(srv any, in grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
		began := time.Now()
		ctx, cancel := context.WithCancel(in.Context())
		defer cancel()
		defer context.AfterFunc(stopping, cancel)()
		c := &call{}
		_, err := s.guarded(ctx, c, nil, func(ctx context.Context, _ any) (any, error) {
			return nil, handle(srv, endingStream{ServerStream: in, ctx: ctx})
		})
		return s.finish(ctx, info.FullMethod, c, err, began)
	}
}

// endingStream is a stream with a context that ends sooner.
type endingStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s endingStream) Context() context.Context { return s.ctx }

// finish writes a call's line and returns what its caller is told. The health
// and reflection services are asked all the time and have statuses of their own:
// of them only our refusals and faults are written.
func (s *Server) finish(ctx context.Context, method string, c *call, err error, began time.Time) error {
	if _, faulty := errors.AsType[*fault.Error](err); !faulty && !ours(method) {
		return err
	}
	took := time.Since(began)
	s.tracer.ended(ctx, c, s.record(ctx, path.Base(method), c, err, took))
	s.observe(path.Base(method), c, err, took)
	if err != nil {
		return refuse(err, c.id).status()
	}
	return nil
}

// recovered turns a panic into an error of the service.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fault.New(fault.Internal, "panic: %v\n%s", p, debug.Stack())
	}
}

// record writes a request's line, and returns the outcome that it tells.
func (s *Server) record(ctx context.Context, method string, c *call, err error, took time.Duration) (outcome string) {
	outcome = cmp.Or(c.outcome, "OK")
	attrs := []slog.Attr{slog.String("method", method), slog.String("caller", string(c.caller))}
	if c.tin != "" {
		attrs = append(attrs, slog.String("tin", string(c.tin)))
	}
	if c.id != "" {
		attrs = append(attrs, slog.String("request_id", string(c.id)))
	}
	attrs = append(attrs, slog.Duration("duration", took))
	if err != nil {
		kind := kindOf(err)
		outcome, c.level = kind.Reason(), max(c.level, severity(kind))
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	attrs = append(attrs, slog.String("outcome", outcome))
	s.log.LogAttrs(ctx, c.level, "request", append(attrs, c.attrs...)...)
	return outcome
}

// severity is the level of a request's line: what an operator must look into
// stands out from what callers do wrong.
func severity(kind fault.Kind) slog.Level {
	if kind == fault.Internal || kind == fault.SignatureWrong {
		return slog.LevelError
	}
	return slog.LevelInfo
}
