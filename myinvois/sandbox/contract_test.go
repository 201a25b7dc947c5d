package sandbox

import (
	"net/http"
	"testing"
	"time"
)

// The JSON here is written down from LHDN's pages and from what others saw on the
// wire, by hand and once more: package myinvois has types of its own for it, so that
// both cannot be wrong alike.

const publishedSummary = `"uuid":"UUID1","submissionUid":"SUBMISSION","longId":"LONGID","internalId":"INV-1","typeName":"invoice","typeVersionName":"1.1",
	"issuerTin":"C20880050010","issuerName":"Kopi Kampung Baru Sdn. Bhd.","receiverId":"202101098765","receiverName":"Pembeli Sdn. Bhd.",
	"dateTimeIssued":"2026-11-20T03:00:00Z","dateTimeReceived":"2026-11-20T04:00:00Z","dateTimeValidated":"2026-11-20T04:00:02Z",
	"totalExcludingTax":10.1,"totalDiscount":50,"totalNetAmount":100.7,"totalPayableAmount":124.09,"status":"Valid",
	"cancelDateTime":null,"rejectRequestDateTime":null,"documentStatusReason":null,"createdByUserId":"C20880050090:agent-erp"`

const pendingSummary = `"uuid":"UUID1","submissionUid":"SUBMISSION","longId":"","internalId":"INV-1","typeName":"invoice","typeVersionName":"1.1",
	"issuerTin":"C20880050010","issuerName":"Kopi Kampung Baru Sdn. Bhd.","receiverId":"202101098765","receiverName":"Pembeli Sdn. Bhd.",
	"dateTimeIssued":"2026-11-20T03:00:00Z","dateTimeReceived":"2026-11-20T04:00:00Z","dateTimeValidated":null,
	"totalExcludingTax":10.1,"totalDiscount":50,"totalNetAmount":100.7,"totalPayableAmount":124.09,"status":"Submitted",
	"cancelDateTime":null,"rejectRequestDateTime":null,"documentStatusReason":null,"createdByUserId":"C20880050090:agent-erp"`

func TestLoginsAnswerAsPublished(t *testing.T) {
	const token = `{"access_token":"JWT","token_type":"Bearer","expires_in":3600,"scope":"InvoicingAPI"}`
	refused := func(code, description string) string {
		return `{"error":"` + code + `","error_description":"` + description + `","error_uri":null}`
	}
	const nobody = "there is no such taxpayer, or it is not represented by this client's organisation"
	for _, row := range []struct {
		name, id, secret, behalf string
		more                     []string
		status                   int
		want                     string
	}{
		{"a taxpayer", "issuer-erp", "issuer-secret", "", nil, 200, token},
		{"an intermediary, by its first secret", "agent-erp", "agent-secret-1", issuerTIN, nil, 200, token},
		{"an intermediary, by its second secret", "agent-erp", "agent-secret-2", issuerTIN, nil, 200, token},
		{"an intermediary of a sole proprietor", "agent-erp", "agent-secret-1", "IG12345678912:201901234567", nil, 200, token},
		{"without a scope", "issuer-erp", "issuer-secret", "", []string{"scope", ""}, 200, token},
		{"a wrong secret", "issuer-erp", "guessed", "", nil, 400, refused("invalid_client", "no client has this ID and this secret")},
		{"an unknown client", "nobody", "issuer-secret", "", nil, 400, refused("invalid_client", "no client has this ID and this secret")},
		{"no client", "", "x", "", nil, 400, refused("invalid_request", "client_id is missing")},
		{"no secret", "issuer-erp", "", "", nil, 400, refused("invalid_request", "client_secret is missing")},
		{"another grant", "issuer-erp", "issuer-secret", "", []string{"grant_type", "password"}, 400, refused("unsupported_grant_type", "grant_type must be client_credentials")},
		{"another scope", "issuer-erp", "issuer-secret", "", []string{"scope", "All"}, 400, refused("invalid_scope", "scope must be InvoicingAPI, or left out")},
		{"a blocked client", "blocked-erp", "blocked-secret", "", nil, 400, refused("invalid_grant", "User blocked")},
		{"a taxpayer that is not represented", "agent-erp", "agent-secret-1", buyerTIN, nil, 400, refused("unauthorized_client", nobody)},
		{"a taxpayer that does not exist", "agent-erp", "agent-secret-1", "C99999999990", nil, 400, refused("unauthorized_client", nobody)},
		{"a sole proprietor's other business", "agent-erp", "agent-secret-1", "IG12345678912:201901234568", nil, 400, refused("unauthorized_client", nobody)},
		{"what is no TIN", "agent-erp", "agent-secret-1", "Kopi", nil, 400,
			refused("invalid_request", "onbehalfof must be a TIN, or a TIN, a colon and a business registration number")},
	} {
		t.Run(row.name, func(t *testing.T) {
			lay(t, nil).login(row.id, row.secret, row.behalf, row.more...).is(row.status, row.want)
		})
	}
}

