package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/roamsign/roamsign/audit"
	"github.com/roamsign/roamsign/signer"
)

// Bounds of the listener for those who check the log: they read one file after the
// other, and there are few of them.
const (
	verifiersMost   = 64
	verifiersHeader = 10 * time.Second
	verifiersTime   = time.Minute
	verifiersIdle   = time.Minute
)

// checkListen refuses what is no address.
func (a *auditing) checkListen() error {
	if a.Listen == "" {
		return nil
	}
	if _, port, err := net.SplitHostPort(a.Listen); err != nil || port == "" {
		return fmt.Errorf("listen: must be HOST:PORT, such as 127.0.0.1:7444, not %q", a.Listen)
	}
	return nil
}

// listenBeside opens the addresses beside the service's own: those of the metrics
// and of the log. Nil is none. [closeAll] closes them.
func (s *setup) listenBeside(log *slog.Logger) (scrapes, checks net.Listener, err error) {
	if scrapes, err = listenMetrics(s.Metrics); err != nil || s.Audit.Listen == "" {
		return scrapes, nil, err
	}
	if checks, err = listen(s.Audit.Listen); err != nil {
		closeAll(scrapes)
		return nil, nil, prefixed("audit.listen", err)
	}
	log.Info("audit log", "address", checks.Addr().String())
	return scrapes, checks, nil
}

// closeAll closes the listeners that there are.
func closeAll(listeners ...net.Listener) {
	for _, listener := range listeners {
		if listener != nil {
			_ = listener.Close()
		}
	}
}

// serveAudit serves the log on the listener, which it closes, until the function it
// returns is called: to whom the signer lets connect, and entries to auditors. What
// changes in credentials and policy is in force with the next request. Without a
// listener it does nothing.
func serveAudit(listener net.Listener, source audit.Source, to *signer.Server, log *slog.Logger) (stop func()) {
	if listener == nil {
		return func() {}
	}
	files := audit.Handler(source, func(r *http.Request) bool { return to.Audits(r.TLS) })
	present := newGuests(to, log)
	server := &http.Server{
		ConnState: present.noted,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if to.Welcomes(r.TLS) != nil { // and it is about to be cut
				w.Header().Set("Connection", "close")
				http.Error(w, "this certificate may not connect any more", http.StatusUnauthorized)
				return
			}
			files.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: verifiersHeader, ReadTimeout: verifiersHeader, WriteTimeout: verifiersTime, IdleTimeout: verifiersIdle,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelInfo),
	}
	entrance := openDoor(listener, present, log)
	var answering sync.WaitGroup
	answering.Go(func() {
		if err := server.Serve(entrance); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the audit log cannot be read any more", "error", err.Error())
		}
	})
	watching, end := context.WithCancel(context.Background())
	answering.Go(func() { present.watch(watching) })
	return func() {
		end()
		ctx, cancel := context.WithTimeout(context.Background(), auditTimeout)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			_ = server.Close()
		}
		answering.Wait()
		entrance.under.Wait()
	}
}
