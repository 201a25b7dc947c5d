package myinvois

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// The tests' world.
const (
	seller = "C20880050010"
	other  = "C31450097020"
	place  = "https://stage.test"
)

// stage is a platform in memory, under the clock of the test's bubble. It keeps
// the rules that the courier relies on: a payload is taken once within ten
// minutes, and what was taken is listed.
type stage struct {
	// before runs before a request is worked, after when it is, with how many
	// there were of its path: an answer takes the place of the right one, an error
	// is a broken line.
	before, after func(r *http.Request, n int) (*httptest.ResponseRecorder, error)
	// validate tells a document's status, and what is wrong with it.
	validate func(d SubmittedDocument) (string, *StepProblem)
	// refuse tells why a document is not taken at the door.
	refuse func(d SubmittedDocument) *Problem
	// life is that of tokens.
	life time.Duration
	// delay is how long a request takes.
	delay time.Duration
	// slow is by how much the platform's clock is behind the test's. Where it is told,
	// the answers tell the time.
	slow time.Duration
	told bool

	mu       sync.Mutex
	counts   map[string]int
	logins   []login
	arrived  map[string][]time.Time // by path's kind
	payloads map[[32]byte]time.Time
	taken    []*takenSubmission
	valid    map[string]time.Time // token to its end
}

type login struct {
	at                       time.Time
	client, secret, onBehalf string
}

type takenSubmission struct {
	uid      string
	taxpayer string
	received time.Time
	summary  []DocumentSummary
	problems map[string]*StepProblem
	contents map[string]string
}

// kindOf names what a request is for.
func kindOf(r *http.Request) string {
	switch p := r.URL.Path; {
	case p == PathLogin:
		return "login"
	case p == PathSubmissions:
		return "submit"
	case strings.HasPrefix(p, PathSubmissions):
		return "submission"
	case p == PathRecent:
		return "recent"
	case strings.HasSuffix(p, "/details"):
		return "details"
	case strings.HasSuffix(p, "/raw"):
		return "raw"
	case strings.HasSuffix(p, "/state"):
		return "state"
	}
	return "another"
}

func (s *stage) RoundTrip(r *http.Request) (*http.Response, error) {
	kind := kindOf(r)
	s.mu.Lock()
	if s.counts == nil {
		s.counts, s.arrived = map[string]int{}, map[string][]time.Time{}
		s.payloads, s.valid = map[[32]byte]time.Time{}, map[string]time.Time{}
	}
	s.counts[kind]++
	n := s.counts[kind]
	s.arrived[kind] = append(s.arrived[kind], time.Now())
	s.mu.Unlock()
	if err := wait(r.Context(), s.delay); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	if s.before != nil {
		if got, err := s.before(r, n); err != nil {
			return nil, err
		} else if got != nil {
			return got.Result(), nil
		}
	}
	w := httptest.NewRecorder()
	w.Header().Set(CorrelationID, fmt.Sprintf("%s-%d", kind, n))
	if s.told {
		w.Header().Set("Date", s.now().UTC().Format(http.TimeFormat))
	}
	s.mu.Lock()
	s.work(w, r, kind, body)
	s.mu.Unlock()
	if s.after != nil {
		if got, err := s.after(r, n); err != nil {
			return nil, err
		} else if got != nil {
			return got.Result(), nil
		}
	}
	return w.Result(), nil
}

// now is the platform's time.
func (s *stage) now() time.Time { return time.Now().Add(-s.slow) }

