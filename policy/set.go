package policy

// reach is a set of taxpayers, by their places in the policy. The zero reach is
// empty.
type reach struct {
	everybody bool // every taxpayer of the file
	some      bits
}

func (r reach) has(place int) bool { return r.everybody || r.some.has(place) }

func (r reach) empty() bool { return !r.everybody && len(r.some) == 0 }

// bits has bit n%64 of word n/64 set for each member n. So a thousand callers
// with ten thousand taxpayers each take a megabyte, and a lookup one step.
type bits []uint64

func (b bits) has(n int) bool { return n/64 < len(b) && b[n/64]&(1<<(n%64)) != 0 }

// with returns b with n added; it may change b.
func (b bits) with(n int) bits {
	for len(b) <= n/64 {
		b = append(b, 0)
	}
	b[n/64] |= 1 << (n % 64)
	return b
}

// union returns b with all of more added; it may change b.
func (b bits) union(more bits) bits {
	for len(b) < len(more) {
		b = append(b, 0)
	}
	for i, word := range more {
		b[i] |= word
	}
	return b
}
