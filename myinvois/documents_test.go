package myinvois

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// answering is a platform whose answers to all but logins are a test's.
func answering(answer func(r *http.Request, body string) (*httptest.ResponseRecorder, error)) *stage {
	return &stage{before: func(r *http.Request, _ int) (*httptest.ResponseRecorder, error) {
		if kindOf(r) == "login" {
			return nil, nil
		}
		body := ""
		if r.GetBody != nil {
			again, err := r.GetBody()
			if err != nil {
				return nil, err
			}
			text, err := io.ReadAll(again)
			if err != nil {
				return nil, err
			}
			body = string(text)
		}
		return answer(r, body)
	}}
}

func TestAllPagesOfASubmissionAreRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const many = 250
		s := answering(func(r *http.Request, _ string) (*httptest.ResponseRecorder, error) {
			page := 0
			_, _ = fmt.Sscan(r.URL.Query().Get("pageNo"), &page)
			said := SubmissionStatus{SubmissionUID: "U 1", Count: many, Overall: "Valid"}
			for i := (page - 1) * 100; i < min(page*100, many); i++ {
				said.Documents = append(said.Documents, DocumentSummary{UUID: fmt.Sprint(i)})
			}
			text, err := json.Marshal(said)
			if err != nil || r.URL.EscapedPath() != "/api/v1.0/documentsubmissions/U%201" || r.URL.Query().Get("pageSize") != "100" {
				t.Errorf("got %s, %v", r.URL, err)
			}
			return respond(200, string(text))
		})
		got, err := at(t, s, lasting(t)).Submission(t.Context(), seller, "U 1")
		if err != nil || len(got.Documents) != many || got.Documents[many-1].UUID != fmt.Sprint(many-1) {
			t.Errorf("got %v, want %d documents", err, many)
		}
	})
}

func TestAStatusIsUnderstoodHoweverItIsSpelled(t *testing.T) {
	for _, row := range []struct {
		overall string
		want    bool
	}{
		{"in progress", true},
		{"InProgress", true},
		{"In Progress", true},
		{"in_progress", true},
		{"", true},
		{"valid", false},
		{"Partially Valid", false},
		{"partiallyvalid", false},
		{"INVALID", false},
	} {
		if got := (&SubmissionStatus{Overall: row.overall}).InProgress(); got != row.want {
			t.Errorf("%q in progress: got %v, want %v", row.overall, got, row.want)
		}
	}
}

