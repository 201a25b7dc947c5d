package myinvois

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
)

func TestASecretInAnAnswerThatIsRightIsNotRepeated(t *testing.T) {
	bodies := map[string]string{
		"submit":     `{"submissionUid":null,"acceptedDocuments":[],"rejectedDocuments":[{"invoiceCodeNumber":"INV-0","error":{"code":"1","message":"no, %[1]s","details":[{"message":"\\u0043%[2]s"}]}}]}`,
		"submission": `{"submissionUid":"S1","documentCount":1,"overallStatus":"Valid","documentSummary":[{"uuid":"%[1]s","internalId":"INV-0","status":"Valid","longId":"%[1]s"}]}`,
		"details":    `{"uuid":"D1","status":"Invalid","validationResults":{"validationSteps":[{"name":"%[1]s","error":{"errorCode":"1","error":"%[1]s","innerError":[{"error":"%[1]s"}]}}]}}`,
		"state":      `{"uuid":"D1","status":"%[1]s"}`,
	}
	synctest.Test(t, func(t *testing.T) {
		token := ""
		s := &stage{after: func(r *http.Request, _ int) (*httptest.ResponseRecorder, error) {
			body, known := bodies[kindOf(r)]
			if !known {
				return nil, nil
			}
			token = strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
			return respond(202, fmt.Sprintf(body, token, token[1:]))
		}}
		c := at(t, s, lasting(t))
		j := opened(t, filepath.Join(t.TempDir(), "journal"))
		got := deliver(t.Context(), c, j, numbered(t, j, 1))
		status, err := c.Submission(t.Context(), seller, "S1")
		if err != nil {
			t.Fatal(err)
		}
		details, err := c.Details(t.Context(), seller, "D1")
		if err != nil {
			t.Fatal(err)
		}
		_, refused := c.Cancel(t.Context(), seller, "D1", "why not")
		for name, said := range map[string]string{
			"submit": fmt.Sprint(got.entries["INV-0"], got.reasons), "submission": fmt.Sprint(status), "details": fmt.Sprint(details.Findings()), "state": fmt.Sprint(refused),
		} {
			if token == "" || strings.Contains(said, token) || !strings.Contains(said, "(secret)") {
				t.Errorf("%s: got %s, want %q hidden", name, said, token)
			}
		}
	})
}