func TestALoginWantsAForm(t *testing.T) {
	lay(t, nil).do("POST", "/connect/token", `{"client_id":"agent-erp"}`, "Content-Type", "application/json").
		is(400, `{"error":"invalid_request","error_description":"the body must be application/x-www-form-urlencoded","error_uri":null}`)
}

func TestSubmissionsAnswerAsPublished(t *testing.T) {
	for _, format := range []string{"XML", "JSON"} {
		t.Run(format, func(t *testing.T) {
			b := lay(t, nil)
			token := b.agent()
			good, bad := draft{}.paper(t, format), draft{number: "INV-2", issued: start.Add(-73 * time.Hour)}.paper(t, format)
			a := b.submitAll(token, good, bad)
			documents := b.Documents()
			if len(documents) != 1 {
				t.Fatalf("got %d documents accepted, want 1: %s", len(documents), a.Body)
			}
			a.is(202, `{"submissionUid":"SUBMISSION","acceptedDocuments":[{"uuid":"UUID1","invoiceCodeNumber":"INV-1"}],
				"rejectedDocuments":[{"invoiceCodeNumber":"INV-2","error":{"code":"3","message":"Validation Error","target":"INV-2","propertyPath":null,
				"details":[{"code":"CF321","message":"Issuance date time value of the document is too old and cannot be submitted","target":"DatetimeIssued","propertyPath":"Invoice.IssueDate","details":null}]}}]}`,
				documents[0].Submission, "SUBMISSION", documents[0].UUID, "UUID1")
			b.submitAll(token, bad).is(202, `{"submissionUid":null,"acceptedDocuments":[],
				"rejectedDocuments":[{"invoiceCodeNumber":"INV-2","error":{"code":"3","message":"Validation Error","target":"INV-2","propertyPath":null,
				"details":[{"code":"CF321","message":"Issuance date time value of the document is too old and cannot be submitted","target":"DatetimeIssued","propertyPath":"Invoice.IssueDate","details":null}]}}]}`)
		})
	}
}

func TestAValidatedDocumentIsToldAsPublished(t *testing.T) {
	for _, format := range []string{"XML", "JSON"} {
		t.Run(format, func(t *testing.T) {
			b := lay(t, nil)
			token := b.agent()
			paper := draft{}.paper(t, format)
			uid, uuids := b.accepted(token, paper)
			get := func(path string) answer { return b.call(token, "GET", path, "") }
			get("/api/v1.0/documentsubmissions/"+uid+"?pageNo=1&pageSize=100").is(200, `{"submissionUid":"SUBMISSION","documentCount":1,
				"dateTimeReceived":"2026-11-20T04:00:00Z","overallStatus":"in progress","documentSummary":[{`+pendingSummary+`}]}`, b.ids...)
			get("/api/v1.0/documents/"+uuids[0]+"/details").is(200, `{`+pendingSummary+`,"validationResults":{"status":"Submitted","validationSteps":[]}}`, b.ids...)

			b.pass(2 * time.Second)
			get("/api/v1.0/documentsubmissions/"+uid).is(200, `{"submissionUid":"SUBMISSION","documentCount":1,
				"dateTimeReceived":"2026-11-20T04:00:00Z","overallStatus":"valid","documentSummary":[{`+publishedSummary+`}]}`, b.ids...)
			get("/api/v1.0/documents/"+uuids[0]+"/details").is(200, `{`+publishedSummary+`,"validationResults":{"status":"Valid","validationSteps":[
				{"name":"Step03-Duplicated Submission Validator","status":"Valid","error":null},
				{"name":"Step04-Code Field Validator","status":"Valid","error":null},
				{"name":"Step05-Taxpayer Profile Validator","status":"Valid","error":null},
				{"name":"Step06-Document References Validator","status":"Valid","error":null},
				{"name":"Step07-Document Currency Validator","status":"Valid","error":null},
				{"name":"Step08-Document Signature Validator","status":"Valid","error":null}]}}`, b.ids...)
			raw := decoded(t, get("/api/v1.0/documents/"+uuids[0]+"/raw").Body.String()).(map[string]any)
			if raw["document"] != string(paper.content) || raw["status"] != "Valid" {
				t.Errorf("got the raw document %v, status %v, want the very bytes", raw["document"], raw["status"])
			}
		})
	}
}

