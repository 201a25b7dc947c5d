package signer

import (
	"context"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

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

func TestOfTooManyNewcomersOneOfTheMostLeaves(t *testing.T) {
	const rush, slow = time.Millisecond, longEnough
	for _, row := range []struct {
		name string
		each time.Duration // between two of them
		from []string
		want []int // those that are closed
	}{
		{"as many as may be", slow, []string{"192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3", "192.0.2.2:1", "192.0.2.2:2"}, nil},
		{"one more from an address", slow, []string{"192.0.2.2:1", "192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3", "192.0.2.1:4"}, []int{1}},
		{"many more from an address", slow, []string{"192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3", "192.0.2.1:4", "192.0.2.1:5", "192.0.2.1:6"}, []int{0, 1, 2}},
		{"many more from an address, in a rush", rush, []string{"192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3", "192.0.2.1:4", "192.0.2.1:5", "192.0.2.1:6"}, []int{3, 4, 5}},
		{"one more in all", slow, []string{"192.0.2.9:1", "192.0.2.1:1", "192.0.2.1:2", "192.0.2.2:1", "192.0.2.2:2", "192.0.2.3:1"}, []int{1}},
		{"one more in all, in a rush", rush, []string{"192.0.2.9:1", "192.0.2.1:1", "192.0.2.1:2", "192.0.2.2:1", "192.0.2.2:2", "192.0.2.3:1"}, []int{2}},
		{"one more in all, each from elsewhere", slow, []string{"192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1", "192.0.2.4:1", "192.0.2.5:1", "192.0.2.6:1"}, []int{0}},
		{"IPv6 within 64 bits", slow, []string{"[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8::3]:1", "[2001:db8::4]:1", "[2001:db8:0:1::1]:1"}, []int{0}},
		{"IPv4 in either form", slow, []string{"192.0.2.1:1", "[::ffff:192.0.2.1]:1", "192.0.2.1:2", "[::ffff:192.0.2.1]:2"}, []int{0}},
	} {
		synctest.Test(t, func(t *testing.T) {
			n := newNewcomers(5, 3)
			var all []*visitor
			var came []*newcomer
			for _, from := range row.from {
				v := &visitor{from: from}
				all, came = append(all, v), append(came, n.add(v))
				time.Sleep(row.each) // of the bubble's clock
			}
			var got []int
			for i, v := range all {
				if v.gone != came[i].closed.Load() {
					t.Errorf("%s: number %d: closed is %v, told is %v", row.name, i, v.gone, came[i].closed.Load())
				}
				if v.gone {
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
		})
	}
}

func TestSilentPeersKeepNobodyOut(t *testing.T) {
	r := start(t, setting{})
	r.server.newcomers.mu.Lock()
	r.server.newcomers.each = 4
	r.server.newcomers.mu.Unlock()
	silent := make([]net.Conn, 6)
	for i := range silent {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", r.address)
		must(t, err)
		defer conn.Close()
		silent[i] = conn
	}
	for _, conn := range silent[4:] { // the last of a rush
		must(t, conn.SetReadDeadline(time.Now().Add(20*time.Second)))
		if _, err := conn.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
			t.Errorf("a silent connection beside four others: got %v, want it closed", err)
		}
	}
	r.journal.await(t, func(line map[string]any) bool {
		text, _ := line["error"].(string)
		return line["msg"] == "connection refused" && strings.Contains(text, "too many others were about to")
	})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	client := roamsignv1.NewSignerServiceClient(r.connect(r.client(erp)))
	if _, err := client.SignDigest(ctx, r.request(), grpc.WaitForReady(true)); err != nil {
		t.Errorf("a caller from the same address, once they have had their time: %v", err)
	}
}
