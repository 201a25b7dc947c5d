package sandbox

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Kind is a way in which a request goes wrong.
type Kind string

// The kinds of fault.
const (
	// TooMany answers 429 with Retry-After.
	TooMany Kind = "too-many"
	// Duplicate answers 422 with Retry-After, whatever was sent before.
	Duplicate Kind = "duplicate"
	// Fail answers Status: 500 and 503 with LHDN's error, 502 and 504 with a page
	// of HTML, as a gateway in front of it does.
	Fail Kind = "fail"
	// Slow waits for Delay, or until the caller has gone.
	Slow Kind = "slow"
	// Cut ends the connection without a reply.
	Cut Kind = "cut"
	// Half ends the connection in the middle of the reply; it is always Applied.
	Half Kind = "half"
	// Expire makes all tokens that are out void, before the request is looked at.
	Expire Kind = "expire"
)

// kinds are all of them, with whether they may come after the work.
var kinds = []struct {
	kind    Kind
	applies bool
}{{TooMany, false}, {Duplicate, false}, {Fail, true}, {Slow, true}, {Cut, true}, {Half, true}, {Expire, false}}

// Fault is a rule by which requests go wrong. The zero Fault is none.
type Fault struct {
	// On is the endpoint it concerns, or [Any]. Required.
	On Endpoint `json:"on" yaml:"on"`
	// Kind is what happens. Required.
	Kind Kind `json:"kind" yaml:"kind"`
	// Applied has the request done first: what it asked for happens, and only the
	// reply suffers. For Fail, Slow and Cut. A submission with Cut and Applied is
	// accepted, and its reply lost.
	Applied bool `json:"applied,omitempty" yaml:"applied"`
	// Every is which of the matching requests it strikes: each third with 3.
	// Default 1, each.
	Every int `json:"every,omitempty" yaml:"every"`
	// Times is how often it strikes before it is gone. Default 0, forever.
	Times int `json:"times,omitempty" yaml:"times"`
	// Status is that of Fail: 500, 502, 503 (the default) or 504.
	Status int `json:"status,omitempty" yaml:"status"`
	// Delay is what Slow waits for, and what TooMany, Duplicate and 503 tell in
	// Retry-After. Defaults: 5s for Slow, 1s for TooMany and Duplicate, none for
	// 503. In JSON it is in nanoseconds.
	Delay time.Duration `json:"delay,omitempty" yaml:"delay"`
}

// String writes the fault as [ParseFault] reads it, without Status and Delay, or ""
// for none.
func (f Fault) String() string {
	if f.Kind == "" {
		return ""
	}
	s := string(f.On) + ":" + string(f.Kind)
	if f.Applied {
		s += "-applied"
	}
	if f.Every > 1 {
		s += "/" + strconv.Itoa(f.Every)
	}
	if f.Times > 0 {
		s += "*" + strconv.Itoa(f.Times)
	}
	return s
}

// ParseFault reads a fault from ENDPOINT:KIND[-applied][/EVERY][*TIMES], such as
// "submit:cut-applied/5" for each fifth submission accepted and its reply lost.
func ParseFault(s string) (Fault, error) {
	on, rest, found := strings.Cut(s, ":")
	if !found {
		return Fault{}, fmt.Errorf("%q is no fault: write ENDPOINT:KIND[-applied][/EVERY][*TIMES], such as submit:cut-applied/5", s)
	}
	f := Fault{On: Endpoint(on)}
	rest, times, limited := strings.Cut(rest, "*")
	rest, every, spaced := strings.Cut(rest, "/")
	kind, applied := strings.CutSuffix(rest, "-applied")
	f.Kind, f.Applied = Kind(kind), applied
	for _, number := range []struct {
		given bool
		text  string
		to    *int
	}{{limited, times, &f.Times}, {spaced, every, &f.Every}} {
		if !number.given {
			continue
		}
		n, err := strconv.Atoi(number.text)
		if err != nil || n < 1 {
			return Fault{}, fmt.Errorf("%q is no fault: %q is no number above 0", s, number.text)
		}
		*number.to = n
	}
	if err := f.Validate(); err != nil {
		return Fault{}, fmt.Errorf("%q is no fault: %w", s, err)
	}
	return f, nil
}

