package main

import (
	"context"
	"encoding/csv"
	"flag"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/roamsign/roamsign/client"
	"github.com/roamsign/roamsign/internal/command"
	"github.com/roamsign/roamsign/policy"
	"github.com/roamsign/roamsign/xades"
)

func auditListCommand(config *string) command.Command {
	return command.Command{
		Name: "audit list", Args: "[FLAGS]",
		Purpose: "List what is on record.",
		About: `
Lists the signatures on record: with --tin those on behalf of that taxpayer that
this client may read, else all of its own. A caller reads what it had signed
itself; others' signatures of a taxpayer only if the signer's policy says so.

The retries of one request, of the same document, are one line, with the first
one's index and time. --since and --until are times, or days in Malaysia; both days
count. An entry says that signing was authorised: a signature may not have been
released. A receipt proves an entry.

With --json, an array of an object for each line: log, index, time, signer, caller,
tin, tin_checked, method, certificate, document, properties, number, request, and
retries, the indices of the others. With --csv, the same columns.

Exit status: 0 if all was read, also where there is nothing; 1 if a signer refused,
2 if the usage or the configuration is wrong or a signer does not answer.`,
		Example: `
roamsign audit list --tin C20880050010 --since 2026-11-01 --until 2026-11-30
roamsign audit list --csv > signatures.csv`,
		Define: func(flags *flag.FlagSet) command.Runner {
			l := &listing{config: config}
			flags.StringVar(&l.tin, "tin", "", "the `TIN` of the taxpayer on whose behalf")
			flags.StringVar(&l.since, "since", "", "the first `TIME` (RFC 3339), or day")
			flags.StringVar(&l.until, "until", "", "the last `TIME` (RFC 3339), or day")
			flags.BoolVar(&l.csv, "csv", false, "print CSV")
			flags.BoolVar(&l.json, "json", false, "print JSON")
			return l.run
		},
	}
}

// listing is what the flags of audit list say.
type listing struct {
	config            *string
	tin, since, until string
	csv, json         bool
}

// query reads the flags.
func (l *listing) query() (q client.Query, err error) {
	if l.tin != "" {
		if _, err := policy.ParseTIN(l.tin); err != nil {
			return q, command.Usagef("--tin: %v", err)
		}
		q.TIN = l.tin
	}
	if l.csv && l.json {
		return q, command.Usagef("--csv or --json, not both")
	}
	if q.Since, _, err = parseBound("--since", l.since); err != nil {
		return q, err
	}
	_, q.Until, err = parseBound("--until", l.until)
	return q, err
}

// malaysia has one time all year.
var malaysia = time.FixedZone("MYT", 8*60*60)

// parseBound reads a time or a day: its first instant, and the first one after it.
func parseBound(name, text string) (first, after time.Time, err error) {
	if text == "" {
		return first, after, nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, at.Add(1), nil
	}
	if day, err := time.ParseInLocation(time.DateOnly, text, malaysia); err == nil {
		return day, day.AddDate(0, 0, 1), nil
	}
	return first, after, command.Usagef("%s is a time such as 2026-07-01T08:00:00+08:00 or a day such as 2026-07-01, not %q", name, text)
}

func (l *listing) run(ctx context.Context, streams command.Streams, args []string) error {
	if len(args) > 0 {
		return command.Usagef("unexpected argument %q", args[0])
	}
	q, err := l.query()
	if err != nil {
		return err
	}
	return withSigner(*l.config, func(signer *client.Client) error {
		lines, err := gather(signer.Signatures(ctx, q))
		if err != nil {
			return refused(streams, "audit list", err)
		}
		switch {
		case l.json:
			return writeJSON(streams.Out, lines)
		case l.csv:
			return writeCSV(streams.Out, lines)
		case len(lines) == 0:
			fmt.Fprintln(streams.Out, "Nothing is on record that this client may read"+l.narrowed()+".")
			return nil
		}
		return writeTable(streams.Out, lines)
	})
}

// narrowed says of whom and when, where that was asked for.
func (l *listing) narrowed() string {
	text := ""
	for _, part := range []struct{ word, value string }{{" on behalf of ", l.tin}, {" since ", l.since}, {" until ", l.until}} {
		if part.value != "" {
			text += part.word + part.value
		}
	}
	return text
}

// line is one request on record, with its retries.
type line struct {
	Log string `json:"log"`
	logged
	Retries []uint64 `json:"retries"`
}

// gather makes one line of the retries of a request, in the order of the first
// ones.
func gather(records iter.Seq2[client.Record, error]) ([]line, error) {
	lines := []line{}
	places := map[client.Request]int{}
	for r, err := range records {
		if err != nil {
			return nil, err
		}
		if at, again := places[r.Request()]; again && r.RequestID != "" {
			lines[at].Retries = append(lines[at].Retries, r.Index)
			continue
		}
		places[r.Request()] = len(lines)
		lines = append(lines, line{Log: r.Log, logged: loggedRecord(&r), Retries: []uint64{}})
	}
	return lines, nil
}

