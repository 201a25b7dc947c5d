package sandbox

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/roamsign/roamsign/myinvois"
)

// state cancels a document, or asks for its rejection.
func (p *Platform) state(c *call) reply {
	wanted, refused := p.stateRequest(c)
	if refused != nil {
		return *refused
	}
	d := p.store.document(c.PathValue("uuid"))
	if d == nil {
		return refuse(http.StatusNotFound, "NotFound", "there is no such document").about("uuid")
	}
	right, party := MayCancel, d.facts.TIN
	if c.endpoint == Reject {
		right, party = MayReject, d.receiver().tin
	}
	if party != c.who.tin || !p.may(c.who, right, c.now) || right == MayCancel && c.who.behalf && d.who != c.who {
		return refuse(http.StatusForbidden, "Forbidden", "the document is another taxpayer's, or the intermediary may not do this")
	}
	if d.status(c.now, time.Time{}) != valid {
		return refuse(http.StatusBadRequest, "IncorrectState", "the document is not valid").about("uuid")
	}
	if c.now.Sub(d.ready) > changeWindow {
		return refuse(http.StatusBadRequest, "OperationPeriodOver", "more than 72 hours have passed since the document became valid").about("uuid")
	}
	if p.referred(d, c.now) {
		return refuse(http.StatusBadRequest, "ActiveReferencingDocuments", "other documents refer to it; cancel those first").about("uuid")
	}
	return p.change(c, d, wanted.Reason)
}

// changeWindow is how long after its validation a document can be cancelled or
// rejected.
const changeWindow = 72 * time.Hour

func (p *Platform) stateRequest(c *call) (wanted myinvois.StateRequest, refused *reply) {
	if err := json.Unmarshal(c.body, &wanted); err != nil {
		return wanted, new(refuse(http.StatusBadRequest, "BadRequest", "the body must be an object with status and reason"))
	}
	if !strings.EqualFold(wanted.Status, "cancelled") && c.endpoint != Reject {
		return wanted, new(refuse(http.StatusBadRequest, "BadArgument", "status must be cancelled or rejected").about("status"))
	}
	if n := len([]rune(wanted.Reason)); n == 0 || n > myinvois.MaxReason {
		return wanted, new(refuse(http.StatusBadRequest, "BadArgument", "reason must have 1 to %d characters", myinvois.MaxReason).about("reason"))
	}
	return wanted, nil
}

// referred tells whether a document that is valid refers to this one.
func (p *Platform) referred(d *document, now time.Time) bool {
	for _, other := range p.store.referrers(d.uuid) {
		if other.status(now, p.store.changes(other).cancelled) == valid {
			return true
		}
	}
	return false
}

// change does it, once.
func (p *Platform) change(c *call, d *document, reason string) reply {
	status := stateCancelled
	done := p.store.cancel
	if c.endpoint == Reject {
		status, done = "Requested for Rejection", p.store.reject
	}
	if !done(d, c.now, reason) {
		return refuse(http.StatusBadRequest, "IncorrectState", "the document is cancelled, or its rejection was asked for, already").about("uuid")
	}
	return reply{status: http.StatusOK, body: myinvois.StateAnswer{UUID: d.uuid, Status: status}}
}