// Validate refuses what makes no sense.
func (f Fault) Validate() error {
	at := slices.IndexFunc(kinds, func(k struct {
		kind    Kind
		applies bool
	}) bool {
		return k.kind == f.Kind
	})
	switch {
	case f.On != Any && !known(f.On):
		return fmt.Errorf("%q is no endpoint; they are any, %s", f.On, names())
	case at < 0:
		return fmt.Errorf("%q is no kind of fault; they are too-many, duplicate, fail, slow, cut, half and expire", f.Kind)
	case f.Applied && !kinds[at].applies:
		return fmt.Errorf("%s cannot come after the work", f.Kind)
	case f.Kind == Duplicate && f.On != Submit:
		return errors.New("duplicate is of submit alone")
	case f.Status != 0 && (f.Kind != Fail || !slices.Contains([]int{500, 502, 503, 504}, f.Status)):
		return errors.New("status goes with fail, and is 500, 502, 503 or 504")
	case f.Every < 0 || f.Times < 0 || f.Delay < 0:
		return errors.New("every, times and delay must not be negative")
	}
	return nil
}

// strike does what the fault is, or tells by what the reply is replaced. It does not
// return where the connection is cut.
func (f Fault) strike(c *call) (instead reply, stop bool) {
	switch f.Kind {
	case TooMany:
		return tooMany(max(f.Delay, time.Second)), true
	case Duplicate:
		return duplicate(max(f.Delay, time.Second)), true
	case Fail:
		return f.fail(), true
	case Cut:
		panic(http.ErrAbortHandler)
	case Slow:
		delay := f.Delay
		if delay == 0 {
			delay = 5 * time.Second
		}
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-c.Context().Done():
		}
	}
	return reply{}, false
}

func (f Fault) fail() reply {
	switch f.Status {
	case http.StatusInternalServerError:
		return refuse(f.Status, "InternalServerError", "the sandbox was told to fail")
	case http.StatusBadGateway, http.StatusGatewayTimeout:
		return reply{status: f.Status, page: fmt.Sprintf("<html><head><title>%d %s</title></head><body>The sandbox was told to fail.</body></html>\n", f.Status, http.StatusText(f.Status))}
	}
	return refuse(http.StatusServiceUnavailable, "ServiceUnavailable", "the sandbox was told to fail").after(f.Delay)
}

// faults are those that are set. The first that strikes a request is its own.
type faults struct {
	mu  sync.Mutex
	set []*armed
}

// armed is a fault that counts.
type armed struct {
	Fault
	seen, struck int
}

// maxFaults bounds how many may be set at a time.
const maxFaults = 100

// Inject sets a fault, beside those that are set.
func (p *Platform) Inject(f Fault) error {
	if err := f.Validate(); err != nil {
		return fmt.Errorf("injecting a fault: %w", err)
	}
	if f.Kind == Half {
		f.Applied = true
	}
	p.faults.mu.Lock()
	defer p.faults.mu.Unlock()
	if len(p.faults.set) == maxFaults {
		return fmt.Errorf("injecting a fault: %d are set already", maxFaults)
	}
	p.faults.set = append(p.faults.set, &armed{Fault: f})
	return nil
}

// Clear removes all faults.
func (p *Platform) Clear() {
	p.faults.mu.Lock()
	defer p.faults.mu.Unlock()
	p.faults.set = nil
}

// Faults returns those that are set.
func (p *Platform) Faults() []Fault {
	p.faults.mu.Lock()
	defer p.faults.mu.Unlock()
	all := make([]Fault, len(p.faults.set))
	for i, a := range p.faults.set {
		all[i] = a.Fault
	}
	return all
}

// next counts a request and returns the fault that strikes it, or none.
func (f *faults) next(on Endpoint) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	var strikes Fault
	f.set = slices.DeleteFunc(f.set, func(a *armed) bool {
		if a.On != Any && a.On != on {
			return false
		}
		a.seen++
		if strikes.Kind != "" || a.seen%max(a.Every, 1) != 0 {
			return false
		}
		a.struck++
		strikes = a.Fault
		return a.Times > 0 && a.struck >= a.Times
	})
	return strikes
}