func TestADuplicateIsToldAsPublished(t *testing.T) {
	b := lay(t, nil)
	token := b.agent()
	_, first := b.accepted(token, draft{}.paper(t, "XML"))
	ids := []string{first[0], "GJCGP9RWJF7961J8XNW0141J10"}
	b.ids = nil
	_, second := b.accepted(token, draft{}.paper(t, "XML"), draft{number: "INV-9"}.paper(t, "XML"))
	b.pass(2 * time.Second)
	var steps any
	details := decoded(t, b.call(token, "GET", "/api/v1.0/documents/"+second[0]+"/details", "").Body.String())
	steps = details.(map[string]any)["validationResults"].(map[string]any)["validationSteps"].([]any)[0]
	got := answer{b.do("GET", "/none", "").ResponseRecorder, t}
	got.Body.Reset()
	got.Body.Write(encoded(steps))
	got.is(404, `{"status":"Invalid","error":{"propertyName":null,"propertyPath":null,"errorCode":"Error03","error":"Duplicated Submission Validator",
		"errorMS":"MS-Duplicated Submission Validator","innerError":[{"propertyName":"document","propertyPath":"document","errorCode":"DS302",
		"error":"Duplicated submitted document with UUID 132YBP1HE6GHJ0XSVNW0141J10 where the values of configured attributes match with values for the document with UUID: GJCGP9RWJF7961J8XNW0141J10",
		"errorMs":"MS-Duplicated submitted document with UUID 132YBP1HE6GHJ0XSVNW0141J10 where the values of configured attributes match with values for the document with UUID: GJCGP9RWJF7961J8XNW0141J10",
		"innerError":null}]},"name":"Step03-Duplicated Submission Validator"}`, append(ids, second[0], "132YBP1HE6GHJ0XSVNW0141J10")...)
}

func TestWholeRequestsAreRefusedAsPublished(t *testing.T) {
	foreign := draft{supplierTIN: buyerTIN, supplierBRN: buyerBRN}
	for _, row := range []struct {
		name   string
		send   func(b *bed) answer
		status int
		wire   string
		as     string // in the documented shape
	}{
		{"documents of another taxpayer", func(b *bed) answer { return b.submitAll(b.agent(), foreign.paper(t, "XML")) }, 400,
			`{"error":{"code":"ValidationError","message":null,"target":null,"details":[{"code":"submission","target":"submission","message":"The authenticated TIN and documents TIN is not matching "}]}}`,
			`{"error":{"propertyName":null,"propertyPath":null,"errorCode":"IncorrectSubmitter","error":"The authenticated TIN and documents TIN is not matching ","errorMS":"MS-The authenticated TIN and documents TIN is not matching ","target":null,"innerError":null}}`},
		{"what is no submission", func(b *bed) answer {
			return b.call(b.agent(), "POST", "/api/v1.0/documentsubmissions", `{"invoices":[]}`)
		}, 400,
			`{"error":{"code":"BadStructure","message":null,"target":null,"details":[{"code":"submission","target":"submission","message":"Invalid structured submission: one object with a list of documents, each with format, document, documentHash and codeNumber"}]}}`,
			`{"error":{"propertyName":null,"propertyPath":null,"errorCode":"BadStructure","error":"Invalid structured submission: one object with a list of documents, each with format, document, documentHash and codeNumber","errorMS":"MS-Invalid structured submission: one object with a list of documents, each with format, document, documentHash and codeNumber","target":null,"innerError":[{"propertyName":"submission","propertyPath":null,"errorCode":"submission","error":"Invalid structured submission: one object with a list of documents, each with format, document, documentHash and codeNumber","errorMS":"MS-Invalid structured submission: one object with a list of documents, each with format, document, documentHash and codeNumber","target":null,"innerError":null}]}}`},
		{"a missing token", func(b *bed) answer { return b.do("GET", "/api/v1.0/documents/recent", "") }, 401,
			`{"error":{"code":"Unauthorized","message":"the token is missing, malformed or expired; log in again","target":null,"details":null}}`,
			`{"error":{"propertyName":null,"propertyPath":null,"errorCode":"Unauthorized","error":"the token is missing, malformed or expired; log in again","errorMS":"MS-the token is missing, malformed or expired; log in again","target":null,"innerError":null}}`},
		{"an unknown document", func(b *bed) answer { return b.call(b.agent(), "GET", "/api/v1.0/documents/NONE/details", "") }, 404,
			`{"error":{"code":"NotFound","message":"there is no such document","target":"uuid","details":null}}`,
			`{"error":{"propertyName":null,"propertyPath":null,"errorCode":"NotFound","error":"there is no such document","errorMS":"MS-there is no such document","target":"uuid","innerError":null}}`},
		{"an API that is missing", func(b *bed) answer { return b.call(b.agent(), "GET", "/api/v1.0/documenttypes", "") }, 501,
			`{"error":{"code":"NotImplemented","message":"the sandbox does not have this API of LHDN's","target":null,"details":null}}`,
			`{"error":{"propertyName":null,"propertyPath":null,"errorCode":"NotImplemented","error":"the sandbox does not have this API of LHDN's","errorMS":"MS-the sandbox does not have this API of LHDN's","target":null,"innerError":null}}`},
		{"a path that nobody has", func(b *bed) answer { return b.do("GET", "/favicon.ico", "") }, 404,
			`{"error":{"code":"NotFound","message":"the platform has no such path","target":null,"details":null}}`,
			`{"error":{"propertyName":null,"propertyPath":null,"errorCode":"NotFound","error":"the platform has no such path","errorMS":"MS-the platform has no such path","target":null,"innerError":null}}`},
	} {
		t.Run(row.name, func(t *testing.T) {
			row.send(lay(t, nil)).is(row.status, row.wire)
			documented := row.send(lay(t, func(c *Config) { c.Errors = Documented }))
			if row.name == "documents of another taxpayer" {
				row.status = http.StatusForbidden
			}
			documented.is(row.status, row.as)
		})
	}
}

