package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"
)

// Bounds of the listener for metrics: a scraper or two, of which nobody need fear
// that they keep it busy.
const (
	scrapers     = 8
	scrapeHeader = 5 * time.Second
	scrapeTime   = 10 * time.Second
	scrapeIdle   = 2 * time.Minute
)

// checkMetrics refuses an address that others than this machine reach.
func checkMetrics(address string) error {
	if address == "" {
		return nil
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("must be HOST:PORT, such as 127.0.0.1:9464, not %q", address)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("%q is not a loopback address: metrics tell how much each caller has signed, and go over plain HTTP to whoever asks; have an agent or a proxy on this machine pass them on", host)
	}
	return nil
}

// listenMetrics opens the address, if there is one. Nil is none.
func listenMetrics(address string) (net.Listener, error) {
	if address == "" {
		return nil, nil //nolint:nilnil // nobody wants metrics
	}
	listener, err := listen(address)
	return listener, prefixed("metrics", err)
}

// serve answers scrapes on the listener, which it closes, until the function it
// returns is called. Without a listener it does nothing.
func (m *metrics) serve(listener net.Listener, now moment, log *slog.Logger) (stop func()) {
	if listener == nil {
		return func() {}
	}
	m.registry.MustRegister(now)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{
		ErrorLog: scrapeLog{log}, MaxRequestsInFlight: scrapers, Timeout: scrapeTime,
	}))
	server := &http.Server{
		Handler: mux, ReadHeaderTimeout: scrapeHeader, ReadTimeout: scrapeTime, WriteTimeout: 2 * scrapeTime, IdleTimeout: scrapeIdle,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	var answering sync.WaitGroup
	answering.Go(func() {
		if err := server.Serve(netutil.LimitListener(listener, scrapers)); !errors.Is(err, http.ErrServerClosed) {
			log.Error("metrics cannot be read any more", "error", err.Error())
		}
	})
	log.Info("metrics", "address", listener.Addr().String())
	return func() {
		_ = server.Close()
		answering.Wait()
	}
}

// scrapeLog logs what is wrong with the measurements.
type scrapeLog struct{ log *slog.Logger }

// Println is what promhttp calls.
func (l scrapeLog) Println(v ...any) { l.log.Error("gathering metrics", "error", fmt.Sprint(v...)) }
