package policy

import (
	"iter"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// is tells whether a node is of the kind, and reports it if not.
func (r *reading) is(node *yaml.Node, kind yaml.Kind, what, wanted string) bool {
	switch {
	case node.Kind == yaml.AliasNode || node.Anchor != "":
		r.fault(node, "anchors and aliases are not allowed here")
	case node.Style&yaml.TaggedStyle != 0:
		r.fault(node, "tags such as %s are not allowed here", quoted(node.Tag))
	case node.Kind != kind:
		r.fault(node, "%s must be %s", what, wanted)
	default:
		return true
	}
	return false
}

// pairs yields the keys and values of a mapping; a key given twice is reported
// and left out.
func (r *reading) pairs(node *yaml.Node) iter.Seq2[*yaml.Node, *yaml.Node] {
	return func(yield func(key, value *yaml.Node) bool) {
		seen := map[string]bool{}
		for i := 0; i+1 < len(node.Content); i += 2 {
			key := node.Content[i]
			if !r.is(key, yaml.ScalarNode, "a key", "a word") {
				continue
			}
			if seen[key.Value] {
				r.fault(key, "the key %s stands here twice", quoted(key.Value))
				continue
			}
			seen[key.Value] = true
			if !yield(key, node.Content[i+1]) {
				return
			}
		}
	}
}

// mapping returns the values by key, or nil if node is not a mapping. Keys that
// are not among those known are reported.
func (r *reading) mapping(node *yaml.Node, what string, known []string) map[string]*yaml.Node {
	if !r.is(node, yaml.MappingNode, what, "a mapping with the keys "+strings.Join(known, ", ")) {
		return nil
	}
	values := map[string]*yaml.Node{}
	for key, value := range r.pairs(node) {
		if !slices.Contains(known, key.Value) {
			r.fault(key, "unknown key %s in %s: the keys are %s", quoted(key.Value), what, strings.Join(known, ", "))
			continue
		}
		values[key.Value] = value
	}
	return values
}

// sequence returns the items of a list; of an absent one, none.
func (r *reading) sequence(node *yaml.Node, what string) []*yaml.Node {
	if node == nil || !r.is(node, yaml.SequenceNode, what, "a list") {
		return nil
	}
	return node.Content
}

// text returns a scalar as it is written, and whether there is one. An empty
// value is reported: a key without one is more likely a slip than a wish.
func (r *reading) text(node *yaml.Node, what string) (string, bool) {
	if node == nil || !r.is(node, yaml.ScalarNode, what, "a single value") {
		return "", false
	}
	if node.Value == "" || node.Tag == "!!null" {
		r.fault(node, "%s is empty", what)
		return "", false
	}
	return node.Value, true
}

// flag reads true or false; of an absent one, false.
func (r *reading) flag(node *yaml.Node, what string) bool {
	text, ok := r.text(node, what)
	if ok && text != "true" && text != "false" {
		r.fault(node, "%s must be true or false, not %s", what, quoted(text))
	}
	return text == "true"
}

// malaysia is the time zone of dates: UTC+8 all the year, as LHDN counts days.
var malaysia = time.FixedZone("MYT", 8*60*60)

// firstOf and lastOf turn a day in Malaysia into a window's bounds: its first
// instant, and the first one after it.
func firstOf(day time.Time) time.Time { return day }
func lastOf(day time.Time) time.Time  { return day.AddDate(0, 0, 1) }

// instant reads a date or an RFC 3339 instant; of an absent one, the zero time.
func (r *reading) instant(node *yaml.Node, what string, bound func(day time.Time) time.Time) time.Time {
	value, ok := r.text(node, what)
	if !ok {
		return time.Time{}
	}
	at, err := time.ParseInLocation(time.DateOnly, value, malaysia)
	if err == nil {
		at = bound(at)
	} else if at, err = time.Parse(time.RFC3339, value); err != nil {
		r.fault(node, "%s must be a date (2025-01-31) or an instant (2025-01-31T09:00:00+08:00), not %s", what, quoted(value))
		return time.Time{}
	}
	if at.Year() < firstYear {
		r.fault(node, "%s lies before the year %d", what, firstYear)
	}
	return at
}

// firstYear is the earliest that is taken for no slip: no taxpayer was
// represented before it. The year 1 would even be the zero time, which means
// unbounded.
const firstYear = 2000
