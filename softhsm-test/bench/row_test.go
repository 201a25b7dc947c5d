package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
)

// Which way is better.
const (
	higher = "higher"
	lower  = "lower"
)

// row is one line of the table, and one object of the JSON. Ratio is the median
// of the rounds' ratios, so it is not just Value by Baseline.
type row struct {
	Name     string  `json:"name"`
	Value    float64 `json:"value"`
	Unit     string  `json:"unit"`
	Baseline float64 `json:"baseline"`
	Ratio    float64 `json:"ratio"`

	Of      string  `json:"of,omitempty"`       // what the baseline is
	Better  string  `json:"better"`             // higher or lower
	OfLimit float64 `json:"of_limit,omitempty"` // the value by that of bare C_Sign
	P50     float64 `json:"p50_ms,omitempty"`
	P95     float64 `json:"p95_ms,omitempty"`
	P99     float64 `json:"p99_ms,omitempty"`
	CPU     float64 `json:"cpu_us,omitempty"` // of the server's process, by signature
	Goal    string  `json:"goal,omitempty"`
	Met     *bool   `json:"met,omitempty"`
	Note    string  `json:"note,omitempty"`
}

// goal is a bound of one of a row's figures.
type goal struct {
	figure string // ratio, limit, value or p99
	least  bool   // the bound is the least that will do, else the most
	bound  float64
}

// goals are those of the project, on two cores with client and server together.
var goals = map[string][]goal{
	"signdigest/c4":          {{"limit", true, 0.45}},
	"signdigest/c16":         {{"ratio", true, 0.92}, {"limit", true, 0.75}, {"p99", false, 25}},
	"signdigest/c64":         {{"ratio", true, 0.92}, {"limit", true, 0.80}},
	"signdigests/100":        {{"ratio", true, 0.90}},
	"signall":                {{"ratio", true, 0.80}},
	"ceiling/signdigest":     {{"value", true, 8000}},
	"ceiling/signdigests":    {{"value", true, 15000}},
	"xades/xml/9KB":          {{"ratio", true, 1}},
	"xades/xml/290KB":        {{"ratio", true, 1}},
	"xades/json":             {{"ratio", true, 2}},
	"xades/prepare-complete": {{"value", false, 100}},
	"fairness/shares":        {{"value", false, 3}},
	"fairness/batches":       {{"value", false, 3}},
	"rss/load":               {{"value", false, 150}},
	"rss/after":              {{"ratio", false, 1.20}},
	"start":                  {{"value", false, 300}},
}

// judge puts a row's goals beside it.
func (r *row) judge() {
	var said []string
	met := true
	for _, g := range goals[r.Name] {
		figure := map[string]float64{"ratio": r.Ratio, "limit": r.OfLimit, "value": r.Value, "p99": r.P99}[g.figure]
		unit := map[string]string{"ratio": "", "limit": " of C_Sign", "value": " " + r.Unit, "p99": " ms p99"}[g.figure]
		sign := "≤"
		if g.least {
			sign = "≥"
		}
		said = append(said, fmt.Sprintf("%s %g%s", sign, g.bound, unit))
		met = met && (figure >= g.bound) == g.least
	}
	if len(said) > 0 {
		r.Goal, r.Met = strings.Join(said, ", "), &met
	}
}

// print writes the table.
func printRows(to io.Writer, rows []row) error {
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\nrow\tvalue\tunit\tbetter\tbaseline\tof\tratio\tof C_Sign\tp50/p95/p99 ms\tCPU µs\tgoal\t")
	for _, r := range rows {
		limit, waits, cpu, met := "", "", "", ""
		if r.OfLimit > 0 {
			limit = fmt.Sprintf("%.2f", r.OfLimit)
		}
		if r.P99 > 0 {
			waits = fmt.Sprintf("%.1f / %.1f / %.1f", r.P50, r.P95, r.P99)
		}
		if r.CPU > 0 {
			cpu = fmt.Sprintf("%.0f", r.CPU)
		}
		if r.Met != nil {
			met = map[bool]string{true: ": met", false: ": NOT MET"}[*r.Met]
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%.2f\t%s\t%s\t%s\t%s%s\t%s\n",
			r.Name, figure(r.Value), r.Unit, r.Better, figure(r.Baseline), r.Of, r.Ratio, limit, waits, cpu, r.Goal, met, r.Note)
	}
	return table.Flush()
}

// figure writes a number with as many digits as mean something.
func figure(v float64) string {
	switch {
	case v == 0:
		return "–"
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// save writes the rows as JSON.
func save(path string, rows []row) error {
	text, err := json.MarshalIndent(rows, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o600)
}

// recorded reads rows that were saved.
func recorded(path string) (rows []row, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &rows); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(rows) == 0 {
		return nil, fmt.Errorf("%s: no rows", path)
	}
	return rows, nil
}

// tolerated is the share of a ratio on record that may be lost.
const tolerated = 0.15

// losses names what became worse than on record: by ratios, since they hold on
// other machines, too. A row on record that is not there is a loss. A row without
// a ratio is not compared, and those of fairness are held to their goals.
func losses(record, rows []row) map[string]string {
	now := map[string]row{}
	for _, r := range rows {
		now[r.Name] = r
	}
	lost := map[string]string{}
	for _, before := range record {
		r, measured := now[before.Name]
		var change float64 // how much of before's merit is left
		switch {
		case measured && strings.HasPrefix(before.Name, "fairness/"):
			// Its goal judges it, where it has one: a p99 is too restless to be compared.
			if r.Met != nil && !*r.Met {
				lost[before.Name] = "misses its goal"
			}
			continue
		case before.Ratio == 0:
			continue
		case !measured || r.Ratio == 0:
			lost[before.Name] = "was not measured"
			continue
		case before.Better == higher:
			change = r.Ratio / before.Ratio
		default:
			change = before.Ratio / r.Ratio
		}
		if change < 1-tolerated {
			lost[before.Name] = fmt.Sprintf("ratio %.2f, on record %.2f (%s is better): %.0f%% lost", r.Ratio, before.Ratio, before.Better, 100*(1-change))
		}
	}
	return lost
}