func TestStatesChangeAsPublished(t *testing.T) {
	b := lay(t, nil)
	agent, issuer, buyer := b.agent(), b.issuer(), b.buyer()
	_, uuids := b.accepted(agent, draft{}.paper(t, "XML"), draft{number: "INV-2"}.paper(t, "XML"))
	path := func(i int) string { return "/api/v1.0/documents/state/" + uuids[i] + "/state" }
	problem := func(code, message, target string) string {
		return `{"error":{"code":"` + code + `","message":"` + message + `","target":` + target + `,"details":null}}`
	}
	cancel, reject := `{"status":"cancelled","reason":"Wrong buyer details"}`, `{"status":"rejected","reason":"Wrong invoice details"}`
	b.call(agent, "PUT", path(0), cancel).is(400, problem("IncorrectState", "the document is not valid", `"uuid"`))
	b.pass(2 * time.Second)
	b.call(buyer, "PUT", path(0), cancel).is(403, problem("Forbidden", "the document is another taxpayer's, or the intermediary may not do this", "null"))
	b.call(agent, "PUT", path(0), reject).is(403, problem("Forbidden", "the document is another taxpayer's, or the intermediary may not do this", "null"))
	b.call(agent, "PUT", path(0), `{"status":"deleted","reason":"x"}`).is(400, problem("BadArgument", "status must be cancelled or rejected", `"status"`))
	b.call(agent, "PUT", path(0), `{"status":"cancelled"}`).is(400, problem("BadArgument", "reason must have 1 to 300 characters", `"reason"`))
	b.call(buyer, "PUT", path(0), reject).is(200, `{"uuid":"UUID1","status":"Requested for Rejection","error":null}`, b.ids...)
	b.call(buyer, "PUT", path(0), reject).is(400, problem("IncorrectState", "the document is cancelled, or its rejection was asked for, already", `"uuid"`))
	b.call(agent, "PUT", path(0), cancel).is(200, `{"uuid":"UUID1","status":"Cancelled","error":null}`, b.ids...)
	b.call(issuer, "PUT", path(1), `{"status":"Cancelled","reason":"Wrong"}`).is(200, `{"uuid":"UUID2","status":"Cancelled","error":null}`, b.ids...)
	got := decoded(t, b.call(issuer, "GET", "/api/v1.0/documents/"+uuids[0]+"/details", "").Body.String()).(map[string]any)
	for key, want := range map[string]string{
		"status": "Cancelled", "cancelDateTime": "2026-11-20T04:00:02Z", "rejectRequestDateTime": "2026-11-20T04:00:02Z", "documentStatusReason": "Wrong buyer details",
	} {
		if got[key] != want {
			t.Errorf("%s: got %v, want %s", key, got[key], want)
		}
	}
}