func TestBothSpellingsOfFieldsAreRead(t *testing.T) {
	for _, text := range []string{
		`{"submissionUid":"U1","acceptedDocuments":[{"uuid":"D1","invoiceCodeNumber":"N1"}],"rejectedDocuments":[]}`,
		`{"submissionUID":"U1","acceptedDocuments":[{"uuid":"D1","invoiceCodeNumber":"N1"}]}`,
	} {
		var said SubmissionAnswer
		if err := json.Unmarshal([]byte(text), &said); err != nil || said.SubmissionUID == nil || *said.SubmissionUID != "U1" || said.Accepted[0].Number != "N1" {
			t.Errorf("%s: got %+v, %v", text, said, err)
		}
	}
	const rejected = `{"submissionUid":null,"acceptedDocuments":[],"rejectedDocuments":[{"invoiceCodeNumber":"INV1","error":{"code":"3","message":"Validation Error",
		"target":"INV1","propertyPath":null,"details":[{"code":"CF321","message":"late","target":"INV1","propertyPath":"Invoice.IssueDate","details":null}]}}]}`
	var said SubmissionAnswer
	if err := json.Unmarshal([]byte(rejected), &said); err != nil || said.SubmissionUID != nil || said.Rejected[0].Error.Details[0].Code != "CF321" {
		t.Errorf("got %+v, %v", said, err)
	}
	const step = `{"validationResults":{"status":"Invalid","validationSteps":[{"name":"Step03-Duplicated Submission Validator","status":"Invalid",
		"error":{"propertyName":null,"propertyPath":null,"errorCode":"Error03","error":"Duplicated Submission Validator","errorMS":"x",
		"innerError":[{"propertyName":"document","propertyPath":"document","errorCode":"DS302","error":"twice","errorMs":"y","innerError":null}]}}]}}`
	const twice = "a document of the same number, type and time of issue was submitted within two hours before; look at what became of that one"
	var d DocumentDetails
	if err := json.Unmarshal([]byte(step), &d); err != nil {
		t.Fatal(err)
	}
	want := "Step03-Duplicated Submission Validator: Duplicated Submission Validator [Error03]: twice [DS302]: " + twice
	if got := strings.Join(d.Findings(), "\n"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if again, err := json.Marshal(d.Results.Steps[0].Error); err != nil || !strings.Contains(string(again), `"errorCode":"Error03"`) || !strings.Contains(string(again), `"innerError":[{`) {
		t.Errorf("written again: got %s, %v", again, err)
	}
}

func TestARawDocumentIsFetchedWhole(t *testing.T) {
	s := answering(func(r *http.Request, _ string) (*httptest.ResponseRecorder, error) {
		if r.Method != http.MethodGet || r.URL.Path != "/api/v1.0/documents/D1/raw" || !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer "+seller) {
			t.Errorf("got %s %s", r.Method, r.URL)
		}
		return respond(200, `{"uuid":"D1","status":"Valid","document":"<Invoice/>"}`)
	})
	got, err := at(t, s, lasting(t)).Raw(t.Context(), seller, "D1")
	if err != nil || got.Document != "<Invoice/>" || got.Status != StatusValid {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestACancellationIsDoneOnce(t *testing.T) {
	for _, row := range []struct {
		name     string
		statuses []int  // of the answers to PUT, 0 for a broken line
		state    string // the document's, where that is asked
		wantPuts int
		want     string // in the error
	}{
		{"at once", []int{200}, "", 1, ""},
		{"a line that broke after it", []int{0}, StatusCancelled, 1, ""},
		{"a line that broke before it", []int{0, 200}, StatusValid, 2, ""},
		{"an error of the platform's", []int{503, 503, 200}, StatusValid, 3, ""},
		{"too many", []int{429, 200}, "", 2, ""},
		{"too late", []int{400}, "", 1, "72 hours"},
		{"not allowed", []int{403}, "", 1, "appointed"},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				puts := 0
				s := answering(func(r *http.Request, body string) (*httptest.ResponseRecorder, error) {
					if r.Method == http.MethodGet {
						return respond(200, fmt.Sprintf(`{"uuid":"D1","status":%q}`, row.state))
					}
					if r.Method != http.MethodPut || r.URL.Path != "/api/v1.0/documents/state/D1/state" || body != `{"status":"cancelled","reason":"wrong buyer"}` {
						t.Errorf("got %s %s %s", r.Method, r.URL, body)
					}
					status := row.statuses[min(puts, len(row.statuses)-1)]
					puts++
					switch status {
					case 0:
						return nil, errCut
					case 200:
						return respond(200, `{"uuid":"D1","status":"Cancelled","error":null}`)
					case 400:
						return respond(400, `{"error":{"code":"OperationPeriodOver","message":"over"}}`)
					}
					return respond(status, "")
				})
				got, err := at(t, s, lasting(t)).Cancel(t.Context(), seller, "D1", "wrong buyer")
				if puts != row.wantPuts || row.want == "" && (err != nil || got.Status != StatusCancelled) ||
					row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
					t.Errorf("got %+v, %v after %d, want %q after %d", got, err, puts, row.want, row.wantPuts)
				}
				if late := row.name == "too late"; late != errors.Is(err, OperationPeriodOver) {
					t.Errorf("got %v, want it to be %v: %v", err, OperationPeriodOver, late)
				}
			})
		})
	}
}

func TestACancellationIsWhatTheAnswerSays(t *testing.T) {
	const no = `{"error":{"code":"IncorrectState","message":"no"}}`
	type said struct {
		status int
		body   string
	}
	for _, row := range []struct {
		name    string
		puts    []said
		details []string // the document's status, each time that is asked
		want    string   // in the error
	}{
		{"in other letters", []said{{200, `{"uuid":"D1","status":"cancelled"}`}}, nil, ""},
		{"an error in an answer of success", []said{{200, `{"uuid":"D1","status":"Valid","error":{"code":"ActiveReferencingDocuments","message":"no"}}`}}, nil, "refer to this one"},
		{"another state in an answer of success", []said{{200, `{"uuid":"D1","status":"Valid"}`}}, []string{"Valid"}, `is "Valid"`},
		{"nothing, and it was done", []said{{200, `{}`}}, []string{"Cancelled"}, ""},
		{"not in that state, since it is done", []said{{400, no}}, []string{"Cancelled"}, ""},
		{"not in that state", []said{{400, no}}, []string{"Invalid"}, "only a valid document"},
		{"a line that broke after it, which shows late", []said{{0, ""}, {400, no}}, []string{"Valid", "Cancelled"}, ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				puts, asked := 0, 0
				s := answering(func(r *http.Request, _ string) (*httptest.ResponseRecorder, error) {
					if r.Method == http.MethodGet {
						asked++
						return respond(200, fmt.Sprintf(`{"uuid":"D1","status":%q}`, row.details[min(asked, len(row.details))-1]))
					}
					puts++
					answer := row.puts[min(puts, len(row.puts))-1]
					if answer.status == 0 {
						return nil, errCut
					}
					return respond(answer.status, answer.body, CorrelationID, "corr-1")
				})
				got, err := at(t, s, lasting(t)).Cancel(t.Context(), seller, "D1", "wrong buyer")
				if row.want == "" && (err != nil || !strings.EqualFold(got.Status, StatusCancelled)) {
					t.Errorf("got %v, %v, want it cancelled", got, err)
				}
				if row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want) || !strings.Contains(err.Error(), "corr-1")) {
					t.Errorf("got %v, %v, want %q with the correlation ID", got, err, row.want)
				}
			})
		})
	}
}