// columns are those of the CSV, by the names of the JSON.
var columns = []string{
	"log", "index", "time", "signer", "caller", "tin", "tin_checked", "method", "certificate", "document", "properties", "number", "request", "retries",
}

func writeCSV(to io.Writer, lines []line) error {
	w := csv.NewWriter(to)
	if err := w.Write(columns); err != nil {
		return err
	}
	for i := range lines {
		l := &lines[i]
		retries := make([]string, len(l.Retries))
		for i, index := range l.Retries {
			retries[i] = strconv.FormatUint(index, 10)
		}
		row := []string{
			l.Log, strconv.FormatUint(l.Index, 10), l.Time.Format(time.RFC3339Nano), l.Signer, l.Caller, l.TIN, strconv.FormatBool(l.TINChecked),
			l.Method, l.Certificate, l.Document, l.Properties, l.Number, l.Request, strings.Join(retries, " "),
		}
		for i := range row {
			row[i] = harmless(row[i])
		}
		if err := w.Write(row); err != nil {
			return err
		}
	}
	w.Flush()
	return w.Error()
}

// harmless keeps a spreadsheet from taking what a caller wrote for a formula.
func harmless(cell string) string {
	if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
		return "'" + cell
	}
	return cell
}

func writeTable(to io.Writer, lines []line) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "INDEX\tTIME\tTIN\tNUMBER\tDIGEST\tCALLER\tMETHOD\tRETRIES")
	log := lines[0].Log
	for i := range lines {
		l := &lines[i]
		if l.Log != log {
			fmt.Fprintf(w, "log %s\n", l.Log)
			log = l.Log
		}
		retries := ""
		if n := len(l.Retries); n > 0 {
			retries = strconv.Itoa(n)
		}
		row := []string{
			strconv.FormatUint(l.Index, 10), l.Time.Format(time.RFC3339), l.TIN, dash(l.Number), l.Document, l.Caller, l.Method, retries,
		}
		for i := range row {
			row[i] = oneLine(row[i])
		}
		fmt.Fprintln(w, strings.TrimRight(strings.Join(row, "\t"), "\t"))
	}
	return w.Flush()
}

// dash stands for what is not on record.
func dash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func auditFindCommand(config *string) command.Command {
	return command.Command{
		Name: "audit find", Args: "[FLAGS] FILE...",
		Purpose: "Tell whether documents are on record, since when, and who asked.",
		About: `
Asks the signer for each document, signed or not, by its digest as the file stands.
Only what this client may read is told: "not on record" may mean that it is
somebody else's.

With --json, an array of an object for each file: file, digest, and records as audit
list has them.

Exit status: 0 if all are on record, 1 if one is not or a document is malformed, 2 if
the usage or the configuration is wrong, a file cannot be read, or a signer does not
answer.`,
		Example: `
roamsign audit find invoice.signed.xml
roamsign audit find --json signed/*.json`,
		Define: func(flags *flag.FlagSet) command.Runner {
			f := &searching{config: config}
			flags.BoolVar(&f.json, "json", false, "print JSON")
			return onFiles(f.run)
		},
	}
}

// searching is what the flags of audit find say.
type searching struct {
	config *string
	json   bool
}

// sought is what audit find tells of one file. Its JSON is a contract.
type sought struct {
	File    string `json:"file"`
	Digest  string `json:"digest"`
	Records []line `json:"records"`
}

func (f *searching) run(ctx context.Context, streams command.Streams, files []string) error {
	return withSigner(*f.config, func(signer *client.Client) error {
		code, all := command.OK, []sought{}
		for _, name := range files {
			content, err := read(ctx, streams, name)
			var digest [32]byte
			if err == nil {
				digest, err = xades.DigestAsIs(content)
			}
			if err != nil {
				complain(streams, name, err)
				code = max(code, codeOf(err))
				continue
			}
			lines, err := gather(signer.Find(ctx, digest))
			if err != nil {
				return refused(streams, name, err)
			}
			if len(lines) == 0 {
				code = max(code, command.Failed)
			}
			s := sought{name, base64Of(digest), lines}
			if !f.json {
				s.show(streams.Out)
			}
			all = append(all, s)
		}
		if f.json {
			if err := writeJSON(streams.Out, all); err != nil {
				return err
			}
		}
		return ended(code)
	})
}

func (s *sought) show(to io.Writer) {
	if len(s.Records) == 0 {
		fmt.Fprintf(to, "%s: not on record, as far as this client may read\n  digest        %s\n", oneLine(s.File), s.Digest)
		return
	}
	fmt.Fprintf(to, "%s: on record\n  digest        %s\n", oneLine(s.File), s.Digest)
	for i := range s.Records {
		l := &s.Records[i]
		retries := ""
		if n := len(l.Retries); n > 0 {
			retries = fmt.Sprintf(", and %d retries", n)
		}
		fmt.Fprintf(to, "  entry %-7d %s  for %s %s, by %s with %s%s\n",
			l.Index, l.Time.Format(time.RFC3339), l.TIN, l.how(), oneLine(l.Caller), l.Method, retries)
	}
}