// work answers, with mu held.
func (s *stage) work(w *httptest.ResponseRecorder, r *http.Request, kind string, body []byte) {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if end := s.valid[token]; kind != "login" && !time.Now().Before(end) {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	taxpayer, _, _ := strings.Cut(token, "/")
	switch kind {
	case "login":
		s.logIn(w, r, body)
	case "submit":
		s.take(w, taxpayer, body)
	case "submission":
		s.tell(w, strings.TrimPrefix(r.URL.Path, PathSubmissions))
	case "recent":
		from, _ := time.Parse(time.RFC3339, r.URL.Query().Get("submissionDateFrom"))
		to, _ := time.Parse(time.RFC3339, r.URL.Query().Get("submissionDateTo"))
		said := RecentAnswer{Metadata: RecentMetadata{Pages: 1}}
		for _, t := range s.taken {
			if t.taxpayer == taxpayer && !t.received.Before(from) && !t.received.After(to) {
				said.Documents = append(said.Documents, t.summary...)
			}
		}
		write(w, http.StatusOK, said)
	case "details":
		uuid := strings.Split(r.URL.Path, "/")[4]
		for _, t := range s.taken {
			for _, d := range t.summary {
				if d.UUID == uuid {
					write(w, http.StatusOK, DocumentDetails{d, ValidationResults{d.Status, []ValidationStep{
						{"Step01-Core", "Valid", nil}, {"Step08-Document Signature Validator", "Invalid", t.problems[uuid]},
					}}})
					return
				}
			}
		}
		write(w, http.StatusNotFound, ErrorAnswer{Problem{Code: "NotFound"}})
	case "raw":
		uuid := strings.Split(r.URL.Path, "/")[4]
		for _, t := range s.taken {
			if content, known := t.contents[uuid]; known {
				write(w, http.StatusOK, RawDocument{Document: content})
				return
			}
		}
		write(w, http.StatusNotFound, ErrorAnswer{Problem{Code: "NotFound"}})
	default:
		write(w, http.StatusNotFound, ErrorAnswer{Problem{Code: "NotFound"}})
	}
}

func (s *stage) logIn(w *httptest.ResponseRecorder, r *http.Request, body []byte) {
	form := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
	form.Header.Set("Content-Type", r.Header.Get("Content-Type"))
	name := OnBehalfOf // as it is spelled, which is not how Go does
	taxpayer := strings.Join(r.Header[name], "")
	s.logins = append(s.logins, login{time.Now(), form.FormValue("client_id"), form.FormValue("client_secret"), taxpayer})
	life := s.life
	if life == 0 {
		life = time.Hour
	}
	token := fmt.Sprintf("%s/%d", taxpayer, len(s.logins))
	s.valid[token] = time.Now().Add(life)
	write(w, http.StatusOK, TokenAnswer{token, "Bearer", Whole(life.Seconds()), Scope})
}

func (s *stage) take(w *httptest.ResponseRecorder, taxpayer string, body []byte) {
	hash := sha256.Sum256(append([]byte(taxpayer), body...))
	if at, known := s.payloads[hash]; known && s.now().Sub(at) < 10*time.Minute {
		w.Header().Set("Retry-After", fmt.Sprint(int((10*time.Minute-s.now().Sub(at)).Seconds())+1))
		write(w, http.StatusUnprocessableEntity, ErrorAnswer{Problem{Code: "DuplicateSubmission", Message: "Duplicate"}})
		return
	}
	var said SubmissionRequest
	if err := json.Unmarshal(body, &said); err != nil {
		write(w, http.StatusBadRequest, ErrorAnswer{Problem{Code: "BadStructure"}})
		return
	}
	s.payloads[hash] = s.now()
	uid := fmt.Sprintf("UID%d", len(s.taken)+1)
	t := &takenSubmission{uid: uid, taxpayer: taxpayer, received: s.now(), problems: map[string]*StepProblem{}, contents: map[string]string{}}
	answer := SubmissionAnswer{SubmissionUID: &uid, Rejected: []RejectedDocument{}}
	for i, d := range said.Documents {
		if s.refuse != nil {
			if p := s.refuse(d); p != nil {
				answer.Rejected = append(answer.Rejected, RejectedDocument{d.CodeNumber, *p})
				continue
			}
		}
		status, problem := StatusValid, (*StepProblem)(nil)
		if s.validate != nil {
			status, problem = s.validate(d)
		}
		uuid := fmt.Sprintf("%s-%d", uid, i)
		t.problems[uuid], t.contents[uuid] = problem, string(d.Document)
		t.summary = append(t.summary, DocumentSummary{
			UUID: uuid, SubmissionUID: uid, LongID: "LONG" + uuid, Number: d.CodeNumber, Status: status, Received: Instant{s.now()},
		})
		answer.Accepted = append(answer.Accepted, AcceptedDocument{uuid, d.CodeNumber})
	}
	if len(answer.Accepted) == 0 {
		answer.SubmissionUID = nil
	} else {
		s.taken = append(s.taken, t)
	}
	write(w, http.StatusAccepted, answer)
}

func (s *stage) tell(w *httptest.ResponseRecorder, uid string) {
	for _, t := range s.taken {
		if t.uid != uid {
			continue
		}
		said := SubmissionStatus{SubmissionUID: uid, Count: Whole(len(t.summary)), Overall: "Partially Valid", Documents: slices.Clone(t.summary)}
		if s.now().Sub(t.received) < 6*time.Second { // half of it is known at first
			said.Overall = "InProgress"
			for i := range said.Documents {
				if i%2 == 0 {
					said.Documents[i].Status = StatusSubmitted
				}
			}
		}
		write(w, http.StatusOK, said)
		return
	}
	write(w, http.StatusNotFound, ErrorAnswer{Problem{Code: "NotFound"}})
}

// accepted counts how often each number was accepted.
func (s *stage) accepted() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]int{}
	for _, t := range s.taken {
		for _, d := range t.summary {
			all[d.Number]++
		}
	}
	return all
}

func (s *stage) count(kind string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[kind]
}

func write(w *httptest.ResponseRecorder, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", mediaJSON)
	w.WriteHeader(status)
	_, _ = w.Write(text)
}

// respond makes an answer of a status, headers and a body.
func respond(status int, body string, headers ...string) (*httptest.ResponseRecorder, error) {
	w := httptest.NewRecorder()
	for i := 0; i+1 < len(headers); i += 2 {
		w.Header().Set(headers[i], headers[i+1])
	}
	w.WriteHeader(status)
	_, _ = w.WriteString(body)
	return w, nil
}

var errCut = errors.New("connection reset by peer")

// onlyFor strikes the first times requests of a kind.
func onlyFor(kind string, times int, strike func() (*httptest.ResponseRecorder, error)) func(*http.Request, int) (*httptest.ResponseRecorder, error) {
	return func(r *http.Request, n int) (*httptest.ResponseRecorder, error) {
		if kindOf(r) != kind || n > times {
			return nil, nil
		}
		return strike()
	}
}

func cut() (*httptest.ResponseRecorder, error) { return nil, errCut }

// lasting are secrets that end in years.
func lasting(t *testing.T, entries ...clientEntry) *Credentials {
	t.Helper()
	if entries == nil {
		entries = []clientEntry{{ID: "erp", Secrets: []secretEntry{{"the-secret", "2099-12-31"}}}}
	}
	c, err := credentialsFile{entries}.parse()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// at is a client of a platform, until the test ends.
func at(t *testing.T, s http.RoundTripper, credentials *Credentials) *Client {
	t.Helper()
	c, err := New(Config{API: place, Credentials: "not read", Transport: s}, credentials)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}
