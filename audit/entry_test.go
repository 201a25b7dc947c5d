package audit_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/roamsign/roamsign/audit"
)

// example is the entry that docs/FORMATS.md shows.
func example() audit.Entry {
	return audit.Entry{
		Time:        time.Date(2026, 11, 22, 1, 36, 24, 123456789, time.UTC),
		Signer:      "signer-1",
		Caller:      "spiffe://agent.example/billing",
		TIN:         "C2584563222",
		TINChecked:  true,
		Method:      "SignDocument",
		Certificate: digest("certificate"), Document: digest("document"), SignedProperties: digest("properties"),
		Number:    "INV12345",
		RequestID: "7f1c1f6e-0a3b-4a6e-9a53-0d3c2f7c9f10",
		Nonce:     [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
	}
}

func TestTheDocumentedExampleIsWhatIsWritten(t *testing.T) {
	text, err := os.ReadFile("../docs/FORMATS.md")
	if err != nil {
		t.Fatal(err)
	}
	e := example()
	line, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "\n"+string(line)+"\n") {
		t.Errorf("docs/FORMATS.md does not show the line\n%s", line)
	}
	var generic map[string]any
	if err := json.Unmarshal(line, &generic); err != nil {
		t.Fatalf("the entry is no JSON: %v", err)
	}
	for key := range generic {
		if !strings.Contains(string(text), "| `"+key+"` |") {
			t.Errorf("docs/FORMATS.md does not explain %q", key)
		}
	}
}

func TestAnEntryIsReadAsItWasWritten(t *testing.T) {
	change := func(f func(*audit.Entry)) audit.Entry {
		e := example()
		f(&e)
		return e
	}
	for name, e := range map[string]audit.Entry{
		"the example":         example(),
		"nothing left out":    change(func(e *audit.Entry) { e.TINChecked = false }),
		"as little as may be": change(func(e *audit.Entry) { e.SignedProperties, e.Number, e.RequestID = audit.Digest{}, "", "" }),
		"odd characters":      change(func(e *audit.Entry) { e.Number = "\x00\"\\/\n\u007f\u2028é😀\ufffd" }),
		"a local time":        change(func(e *audit.Entry) { e.Time = e.Time.In(time.FixedZone("", 8*3600)) }),
		"a whole second":      change(func(e *audit.Entry) { e.Time = e.Time.Truncate(time.Second) }),
		"the longest texts": change(func(e *audit.Entry) {
			e.Signer, e.Caller, e.TIN = strings.Repeat("\x01", 255), strings.Repeat("\x01", 2048), strings.Repeat("\x01", 64)
			e.Number, e.RequestID = strings.Repeat("\x01", 200), strings.Repeat("\x01", 64)
		}),
	} {
		line, err := e.Encode()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if bytes.ContainsAny(line, "\n\r") || len(line) > audit.MaxEntry {
			t.Errorf("%s: got %q, want one line of at most %d bytes", name, line, audit.MaxEntry)
		}
		var generic map[string]any
		if err := json.Unmarshal(line, &generic); err != nil || generic["number"] != e.Number {
			t.Errorf("%s: encoding/json reads %v, number %q", name, err, generic["number"])
		}
		got, err := audit.ParseEntry(line)
		e.Time = e.Time.UTC()
		if err != nil || !reflect.DeepEqual(got, e) {
			t.Errorf("%s: got %+v and %v, want %+v", name, got, err, e)
		}
	}
}

