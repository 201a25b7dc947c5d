package policy

import (
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

var taxpayerKeys = []string{"tin", "brn", "name", "intermediary", "from", "to", "rights"}

func (r *reading) taxpayer(item *yaml.Node) {
	keys := r.mapping(item, "a taxpayer", taxpayerKeys)
	if keys == nil {
		return
	}
	t := Taxpayer{BRN: r.brn(keys["brn"]), Name: r.name(keys["name"])}
	t.From = r.instant(keys["from"], "from", firstOf)
	t.To = r.instant(keys["to"], "to", lastOf)
	if !t.From.IsZero() && !t.To.IsZero() && !t.From.Before(t.To) {
		r.fault(keys["to"], "the representation ends before it begins")
	}
	if t.Intermediary = r.flag(keys["intermediary"], "intermediary"); t.Intermediary {
		r.intermediary(keys["intermediary"], t)
	}
	t.Rights = r.rights(keys["rights"], t.Intermediary)
	r.list(item, keys["tin"], t)
}

func (r *reading) brn(node *yaml.Node) string {
	number, ok := r.text(node, "brn")
	if ok && !brn.MatchString(number) {
		r.fault(node, "%s is not a business registration number: letters, digits and hyphens, at most 20", quoted(number))
	}
	return number
}

var brn = regexp.MustCompile(`^[0-9A-Za-z-]{1,20}$`)

// maxName bounds a taxpayer's name, in characters (the platform's own bound).
const maxName = 300

func (r *reading) name(node *yaml.Node) string {
	name, ok := r.text(node, "name")
	if ok && (utf8.RuneCountInString(name) > maxName ||
		strings.IndexFunc(name, func(c rune) bool { return !unicode.IsPrint(c) }) >= 0) {
		r.fault(node, "the name must be printable and at most %d characters", maxName)
	}
	return name
}

// intermediary judges the entry of the one that is the intermediary itself.
func (r *reading) intermediary(node *yaml.Node, t Taxpayer) {
	if other, twice := r.policy.Intermediary(); twice {
		r.fault(node, "there is an intermediary already, %s: one holds the certificate", other.TIN)
	}
	if t.BRN == "" {
		r.fault(node, "the intermediary needs its brn: its certificate carries it")
	}
}

// rights reads what the taxpayer lets the intermediary do; of an absent list,
// what a representation is for, and everything of the intermediary itself.
func (r *reading) rights(node *yaml.Node, itself bool) []Right {
	if node == nil && itself {
		return Rights()
	} else if node == nil {
		return []Right{Submit}
	}
	var given []Right
	for _, item := range r.sequence(node, "rights") {
		name, ok := r.text(item, "the right")
		if !ok {
			continue
		}
		right, err := ParseRight(name)
		switch {
		case err != nil:
			r.fault(item, "%v", err)
		case slices.Contains(given, right):
			r.fault(item, "right %s is given twice", right)
		default:
			given = append(given, right)
		}
	}
	slices.SortFunc(given, func(a, b Right) int { return slices.Index(rights, a) - slices.Index(rights, b) })
	return given
}

// list adds a taxpayer under its TIN.
func (r *reading) list(item, node *yaml.Node, t Taxpayer) {
	if node == nil {
		r.fault(item, "the taxpayer has no tin")
		return
	}
	tin, ok := r.tin(node)
	if !ok {
		return
	}
	if _, twice := r.policy.places[tin]; twice {
		r.fault(node, "taxpayer %s stands in the list twice", tin)
		return
	}
	t.TIN = tin
	r.policy.places[tin] = len(r.policy.taxpayers)
	r.policy.taxpayers = append(r.policy.taxpayers, t)
	r.policy.lines = append(r.policy.lines, node.Line)
}

func (r *reading) tin(node *yaml.Node) (TIN, bool) {
	text, ok := r.text(node, "the taxpayer")
	if !ok {
		return "", false
	}
	tin, err := ParseTIN(text)
	if err != nil {
		r.fault(node, "%v", err)
	}
	return tin, err == nil
}

// known reads the TIN of a taxpayer of this file, and returns its place.
func (r *reading) known(item *yaml.Node) (place int, ok bool) {
	if place, ok = r.policy.places[TIN(item.Value)]; ok && item.Kind == yaml.ScalarNode {
		return place, true
	}
	if tin, ok := r.tin(item); ok {
		r.fault(item, "taxpayer %s is not in the list of taxpayers", tin)
	}
	return 0, false
}

// members reads a list of TINs; others, if there is such a function, reads what
// begins with a small letter.
func (r *reading) members(node *yaml.Node, what string, others func(item *yaml.Node)) (listed bits) {
	for _, item := range r.sequence(node, what) {
		if others != nil && item.Kind == yaml.ScalarNode && item.Value != "" && 'a' <= item.Value[0] && item.Value[0] <= 'z' {
			others(item)
			continue
		}
		place, ok := r.known(item)
		if ok && listed.has(place) {
			r.fault(item, "taxpayer %s stands in this list twice", item.Value)
		} else if ok {
			listed = listed.with(place)
		}
	}
	return listed
}

// group is a named list of taxpayers.
type group struct {
	line    int
	members bits
	used    bool
}

// groupName keeps groups apart from TINs, which are capitals and digits.
var groupName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,63}$`)

func (r *reading) namedGroups(node *yaml.Node) {
	if node == nil || !r.is(node, yaml.MappingNode, "groups", "named lists") {
		return
	}
	for key, value := range r.pairs(node) {
		name := key.Value
		if !groupName.MatchString(name) || name == everybody {
			r.fault(key, "%s is not a group's name: lower-case letters, digits and hyphens, and not the word %s", quoted(name), everybody)
			continue
		}
		r.groups[name] = &group{line: key.Line, members: r.members(value, "group "+name, nil)}
	}
}
