package sandbox

import (
	"net/http"
	"strings"
)

// validateTIN tells whether a TIN and an identification belong together. The sandbox
// knows BRNs only.
func (p *Platform) validateTIN(c *call) reply {
	tin, kind, value := c.PathValue("tin"), c.URL.Query().Get("idType"), c.URL.Query().Get("idValue")
	switch {
	case !tinForm.MatchString(tin):
		return refuse(http.StatusBadRequest, "BadArgument", "%q is no TIN", tin).about("tin")
	case !strings.Contains(" NRIC PASSPORT BRN ARMY ", " "+kind+" "):
		return refuse(http.StatusBadRequest, "BadArgument", "idType must be NRIC, PASSPORT, BRN or ARMY").about("idType")
	case value == "":
		return refuse(http.StatusBadRequest, "BadArgument", "idValue is missing").about("idValue")
	}
	if t := p.taxpayers[tin]; t == nil || kind != "BRN" || t.BRN != value {
		return refuse(http.StatusNotFound, "NotFound", "no taxpayer has this TIN and this identification").about("tin")
	}
	return reply{status: http.StatusOK}
}