func TestTINsAreValidatedAsPublished(t *testing.T) {
	for _, row := range []struct {
		name, path string
		status     int
		want       string
	}{
		{"a pair that belongs together", "C20880050010?idType=BRN&idValue=201901054321", 200, ""},
		{"a pair that does not", "C20880050010?idType=BRN&idValue=202101098765", 404, `{"error":{"code":"NotFound","message":"no taxpayer has this TIN and this identification","target":"tin","details":null}}`},
		{"an unknown TIN", "C11111111110?idType=BRN&idValue=1", 404, `{"error":{"code":"NotFound","message":"no taxpayer has this TIN and this identification","target":"tin","details":null}}`},
		{"what is no TIN", "12345?idType=BRN&idValue=1", 400, `{"error":{"code":"BadArgument","message":"\"12345\" is no TIN","target":"tin","details":null}}`},
		{"an unknown kind", "C20880050010?idType=brn&idValue=1", 400, `{"error":{"code":"BadArgument","message":"idType must be NRIC, PASSPORT, BRN or ARMY","target":"idType","details":null}}`},
		{"no kind", "C20880050010?idValue=1", 400, `{"error":{"code":"BadArgument","message":"idType must be NRIC, PASSPORT, BRN or ARMY","target":"idType","details":null}}`},
		{"no value", "C20880050010?idType=BRN", 400, `{"error":{"code":"BadArgument","message":"idValue is missing","target":"idValue","details":null}}`},
	} {
		t.Run(row.name, func(t *testing.T) {
			b := lay(t, nil)
			b.call(b.agent(), "GET", "/api/v1.0/taxpayer/validate/"+row.path, "").is(row.status, row.want)
		})
	}
}

func TestListsAnswerAsPublished(t *testing.T) {
	const common = `"uuid":"UUID1","submissionUID":"SUBMISSION","longId":"LONGID","internalId":"INV-1","typeName":"invoice","typeVersionName":"1.1",
		"issuerTin":"C20880050010","issuerName":"Kopi Kampung Baru Sdn. Bhd.","receiverId":"202101098765","receiverName":"Pembeli Sdn. Bhd.",
		"dateTimeIssued":"2026-11-20T03:00:00Z","dateTimeReceived":"2026-11-20T04:00:00Z","dateTimeValidated":"2026-11-20T04:00:02Z",
		"totalSales":10.1,"totalDiscount":50,"netAmount":100.7,"total":124.09,"status":"Valid","cancelDateTime":null,"rejectRequestDateTime":null,
		"documentStatusReason":null,"createdByUserId":"C20880050090:agent-erp","supplierName":"Kopi Kampung Baru Sdn. Bhd.","submissionChannel":"ERP",
		"intermediaryName":"Contoh Perantara Sdn. Bhd.","intermediaryTin":"C20880050090","intermediaryRob":"202001234590","buyerName":"Pembeli Sdn. Bhd."`
	b := lay(t, nil)
	agent := b.agent()
	b.accepted(agent, draft{}.paper(t, "JSON"))
	b.pass(2 * time.Second)
	const pages = `"metadata":{"totalPages":1,"totalCount":1}`
	b.call(agent, "GET", "/api/v1.0/documents/recent?pageNo=1&pageSize=20&InvoiceDirection=Sent", "").
		is(200, `{"result":[{`+common+`,"supplierTin":"C20880050010","buyerTin":"C31415926530"}],`+pages+`}`, b.ids...)
	const day = "submissionDateFrom=2026-11-20T00:00:00Z&submissionDateTo=2026-11-21T00:00:00Z"
	b.call(agent, "GET", "/api/v1.0/documents/search?"+day+"&searchQuery=inv-1", "").
		is(200, `{"result":[{`+common+`,"supplierTIN":"C20880050010","buyerTIN":"C31415926530"}],`+pages+`}`, b.ids...)
	for name, query := range map[string]string{
		"another number": day + "&searchQuery=inv-2", "another day": "issueDateFrom=2026-11-18T00:00:00Z&issueDateTo=2026-11-19T00:00:00Z",
		"another type": day + "&documentType=02", "another state": day + "&status=Invalid", "the other way": day + "&invoiceDirection=Received",
	} {
		a := b.call(agent, "GET", "/api/v1.0/documents/search?"+query, "")
		if got := a.Body.String(); got != `{"result":[],"metadata":{"totalPages":0,"totalCount":0}}` {
			t.Errorf("searching %s: got %s", name, got)
		}
	}
	b.call(agent, "GET", "/api/v1.0/documents/search", "").is(400, `{"error":{"code":"BadArgument",
		"message":"submissionDateFrom and submissionDateTo, or issueDateFrom and issueDateTo, must be given","target":"submissionDateFrom","details":null}}`)
	b.call(agent, "GET", "/api/v1.0/documents/search?submissionDateFrom=2026-09-01T00:00:00Z&submissionDateTo=2026-11-21T00:00:00Z", "").is(400,
		`{"error":{"code":"BadArgument","message":"the time must end after it begins, and last 31 days at most","target":"submissiondate","details":null}}`)
}