func TestWhatHasNoFormIsNotWritten(t *testing.T) {
	for name, change := range map[string]func(*audit.Entry){
		"time":        func(e *audit.Entry) { e.Time = time.Date(2201, 1, 1, 0, 0, 0, 0, time.UTC) },
		"certificate": func(e *audit.Entry) { e.Certificate = audit.Digest{} },
		"document":    func(e *audit.Entry) { e.Document = audit.Digest{} },
		"signer":      func(e *audit.Entry) { e.Signer = "" },
		"caller":      func(e *audit.Entry) { e.Caller = strings.Repeat("a", 2049) },
		"tin":         func(e *audit.Entry) { e.TIN = "" },
		"method":      func(e *audit.Entry) { e.Method = "" },
		"number":      func(e *audit.Entry) { e.Number = "\xff" },
		"request":     func(e *audit.Entry) { e.RequestID = strings.Repeat("a", 65) },
		"entry": func(e *audit.Entry) { // each text is within its bounds
			controls := strings.Repeat("\x01", 2048)
			e.Signer, e.Caller, e.TIN, e.Method, e.Number, e.RequestID = controls[:255], controls, controls[:64], controls[:64], controls[:200], controls[:64]
		},
	} {
		e := example()
		change(&e)
		if line, err := e.Encode(); err == nil || !strings.HasPrefix(err.Error(), name+":") {
			t.Errorf("%s: got %q and %v, want an error about it", name, line, err)
		}
	}
}

func TestOnlyTheOneFormIsRead(t *testing.T) {
	e := example()
	line, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	good := string(line)
	for name, row := range map[string]struct {
		text string
		want error
	}{
		"nothing":                 {"", audit.ErrNotCanonical},
		"a newline after it":      {good + "\n", audit.ErrNotCanonical},
		"a blank in it":           {strings.Replace(good, ",", ", ", 1), audit.ErrNotCanonical},
		"a field more":            {strings.TrimSuffix(good, "}") + `,"x":1}`, audit.ErrNotCanonical},
		"fields in another order": {strings.Replace(good, `"v":1,"time":"2026-11-22T01:36:24.123456789Z"`, `"time":"2026-11-22T01:36:24.123456789Z","v":1`, 1), audit.ErrNotCanonical},
		"a needless escape":       {strings.Replace(good, "INV", `\u0049NV`, 1), audit.ErrNotCanonical},
		"an escape in capitals":   {strings.Replace(good, "INV", `\u001F`, 1), audit.ErrNotCanonical},
		"a bare control":          {strings.Replace(good, "INV", "\x1f", 1), audit.ErrNotCanonical},
		"capitals in hexadecimal": {strings.Replace(good, "0f10\"}", "0F10\"}", 1), audit.ErrNotCanonical},
		"a shorter time":          {strings.Replace(good, ".123456789Z", ".123Z", 1), audit.ErrNotCanonical},
		"another zone":            {strings.Replace(good, "789Z", "789+00:00", 1), audit.ErrNotCanonical},
		"no nonce":                {strings.Replace(good, "0102030405060708090a0b0c0d0e0f10", "", 1), audit.ErrNotCanonical},
		"a digest without its =":  {strings.Replace(good, `=","number"`, `","number"`, 1), audit.ErrNotCanonical},
		"neither true nor false":  {strings.Replace(good, "true", "maybe", 1), audit.ErrNotCanonical},
		"a version to come":       {strings.Replace(good, `"v":1`, `"v":2`, 1), audit.ErrVersion},
		"a version of none":       {strings.Replace(good, `"v":1`, `"v":"1"`, 1), audit.ErrNotCanonical},
		"too long":                {good + strings.Repeat(" ", audit.MaxEntry), audit.ErrNotCanonical},
	} {
		if row.text == good {
			t.Errorf("%s: the row changes nothing", name)
		}
		if got, err := audit.ParseEntry([]byte(row.text)); !errors.Is(err, row.want) {
			t.Errorf("%s: got %+v and %v, want %v", name, got, err, row.want)
		}
	}
	for i := range line {
		if _, err := audit.ParseEntry(line[:i]); err == nil {
			t.Errorf("the first %d bytes are read as an entry", i)
		}
	}
}

func FuzzEntry(f *testing.F) {
	e := example()
	line, err := e.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line)
	f.Add(bytes.Replace(line, []byte("INV"), []byte(`\"\\\u0000é`), 1))
	f.Add([]byte(`{"v":2}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		e, err := audit.ParseEntry(text)
		if err != nil {
			return
		}
		if again, err := e.Encode(); err != nil || !bytes.Equal(again, text) {
			t.Errorf("read %q, would write %q (%v)", text, again, err)
		}
		var generic map[string]any
		if err := json.Unmarshal(text, &generic); err != nil {
			t.Errorf("read %q, which is no JSON: %v", text, err)
		}
	})
}
