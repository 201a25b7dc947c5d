package bench

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestALossIsFoundWhicheverWayIsBetter(t *testing.T) {
	for _, c := range []struct {
		name        string
		before, now row
		want        string
	}{
		{"the same", row{Ratio: 0.9, Better: higher}, row{Ratio: 0.9}, ""},
		{"a seventh less", row{Ratio: 0.9, Better: higher}, row{Ratio: 0.78}, ""},
		{"a fifth less", row{Ratio: 0.9, Better: higher}, row{Ratio: 0.72}, "20% lost"},
		{"more", row{Ratio: 0.9, Better: higher}, row{Ratio: 2}, ""},
		{"a seventh more of what shall be low", row{Ratio: 1, Better: lower}, row{Ratio: 1.14}, ""},
		{"a quarter more of what shall be low", row{Ratio: 1, Better: lower}, row{Ratio: 1.25}, "20% lost"},
		{"less of what shall be low", row{Ratio: 1, Better: lower}, row{Ratio: 0.2}, ""},
		{"no ratio any more", row{Ratio: 1, Better: lower}, row{}, "not measured"},
		{"never a ratio", row{Better: lower}, row{Ratio: 3}, ""},
	} {
		got := losses([]row{c.before}, []row{c.now})[""]
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
	no := false
	for _, c := range []struct {
		name string
		now  row
		want string
	}{
		{"twice the ratio, but within the goal", row{Name: "fairness/p99", Ratio: 2}, ""},
		{"the goal is missed", row{Name: "fairness/p99", Ratio: 1, Met: &no}, "misses its goal"},
		{"it was not measured", row{Name: "other"}, "not measured"},
	} {
		got := losses([]row{{Name: "fairness/p99", Ratio: 1, Better: lower}}, []row{c.now})["fairness/p99"]
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("fairness: %s: got %q, want %q", c.name, got, c.want)
		}
	}
	if lost := losses([]row{{Name: "gone", Ratio: 1}}, []row{{Name: "other", Ratio: 1}}); lost["gone"] == "" || len(lost) != 1 {
		t.Errorf("a row that is gone: got %v", lost)
	}
}

func TestGoalsAreJudgedByTheirFigures(t *testing.T) {
	for _, c := range []struct {
		name string
		row  row
		want bool
	}{
		{"all three", row{Name: "signdigest/c16", Ratio: 0.93, OfLimit: 0.76, P99: 24}, true},
		{"too slow beside gRPC", row{Name: "signdigest/c16", Ratio: 0.91, OfLimit: 0.76, P99: 24}, false},
		{"too slow beside C", row{Name: "signdigest/c16", Ratio: 0.93, OfLimit: 0.74, P99: 24}, false},
		{"too long a wait", row{Name: "signdigest/c16", Ratio: 0.93, OfLimit: 0.76, P99: 26}, false},
		{"small enough", row{Name: "rss/load", Value: 149}, true},
		{"too big", row{Name: "rss/load", Value: 151}, false},
	} {
		c.row.judge()
		if c.row.Met == nil || *c.row.Met != c.want {
			t.Errorf("%s: got %v, want %v", c.name, c.row.Met, c.want)
		}
	}
	if free := (row{Name: "hsm/c4"}); func() bool { free.judge(); return free.Met != nil }() {
		t.Error("a row without a goal was judged")
	}
}

func TestTheRecordCanBeReadAndNamesEveryRow(t *testing.T) {
	record, err := recorded(filepath.Join("testdata", "baseline.json"))
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]row{}
	for _, r := range record {
		known[r.Name] = r
	}
	for _, s := range scenes {
		for _, name := range s.rows {
			if r := known[name]; r.Better != higher && r.Better != lower {
				t.Errorf("%s: not on record: make bench BENCH_JSON=softhsm-test/bench/testdata/baseline.json", name)
			}
			delete(known, name)
		}
	}
	for name := range known {
		t.Errorf("%s: on record, but nothing measures it", name)
	}
	for name := range goals {
		if !contains(name) {
			t.Errorf("%s: has a goal, but nothing measures it", name)
		}
	}
}

func TestRatiosAreThoseOfRounds(t *testing.T) {
	// The machine halves its speed for good after the first round.
	base := series{rounds: []round{{signatures: 100, took: time.Second}, {signatures: 50, took: time.Second}, {signatures: 50, took: time.Second}}}
	own := series{rounds: []round{{signatures: 90, took: time.Second}, {signatures: 45, took: time.Second}, {signatures: 46, took: time.Second}}}
	if got := own.by(base); got < 0.899 || got > 0.901 {
		t.Errorf("got %v, want 0.9", got)
	}
	if got := base.speed(); got != 50 {
		t.Errorf("got a speed of %v, want 50", got)
	}
}

func TestQuantilesAreOfAllRounds(t *testing.T) {
	var s series
	for i := range 2 {
		var r round
		for n := range 50 {
			r.waits = append(r.waits, time.Duration(2*n+i+1)*time.Millisecond)
		}
		s.rounds = append(s.rounds, r)
	}
	if p50, p95, p99 := s.quantiles(); p50 != 50 || p95 != 95 || p99 != 99 {
		t.Errorf("got %v, %v and %v, want 50, 95 and 99", p50, p95, p99)
	}
}
