package strict

import (
	"errors"
	"testing"
	"time"
)

type inner struct {
	Path string        `yaml:"path"`
	Wait time.Duration `yaml:"wait"`
}

type inlined struct {
	Listen string `yaml:"listen"`
}

type whole struct {
	Inlined inlined           `yaml:",inline"`
	Inner   inner             `yaml:"inner"`
	Count   int               `yaml:"count"`
	List    []string          `yaml:"list"`
	Env     map[string]string `yaml:"env"`
	Items   []inner           `yaml:"items"`
	Share   float64           `yaml:"share"`
	Size    uint64            `yaml:"size"`
	Since   time.Time         `yaml:"since"`
}

func TestAValidFileIsReadWhole(t *testing.T) {
	var got whole
	err := Decode([]byte("listen: a:1\ninner: {path: p, wait: 5s}\ncount: 3\nlist: [x, y]\nenv: {A: b}\nitems: [{path: q}, {wait: 1s}]\nsince: 2026-11-20\n"), &got).Err()
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Items) != 2 || got.Items[0].Path != "q" || got.Items[1].Wait != time.Second {
		t.Errorf("got items %+v", got.Items)
	}
	if want := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC); !got.Since.Equal(want) {
		t.Errorf("got since %s, want %s", got.Since, want)
	}
	if got.Inlined.Listen != "a:1" || got.Inner != (inner{"p", 5 * time.Second}) || got.Count != 3 || len(got.List) != 2 || got.Env["A"] != "b" {
		t.Errorf("got %+v", got)
	}
}

func TestEveryFaultIsToldWithItsLine(t *testing.T) {
	for _, row := range []struct{ name, text, want string }{
		{"an unknown key, at the top and below", "lisen: x\ninner:\n  pth: y\n",
			"line 1: lisen is not a key here; the keys are listen, inner, count, list, env, items, share, size, since\nline 3: inner.pth is not a key here; the keys are path, wait"},
		{"a key given twice", "count: 1\ncount: 2\n", "line 2: count is given twice"},
		{"values of the wrong kind", "count: many\nlist: {a: b}\ninner: {wait: long}\nshare: half\nsize: -1\nsince: soon\n",
			"line 1: count must be a whole number\nline 2: list must be a list\nline 3: inner.wait must be a duration, such as \"5s\"\n" +
				"line 4: share must be a number\nline 5: size must be a whole number\nline 6: since must be a date or a time, such as 2026-11-20 or 2026-11-20T03:15:00Z"},
		{"a text where a mapping belongs", "inner: 3\n", "line 1: inner must have the keys path, wait"},
		{"faults in a list's items", "items:\n  - path: x\n  - pth: y\n    wait: long\n  - 3\n",
			"line 3: items[1].pth is not a key here; the keys are path, wait\nline 4: items[1].wait must be a duration, such as \"5s\"\nline 5: items[2] must have the keys path, wait"},
		{"no list where one belongs", "items: {path: x}\n", "line 1: items must be a list"},
		{"no mapping at all", "- x\n", "line 1: the file must have the keys listen, inner, count, list, env, items, share, size, since"},
		{"a second document", "count: 1\n---\ncount: 2\n", "line 2: a second document begins here; the file holds one"},
	} {
		t.Run(row.name, func(t *testing.T) {
			err := Decode([]byte(row.text), &whole{}).Err()
			if err == nil || err.Error() != row.want {
				t.Errorf("got:\n%v\nwant:\n%s", err, row.want)
			}
		})
	}
}

func TestWhatIsNoYAMLIsOneFault(t *testing.T) {
	for text, want := range map[string]string{
		"count: 1\nlist: [\n":   "line 2: not YAML: did not find expected node content",
		"inner:\n\tpath: x\n":   "line 2: not YAML: found character that cannot start any token (a tab? YAML is indented with blanks)",
		"count: 1\n---\na: [\n": "line 3: not YAML: did not find expected node content",
	} {
		d := Decode([]byte(text), &whole{})
		d.Locate("", errors.New("listen: missing"))
		if err := d.Err(); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
}

func TestValidationsFaultsGetTheLinesOfTheirKeys(t *testing.T) {
	d := Decode([]byte("count: x\ninner:\n  path: y\n"), &whole{})
	d.Locate("", errors.New("count: must be positive"))
	d.Locate("inner.", errors.Join(errors.New("path: no such file: y"), errors.New("wait: missing")))
	d.Locate("", errors.New("listen: missing"))
	e := Decode([]byte("items:\n  - path: y\n  - path: z\n"), &whole{})
	e.Locate("items[1].", errors.Join(errors.New("path: no such file: z"), errors.New("wait: missing")))
	if err := e.Err(); err == nil || err.Error() != "line 3: items[1].path: no such file: z" {
		t.Errorf("got:\n%v", err)
	}
	want := "listen: missing\nline 1: count must be a whole number\nline 2: inner.wait: missing\nline 3: inner.path: no such file: y"
	if err := d.Err(); err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
}

func TestAnEmptyFileHasNoFaultsOfForm(t *testing.T) {
	if err := Decode([]byte("# nothing\n"), &whole{}).Err(); err != nil {
		t.Error(err)
	}
}
