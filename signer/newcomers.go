package signer

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// How many connections may be about to prove who they are. A client takes some
// milliseconds for it, so that these are many clients at once.
const (
	mostNewcomers    = 256         // in all
	mostFromAnywhere = 64          // from one address
	longEnough       = time.Second // after which one makes room for who came later
)

// newcomers are the connections that have not proven yet who they are, so that
// peers without a certificate keep nobody out: of too many, one from that address
// is closed, or else from the address that has most of them. It is the oldest, if
// it has had its time; in a rush of clients, who are all young, it is the last.
// Safe for concurrent use.
type newcomers struct {
	all, each int

	mu   sync.Mutex
	line []*newcomer // in the order of their coming
	by   map[netip.Prefix]int
	none *sync.Cond // there are none any more
}

func newNewcomers(all, each int) *newcomers {
	n := &newcomers{all: all, each: each, by: map[netip.Prefix]int{}}
	n.none = sync.NewCond(&n.mu)
	return n
}

// newcomer is a connection that is accepted. It is one of them until it is proven,
// or closed.
type newcomer struct {
	net.Conn
	among  *newcomers
	from   netip.Prefix
	since  time.Time
	closed atomic.Bool // since there were too many
}

// Close closes the connection.
func (n *newcomer) Close() error {
	n.among.remove(n)
	return n.Conn.Close()
}

// listen makes what a listener accepts newcomers.
func (n *newcomers) listen(listener net.Listener) net.Listener {
	return &reception{Listener: listener, newcomers: n}
}

// Reception makes newcomers of those whom a listener beside the service's own
// accepts: a number of their own, as many as the service has. They are until [Proven]
// is told of them, or they are closed.
func Reception(listener net.Listener) net.Listener {
	return newNewcomers(mostNewcomers, mostFromAnywhere).listen(listener)
}

// Proven tells that a connection from a [Reception] has proven who it is.
func Proven(conn net.Conn) {
	if n, ok := conn.(*newcomer); ok {
		n.among.remove(n)
	}
}

type reception struct {
	net.Listener
	newcomers *newcomers
}

func (r *reception) Accept() (net.Conn, error) {
	conn, err := r.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return r.newcomers.add(conn), nil
}

func (n *newcomers) add(conn net.Conn) *newcomer {
	added := &newcomer{Conn: conn, among: n, from: network(conn.RemoteAddr()), since: time.Now()}
	n.mu.Lock()
	n.line = append(n.line, added)
	n.by[added.from]++
	leaves := n.tooMany(added.from)
	n.mu.Unlock()
	if leaves != nil {
		leaves.closed.Store(true)
		_ = leaves.Close()
	}
	return added
}

// tooMany returns who must leave after one came from there.
func (n *newcomers) tooMany(from netip.Prefix) *newcomer {
	switch {
	case n.by[from] > n.each:
	case len(n.line) > n.all:
		from = n.line[0].from
		for _, each := range n.line {
			if n.by[each.from] > n.by[from] {
				from = each.from
			}
		}
	default:
		return nil
	}
	var last *newcomer
	for _, each := range n.line {
		if each.from == from {
			if time.Since(each.since) >= longEnough {
				return each
			}
			last = each
		}
	}
	return last
}

// remove takes one out that is proven or closed.
func (n *newcomers) remove(gone *newcomer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	at := slices.Index(n.line, gone)
	if at < 0 {
		return
	}
	if n.line = slices.Delete(n.line, at, at+1); len(n.line) == 0 {
		n.none.Broadcast()
	}
	if n.by[gone.from]--; n.by[gone.from] == 0 {
		delete(n.by, gone.from)
	}
}

// wait returns once there are none. It takes no longer than handshake, when nobody
// comes any more.
func (n *newcomers) wait() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for len(n.line) > 0 {
		n.none.Wait()
	}
}

// network is what counts as one address: of IPv6, what a single host commonly has
// to choose from, 64 bits.
func network(address net.Addr) netip.Prefix {
	tcp, ok := address.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := tcp.AddrPort().Addr().Unmap()
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	prefix, _ := ip.Prefix(bits) // the zero one for no address at all
	return prefix
}