func TestARejectionIsAskedFor(t *testing.T) {
	s := answering(func(_ *http.Request, body string) (*httptest.ResponseRecorder, error) {
		if body != `{"status":"rejected","reason":"never ordered"}` {
			t.Errorf("got %s", body)
		}
		return respond(200, `{"uuid":"D1","status":"Requested for Rejection","error":null}`)
	})
	c := at(t, s, lasting(t))
	if _, err := c.Reject(t.Context(), seller, "D1", "never ordered"); err != nil {
		t.Error(err)
	}
	for _, reason := range []string{"", "  ", strings.Repeat("é", 301)} {
		if _, err := c.Reject(t.Context(), seller, "D1", reason); err == nil {
			t.Errorf("a reason of %d characters: got no error", len([]rune(reason)))
		}
	}
	if n := s.count("state"); n != 1 {
		t.Errorf("got %d requests, want 1", n)
	}
}

func TestATINIsAskedForOnceADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		s := answering(func(r *http.Request, _ string) (*httptest.ResponseRecorder, error) {
			asked++
			if r.URL.Query().Get("idType") != "BRN" {
				t.Errorf("got %s", r.URL)
			}
			switch r.URL.Path {
			case "/api/v1.0/taxpayer/validate/C1":
				return respond(200, "")
			case "/api/v1.0/taxpayer/validate/C2":
				return respond(404, `{"error":{"code":"NotFound"}}`)
			}
			return respond(400, `{"error":{"code":"BadArgument"}}`)
		})
		c := at(t, s, lasting(t))
		for _, row := range []struct {
			tin   string
			pass  time.Duration
			want  bool
			asked int
		}{
			{"C1", 0, true, 1}, {"C1", 23 * time.Hour, true, 1}, {"C2", 0, false, 2}, {"C2", time.Minute, false, 2},
			{"C2", time.Hour, false, 3}, {"C1", time.Hour, true, 4},
		} {
			time.Sleep(row.pass)
			got, err := c.ValidateTIN(t.Context(), seller, row.tin, ID{"BRN", "201901234567"})
			if err != nil || got != row.want || asked != row.asked {
				t.Errorf("%s after %v: got %v, %v, asked %d times; want %v, asked %d times", row.tin, row.pass, got, err, asked, row.want, row.asked)
			}
		}
		if _, err := c.ValidateTIN(t.Context(), seller, "C3", ID{"BRN", "x"}); err == nil {
			t.Error("a bad argument: got no error")
		}
	})
}

func TestASumIsReadHoweverItIsWritten(t *testing.T) {
	for text, want := range map[string]Amount{`1.5`: 1.5, `"1.50"`: 1.5, `null`: 0, `"none"`: 0, `{"sum":1}`: 0} {
		var got SubmissionStatus
		err := json.Unmarshal(fmt.Appendf(nil, `{"documentSummary":[{"uuid":"D1","totalPayableAmount":%s}]}`, text), &got)
		if err != nil || len(got.Documents) != 1 || got.Documents[0].TotalPayable != want {
			t.Errorf("%s: got %v, %v, want %v", text, got.Documents, err, want)
		}
	}
}

func TestWhatIsNoTimeIsNone(t *testing.T) {
	for text, want := range map[string]string{
		`"2015-02-13T14:20:10Z"`:         "2015-02-13T14:20:10Z",
		`"2015-02-13T14:20:10.1234567Z"`: "2015-02-13T14:20:10Z",
		`"2015-02-13T14:20:10"`:          "2015-02-13T14:20:10Z",
		`null`:                           "0001-01-01T00:00:00Z",
		`"soon"`:                         "0001-01-01T00:00:00Z",
		`7`:                              "0001-01-01T00:00:00Z",
	} {
		var got Instant
		if err := json.Unmarshal([]byte(text), &got); err != nil || got.Format(time.RFC3339) != want {
			t.Errorf("%s: got %v, %v, want %s", text, got, err, want)
		}
	}
}
