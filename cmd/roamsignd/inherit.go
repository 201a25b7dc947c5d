package main

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"
)

// firstInherited is the file descriptor of the first socket that systemd hands to a
// service (sd_listen_fds(3)).
const firstInherited = 3

// listener is the socket to serve on: the one that systemd listens on and hands to
// the service, if it does, since that one outlives the process, so that those who
// connect while a new program takes over wait, and are not refused. Else one of our
// own on the address. The caller closes it, or hands it to serve.
func listener(getenv func(string) string, address string) (net.Listener, error) {
	if getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return listen(address)
	}
	if n := getenv("LISTEN_FDS"); n != "1" {
		return nil, fmt.Errorf("systemd hands over %s sockets (LISTEN_FDS), and the service wants one: that of listen", n)
	}
	syscall.CloseOnExec(firstInherited)
	file := os.NewFile(firstInherited, "the socket of systemd")
	defer file.Close()
	socket, err := net.FileListener(file)
	if err != nil {
		return nil, fmt.Errorf("taking over systemd's socket: %w", err)
	}
	if _, ok := socket.(*net.TCPListener); !ok {
		_ = socket.Close()
		return nil, fmt.Errorf("systemd's socket is one of %s, and gRPC wants TCP", socket.Addr().Network())
	}
	return socket, nil
}
