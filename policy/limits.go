package policy

import (
	"math"
	"slices"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"
)

// Limits are what one caller may take of one signer, by all methods, by the blind
// ones together, or by one.
// They narrow what a [Grant] allows and allow nothing by themselves. A field
// that is zero sets no limit.
type Limits struct {
	// Rate is in signatures a second. With it, Burst is at least 1: how many may
	// come at once after a pause.
	Rate  float64
	Burst int
	// Daily is in signatures a day, as [Day] counts days.
	Daily int
	// Concurrent is how many signatures may be in the making at a time.
	Concurrent int
	// Weight is the caller's share where several wait for the token, against
	// theirs: 1 or more. A method has none of its own (0).
	Weight int
}

// The most that a file may say: more is a slip of the keyboard.
const (
	maxRate       = 1e6
	maxDaily      = 1_000_000_000
	maxConcurrent = 1_000_000
	maxWeight     = 1000
)

var (
	methodKeys   = []string{"rate", "burst", "daily", "concurrent"}
	callerLimits = append(slices.Clone(methodKeys), "weight")
)

// limits reads what a caller may take, or (with the keys given) a method.
func (r *reading) limits(node *yaml.Node, what string, known []string) (l Limits) {
	if node == nil {
		return l
	}
	keys := r.mapping(node, what, known)
	l.Rate = r.rate(keys["rate"])
	l.Burst = r.count(keys["burst"], "burst", maxConcurrent)
	l.Daily = r.count(keys["daily"], "daily", maxDaily)
	l.Concurrent = r.count(keys["concurrent"], "concurrent", maxConcurrent)
	l.Weight = r.count(keys["weight"], "weight", maxWeight)
	switch {
	case keys["burst"] != nil && keys["rate"] == nil:
		r.fault(keys["burst"], "burst without a rate limits nothing")
	case l.Burst == 0:
		l.Burst = int(math.Ceil(l.Rate))
	}
	return l
}

// methodLimits reads what a caller may take by single methods.
func (r *reading) methodLimits(node *yaml.Node, c *caller) {
	if node == nil || !r.is(node, yaml.MappingNode, "method_limits", "a mapping of methods to their limits") {
		return
	}
	for key, value := range r.pairs(node) {
		method := Method(key.Value)
		if !slices.Contains(signing, method) && method != Blind {
			r.fault(key, "%s is not a method with limits: those are %s, and %s for %s together", quoted(key.Value), listed(signing), Blind, listed(blind))
			continue
		}
		limits := r.limits(value, "limits of "+string(method), methodKeys)
		switch {
		case method == Blind && c.mayAny(blind):
			c.blind = limits
		case method == Blind:
			r.warn(key.Line, "none of %s is granted, so the limits of %s are for nothing", listed(blind), Blind)
		case c.may(method):
			c.methods[method] = limits
		default:
			r.warn(key.Line, "method %s is not granted, so its limits are for nothing", method)
		}
	}
	r.uncapped(node, c)
}

// uncapped warns of a cap on one blind method, where the other, which signs just as
// blindly, is granted without.
func (r *reading) uncapped(node *yaml.Node, c *caller) {
	for i, method := range blind {
		other := blind[1-i]
		if c.may(method) && c.may(other) && c.methods[method] != (Limits{}) && c.methods[other] == (Limits{}) && c.blind == (Limits{}) {
			r.warn(node.Line, "method %s is capped, but %s, which is as blind, is not: %s caps both together", method, other, Blind)
		}
	}
}

// rate reads signatures a second; of an absent one, 0.
func (r *reading) rate(node *yaml.Node) float64 {
	text, ok := r.text(node, "rate")
	if !ok {
		return 0
	}
	rate, err := strconv.ParseFloat(text, 64)
	if err != nil || !(rate > 0 && rate <= maxRate) {
		r.fault(node, "rate must be a number of signatures a second above 0 and at most %d, not %s (left out: no limit)", int(maxRate), quoted(text))
		return 0
	}
	return rate
}

// count reads a whole number; of an absent one, 0.
func (r *reading) count(node *yaml.Node, what string, most int) int {
	text, ok := r.text(node, what)
	if !ok {
		return 0
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		r.fault(node, "%s must be a whole number from 1 to %d, not %s", what, most, quoted(text))
		return 0
	}
	return n
}

// Daily tells whether any caller has a daily quota, of whatever methods.
func (p *Policy) Daily() bool {
	if p == nil {
		return false
	}
	for _, c := range p.callers {
		if c.limits.Daily > 0 || c.blind.Daily > 0 {
			return true
		}
		for _, own := range c.methods {
			if own.Daily > 0 {
				return true
			}
		}
	}
	return false
}

// Day returns the first instant of the day in Malaysia that holds at, and the
// first one after it.
func Day(at time.Time) (begins, ends time.Time) {
	year, month, day := at.In(malaysia).Date()
	begins = time.Date(year, month, day, 0, 0, 0, 0, malaysia)
	return begins, begins.AddDate(0, 0, 1)
}
