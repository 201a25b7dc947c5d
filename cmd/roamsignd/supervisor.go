package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"time"
)

// supervisor is systemd, as far as it wants to hear of us (sd_notify(3)): that
// the service is up, that it stops, and, again and again, that it is alive.
type supervisor struct {
	conn     net.Conn      // nil when nobody listens
	interval time.Duration // between signs of life; 0 when none are wanted
}

// newSupervisor reads what systemd gives a service of Type=notify and with
// WatchdogSec= in its environment.
func newSupervisor(getenv func(string) string) (*supervisor, error) {
	s := &supervisor{}
	address := getenv("NOTIFY_SOCKET")
	if address == "" {
		return s, nil
	}
	if pid := getenv("WATCHDOG_PID"); pid == "" || pid == strconv.Itoa(os.Getpid()) {
		if given := getenv("WATCHDOG_USEC"); given != "" {
			microseconds, err := strconv.ParseInt(given, 10, 64)
			if err != nil || microseconds < 2 {
				return nil, fmt.Errorf("WATCHDOG_USEC is %q, want a number of microseconds", given)
			}
			s.interval = time.Duration(microseconds) * time.Microsecond / 2
		}
	}
	var err error
	s.conn, err = net.DialUnix("unixgram", nil, &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("reaching systemd (NOTIFY_SOCKET): %w", err)
	}
	return s, nil
}

// tell is best effort: a supervisor that does not listen is no reason to fail.
func (s *supervisor) tell(state string) {
	if s.conn != nil {
		_, _ = s.conn.Write([]byte(state))
	}
}

// attend says that the service is up, and when ctx ends that it stops. Until the
// returned function is called it gives signs of life, unless the service hangs:
// then the supervisor shall kill and replace the process, since C code that does
// not return cannot be ended otherwise.
func (s *supervisor) attend(ctx context.Context, hung func() bool) (leave func()) {
	s.tell("READY=1")
	stopping := context.AfterFunc(ctx, func() { s.tell("STOPPING=1") })
	over := make(chan struct{})
	var feeding sync.WaitGroup
	if s.interval > 0 {
		feeding.Go(func() { s.feed(over, hung) })
	}
	return func() {
		close(over)
		feeding.Wait()
		stopping()
		if s.conn != nil {
			_ = s.conn.Close()
		}
	}
}

func (s *supervisor) feed(over <-chan struct{}, hung func() bool) {
	ticker := time.NewTicker(s.interval)
	defer ticker.Stop()
	for {
		if !hung() {
			s.tell("WATCHDOG=1")
		}
		select {
		case <-over:
			return
		case <-ticker.C:
		}
	}
}
