package signer

import (
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	roamsignv1 "github.com/roamsign/roamsign/proto/roamsign/v1"
)

// visitor is a connection from an address.
type visitor struct {
	net.Conn
	from string
	gone bool
}

func (p *visitor) RemoteAddr() net.Addr {
	address, err := net.ResolveTCPAddr("tcp", p.from)
	if err != nil {
		panic(err)
	}
	return address
}

func (p *visitor) Close() error {
	p.gone = true
	return nil
}

func TestOfTooManyNewcomersTheOldestOfTheMostLeaves(t *testing.T) {
	for _, row := range []struct {
		name string
		from []string
		want []int // those that are closed
	}{
		{"as many as may be", []string{"192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3", "192.0.2.2:1", "192.0.2.2:2"}, nil},
		{"one more from an address", []string{"192.0.2.2:1", "192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3", "192.0.2.1:4"}, []int{1}},
		{"many more from an address", []string{"192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3", "192.0.2.1:4", "192.0.2.1:5", "192.0.2.1:6"}, []int{0, 1, 2}},
		{"one more in all", []string{"192.0.2.9:1", "192.0.2.1:1", "192.0.2.1:2", "192.0.2.2:1", "192.0.2.2:2", "192.0.2.3:1"}, []int{1}},
		{"one more in all, each from elsewhere", []string{"192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1", "192.0.2.4:1", "192.0.2.5:1", "192.0.2.6:1"}, []int{0}},
		{"IPv6 within 64 bits", []string{"[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8::3]:1", "[2001:db8::4]:1", "[2001:db8:0:1::1]:1"}, []int{0}},
		{"IPv4 in either form", []string{"192.0.2.1:1", "[::ffff:192.0.2.1]:1", "192.0.2.1:2", "[::ffff:192.0.2.1]:2"}, []int{0}},
	} {
		n := newNewcomers(5, 3)
		var all []*visitor
		var came []*newcomer
		for _, from := range row.from {
			p := &visitor{from: from}
			all, came = append(all, p), append(came, n.add(p))
		}
		var got []int
		for i, p := range all {
			if p.gone != came[i].closed.Load() {
				t.Errorf("%s: number %d: closed is %v, told is %v", row.name, i, p.gone, came[i].closed.Load())
			}
			if p.gone {
				got = append(got, i)
			}
		}
		if !slices.Equal(got, row.want) {
			t.Errorf("%s: closed %v, want %v", row.name, got, row.want)
		}
		for _, each := range came {
			n.remove(each)
			n.remove(each) // twice does no harm
		}
		if len(n.line) != 0 || len(n.by) != 0 {
			t.Errorf("%s: in the end there are %d, from %v", row.name, len(n.line), n.by)
		}
	}
}

func TestSilentPeersKeepNobodyOut(t *testing.T) {
	r := start(t, setting{})
	r.server.newcomers.mu.Lock()
	r.server.newcomers.each = 4
	r.server.newcomers.mu.Unlock()
	silent := make([]net.Conn, 8)
	for i := range silent {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", r.address)
		must(t, err)
		defer conn.Close()
		silent[i] = conn
	}
	for _, conn := range silent[:4] { // the oldest
		must(t, conn.SetReadDeadline(time.Now().Add(20*time.Second)))
		if _, err := conn.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
			t.Errorf("a silent connection, with four younger ones: got %v, want it closed", err)
		}
	}
	r.journal.await(t, func(line map[string]any) bool {
		text, _ := line["error"].(string)
		return line["msg"] == "connection refused" && strings.Contains(text, "for those who came after it")
	})
	client := roamsignv1.NewSignerServiceClient(r.connect(r.client(erp)))
	if _, err := client.SignDigest(t.Context(), r.request()); err != nil {
		t.Errorf("a caller beside them: %v", err)
	}
}
