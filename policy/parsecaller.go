package policy

import (
	"encoding/hex"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// everybody is the word that grants every taxpayer of the file.
const everybody = "all"

var (
	callerKeys = []string{"name", "taxpayers", "methods", "certificate", "limits", "method_limits", "reads", "auditor"}
	neededKeys = callerKeys[:3]
)

func (r *reading) caller(item *yaml.Node) {
	keys := r.mapping(item, "a caller", callerKeys)
	if keys == nil {
		return
	}
	for _, needed := range neededKeys {
		if keys[needed] == nil {
			r.fault(item, "the caller has no %s", needed)
		}
	}
	c := &caller{
		methods: r.methods(keys["methods"]),
		signs:   r.reach(keys["taxpayers"], "taxpayers"),
		reads:   r.reach(keys["reads"], "reads"),
		auditor: r.flag(keys["auditor"], "auditor"),
		limits:  r.limits(keys["limits"], "limits", callerLimits),
	}
	c.limits.Weight = max(c.limits.Weight, 1)
	r.methodLimits(keys["method_limits"], c)
	r.certificates(keys["certificate"], c)
	text, ok := r.text(keys["name"], "name")
	if !ok {
		return
	}
	name, err := ParseCaller(text)
	if err != nil {
		r.fault(keys["name"], "%v", err)
		return
	}
	if _, twice := r.policy.callers[name]; twice {
		r.fault(keys["name"], "caller %s stands in the list twice", name)
	}
	r.policy.callers[name] = c
	r.idle(keys, name, c)
}

// reach reads the taxpayers that something is granted for.
func (r *reading) reach(node *yaml.Node, what string) (to reach) {
	if node == nil {
		return to
	}
	if node.Kind == yaml.ScalarNode && node.Value == everybody {
		to.everybody = true
		return to
	}
	if !r.is(node, yaml.SequenceNode, what, "a list of TINs and groups, or the word "+everybody) {
		return to
	}
	var grouped bits
	var named []string
	to.some = r.members(node, what, func(item *yaml.Node) {
		g, ok := r.groups[item.Value]
		switch {
		case item.Value == everybody:
			r.fault(item, "the word %s stands by itself, not in a list", everybody)
		case !ok:
			r.fault(item, "there is no group %s", quoted(item.Value))
		case slices.Contains(named, item.Value):
			r.fault(item, "group %s stands in this list twice", item.Value)
		default:
			g.used = true
			named = append(named, item.Value)
			grouped = grouped.union(g.members)
		}
	})
	to.some = to.some.union(grouped)
	return to
}

func (r *reading) methods(node *yaml.Node) map[Method]Limits {
	granted := map[Method]Limits{}
	for _, item := range r.sequence(node, "methods") {
		name, ok := r.text(item, "the method")
		if !ok {
			continue
		}
		method, err := ParseMethod(name)
		if err != nil {
			r.fault(item, "%v", err)
			continue
		}
		if _, twice := granted[method]; twice {
			r.fault(item, "method %s is granted twice", method)
		}
		granted[method] = Limits{}
	}
	return granted
}

// certificates reads the fingerprints of those that a caller may use, one or a
// list of them. An empty list would be no wish that somebody has.
func (r *reading) certificates(node *yaml.Node, c *caller) {
	if node == nil {
		return
	}
	c.pinned, c.pinLine = true, node.Line
	items := []*yaml.Node{node}
	if node.Kind == yaml.SequenceNode {
		items = r.sequence(node, "certificate")
		if len(items) == 0 {
			r.fault(node, "the list of certificates is empty: name one, or leave the key out")
		}
	}
	for _, item := range items {
		text, ok := r.text(item, "certificate")
		if !ok {
			continue
		}
		// openssl puts colons between the bytes.
		sum, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
		if err != nil || len(sum) != len([32]byte{}) || [32]byte(sum) == [32]byte{} {
			r.fault(item, "%s is not the SHA-256 fingerprint of a certificate: 64 hexadecimal digits", quoted(text))
			continue
		}
		if slices.Contains(c.certificates, [32]byte(sum)) {
			r.fault(item, "certificate %s stands in this list twice", quoted(text))
		}
		c.certificates = append(c.certificates, [32]byte(sum))
	}
}
