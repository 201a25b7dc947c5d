package sandbox

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/roamsign/roamsign/myinvois"
)

// Endpoint names one of the platform's APIs, as limits and faults do.
type Endpoint string

// The endpoints. [Any] stands for all of them, in faults.
const (
	Any        Endpoint = "any"
	Login      Endpoint = "login"
	Submit     Endpoint = "submit"
	Submission Endpoint = "submission"
	Details    Endpoint = "details"
	Raw        Endpoint = "raw"
	Cancel     Endpoint = "cancel"
	Reject     Endpoint = "reject"
	Recent     Endpoint = "recent"
	Search     Endpoint = "search"
	TIN        Endpoint = "tin"
	Missing    Endpoint = "missing" // of LHDN's APIs, those that the sandbox has not
)

// endpoint is an API: its paths, how long a body it takes, how many requests a
// minute and client ID LHDN allows (SDK, "Integration Practices", rate limits), and
// what it does.
type endpoint struct {
	name     Endpoint
	patterns []string
	most     int64
	rate     int
	do       func(*Platform, *call) reply
}

// maxSubmission is LHDN's 5 MB, taken as MiB, of the request's body.
const maxSubmission = 5 << 20

// maxOther is the longest body that any other API has a use for.
const maxOther = 64 << 10

// endpoints are all of them. Cancel and Reject have one path: the body tells which.
var endpoints = []endpoint{
	{Login, []string{"POST " + myinvois.PathLogin}, maxOther, 12, (*Platform).login},
	{Submit, []string{"POST " + myinvois.PathSubmissions + "{$}", "POST " + strings.TrimSuffix(myinvois.PathSubmissions, "/")}, maxSubmission, 100, (*Platform).submit},
	{Submission, []string{"GET " + myinvois.PathSubmission}, maxOther, 300, (*Platform).submission},
	{Details, []string{"GET " + myinvois.PathDetails}, maxOther, 125, (*Platform).details},
	{Raw, []string{"GET " + myinvois.PathRaw}, maxOther, 60, (*Platform).raw},
	{Cancel, []string{"PUT " + myinvois.PathState}, maxOther, 12, (*Platform).state},
	{Reject, nil, maxOther, 12, (*Platform).state},
	{Recent, []string{"GET " + myinvois.PathRecent}, maxOther, 12, (*Platform).recent},
	{Search, []string{"GET /api/v1.0/documents/search"}, maxOther, 12, (*Platform).search},
	{TIN, []string{"GET " + myinvois.PathValidateTIN}, maxOther, 60, (*Platform).validateTIN},
	{Missing, []string{
		"GET /api/v1.0/taxpayer/search/tin", "GET /api/v1.0/taxpayer/qrcodeinfo/{code}", "GET /api/v1.0/notifications/taxpayer",
		"GET /api/v1.0/documenttypes", "GET /api/v1.0/documenttypes/{id}", "GET /api/v1.0/documenttypes/{id}/versions/{version}",
	}, maxOther, 60, (*Platform).missing},
}

// which is the endpoint that a body is for.
func (e endpoint) which(body []byte) Endpoint {
	if e.name != Cancel {
		return e.name
	}
	var wanted struct{ Status string }
	if json.Unmarshal(body, &wanted) == nil && strings.EqualFold(wanted.Status, "rejected") {
		return Reject
	}
	return Cancel
}

// published is LHDN's limit of an endpoint, in requests a minute.
func published(name Endpoint) int {
	return endpoints[slices.IndexFunc(endpoints, func(e endpoint) bool { return e.name == name })].rate
}

func known(name Endpoint) bool {
	return slices.ContainsFunc(endpoints, func(e endpoint) bool { return e.name == name })
}

// names are the endpoints' names, for messages.
func names() string {
	all := make([]string, len(endpoints))
	for i, e := range endpoints {
		all[i] = string(e.name)
	}
	return strings.Join(all, ", ")
}

// read reads a request's body, or says how it is refused. The connection of a body
// that is too long is closed.
func read(w http.ResponseWriter, r *http.Request, most int64) ([]byte, *reply) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	if _, long := errors.AsType[*http.MaxBytesError](err); long {
		return nil, new(refuse(http.StatusBadRequest, "MaximumSizeExceeded", "the request's body is longer than the platform takes; make smaller submissions"))
	}
	if err != nil {
		return nil, new(refuse(http.StatusBadRequest, "BadRequest", "the request's body ended before its time"))
	}
	return body, nil
}

func (p *Platform) missing(*call) reply {
	return refuse(http.StatusNotImplemented, "NotImplemented", "the sandbox does not have this API of LHDN's")
}
