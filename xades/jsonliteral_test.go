package xades

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
)

func TestNumbersAreWrittenInTheFormThatSurvives(t *testing.T) {
	for _, row := range []struct{ literal, want string }{
		{"0", "0.0"}, {"1", "1.0"}, {"100", "100.0"}, {"0.0", "0.0"}, {"0.00", "0.0"},
		{"1.50", "1.5"}, {"85.00", "85.0"}, {"1436.5", "1436.5"}, {"3.23410", "3.2341"}, {"0.10", "0.1"},
		{"-1", "-1.0"}, {"-0.50", "-0.5"}, {"-0", "0.0"}, {"-0.0", "0.0"}, {"-0e5", "0.0"},
		{"1e2", "100.0"}, {"1E+2", "100.0"}, {"1.5e-1", "0.15"}, {"123.456e2", "12345.6"}, {"123.456e1", "1234.56"},
		{"1e0000000002", "100.0"}, {"1e-0", "1.0"}, {"0.0001", "0.0001"}, {"1e-4", "0.0001"}, {"-0.00010", "-0.0001"},
		{"0.000123456789012345", "0.000123456789012345"},
		{"999999999999999", "999999999999999.0"}, {"99999999999999.9", "99999999999999.9"}, {"100000000000000", "100000000000000.0"},
		{"1.00000000000000000000000", "1.0"}, {"0.100000000000000000000000000", "0.1"}, {"1.5e14", "150000000000000.0"},
		{"0e999999999", "0.0"}, {"0.000e-99999999999999999999", "0.0"}, {"0.00000000000000000001e20", "1.0"}, {"100000000000000000000e-20", "1.0"},
		{"0." + strings.Repeat("0", 5000) + "1e5001", "1.0"}, {"1" + strings.Repeat("0", 5000) + "e-5000", "1.0"},
	} {
		if got := string(scanned(t, in(`"a":`+row.literal), jsonOptions{literals: literalsSafe}).canonical); got != in(`"a":`+row.want) {
			t.Errorf("%s: got %s, want %s", shorten([]byte(row.literal)), got, row.want)
		}
	}
}

func TestNumbersWithNoSuchFormAreRefusedByPathAndLiteral(t *testing.T) {
	for _, literal := range []string{
		"1e15", "1000000000000000", "999999999999999.5", "-1e15", "1234567890123456", "0.1234567890123456", "1.000000000000001e0",
		"0.00009999", "1e-5", "-0.00001", "1e999999999", "1e-999999999", "1e99999999999999999999999", "5e-324", "1.7976931348623157e308",
		"100000000000000000000", "1" + strings.Repeat("0", 40),
	} {
		_, err := scanJSON([]byte(in(`"a":{"b":[0,`+literal+`]}`)), jsonOptions{literals: literalsSafe})
		refused(t, err, ErrLiteral, "Invoice[0].a.b[1]: "+literal)
	}
}

// The digit rule must agree with what a server does that reads doubles: parse,
// and write the shortest digits that give the same double back.
func TestTheDigitRuleAgreesWithARoundTripThroughDoubles(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(2026, 11))
	written, refusals := 0, 0
	for range 60_000 {
		literal := randomNumber(random)
		exact, ok := new(big.Rat).SetString(literal)
		if !ok {
			t.Fatalf("no number: %s", literal)
		}
		d, ok := parseDecimal([]byte(literal))
		var safe []byte
		if ok {
			safe, ok = d.appendSafe(nil)
		}
		if want := hasSafeForm(exact); ok != want {
			t.Fatalf("%s: written %v, want %v", literal, ok, want)
		}
		if !ok {
			refusals++
			continue
		}
		written++
		double, err := strconv.ParseFloat(literal, 64)
		if err != nil {
			t.Fatal(err)
		}
		want := strconv.FormatFloat(double, 'f', -1, 64)
		if !strings.Contains(want, ".") {
			want += ".0"
		}
		if double == 0 {
			want = "0.0"
		}
		if string(safe) != want {
			t.Fatalf("%s: got %s, a double gives %s", literal, safe, want)
		}
	}
	if written < 10_000 || refusals < 10_000 {
		t.Errorf("only %d written and %d refused: the literals are no test", written, refusals)
	}
}

// hasSafeForm says the rule again, on exact fractions: 0, or from 0.0001 to
// below 1e15 with at most 15 significant digits.
func hasSafeForm(x *big.Rat) bool {
	x = new(big.Rat).Abs(x)
	if x.Sign() == 0 {
		return true
	}
	if x.Cmp(big.NewRat(1, 10_000)) < 0 || x.Cmp(big.NewRat(1e15, 1)) >= 0 {
		return false
	}
	ten, limit := big.NewRat(10, 1), big.NewRat(1e14, 1)
	for x.Cmp(limit) < 0 { // to 15 digits before the point
		x.Mul(x, ten)
	}
	return x.IsInt()
}

// randomNumber favours the neighbourhood of the rule's limits.
func randomNumber(random *rand.Rand) string {
	var b strings.Builder
	digits := func(n int) {
		for range n {
			b.WriteByte("0001234567899"[random.IntN(13)])
		}
	}
	if random.IntN(3) == 0 {
		b.WriteByte('-')
	}
	if n := random.IntN(17); n == 0 {
		b.WriteByte('0')
	} else {
		b.WriteByte("123456789"[random.IntN(9)])
		digits(n - 1)
	}
	if random.IntN(4) > 0 {
		b.WriteByte('.')
		digits(1 + random.IntN(9)*random.IntN(3))
	}
	if random.IntN(3) == 0 {
		fmt.Fprintf(&b, "%c%s%d", "eE"[random.IntN(2)], []string{"", "+", "-"}[random.IntN(3)], random.IntN(12))
	}
	return b.String()
}

func TestStringsKeepOnlyTheEscapesTheyNeed(t *testing.T) {
	for _, row := range []struct{ name, literal, want string }{
		{"nothing special", `"a b"`, `"a b"`},
		{"a slash", `"a\/b/c"`, `"a/b/c"`},
		{"signs of HTML", `"\u003ca\u003e\u0026\u0027"`, `"<a>&'"`},
		{"an accent, escaped and raw", `"\u00e9é\u00E9"`, `"ééé"`},
		{"a pair of surrogates", `"\ud83d\ude00"`, `"😀"`},
		{"the first and the last pair", `"\ud800\udc00\udbff\udfff"`, "\"\U00010000\U0010ffff\""},
		{"quote and backslash", `"\"\\\u0022\u005c"`, `"\"\\\"\\"`},
		{"short escapes", `"\b\f\n\r\t"`, `"\b\f\n\r\t"`},
		{"short escapes written long", `"\u0008\u000C\u000a\u000D\u0009"`, `"\b\f\n\r\t"`},
		{"other control characters", `"\u0000\u001F\u001b"`, `"\u0000\u001f\u001b"`},
		{"delete is no control character", `"\u007f"`, "\"\x7f\""},
		{"next line, raw", "\"a\u0085b\"", `"a\u0085b"`},
		{"line and paragraph separator, raw", "\"\u2028\u2029\"", `"\u2028\u2029"`},
		{"the same, escaped", `"\u0085\u2028\u2029"`, `"\u0085\u2028\u2029"`},
		{"their neighbours stay raw", `"\u0084\u0086\u2027\u202a\u00a0€"`, "\"\u0084\u0086\u2027\u202a\u00a0€\""},
		{"a byte order mark", `"\ufeff"`, "\"\ufeff\""},
		{"no characters, but code points", `"\uffff\ufffe"`, "\"\uffff\ufffe\""},
		{"an escaped backslash before a u", `"\\u0041"`, `"\\u0041"`},
		{"empty", `""`, `""`},
	} {
		t.Run(row.name, func(t *testing.T) {
			d := scanned(t, in(`"v":`+row.literal+`,`+row.literal+`:"k"`), jsonOptions{literals: literalsSafe})
			if got, want := string(d.canonical), in(`"v":`+row.want+`,`+row.want+`:"k"`); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func TestStringsThatServersTakeForDatesAreRefused(t *testing.T) {
	for _, row := range []struct {
		text string
		date bool
	}{
		{"2024-07-23T00:40:00", false}, {"2024-07-23T00:40:00Z", false}, // read as dates, and written as they were
		{"2024-07-23", false}, {"00:40:00Z", false}, {"2024-07-23T00:40", false}, {"2024-07-23T00:40Z", false},
		{"2024-07-23T00:40:54.120Z", true}, {"2024-07-23T00:40:54.1", true}, {"2024-07-23T00:40:54.0000000Z", true},
		{"2024-07-23T00:40:54.1234567", true}, {"2024-07-23T00:40:54.12345678", false}, {"2024-07-23T00:40:54.123456789", true},
		{"2024-07-23T00:40:54.", false}, {"2024-07-23T00:40:54.Z", false}, {"2024-07-23T00:40:54,1Z", false},
		{"2024-07-23T00:40:00+08:00", true}, {"2024-07-23T00:40:00-0330", true}, {"2024-07-23T00:40:00+08", true},
		{"2024-07-23T00:40:00+8", false}, {"2024-07-23T00:40:00+08:0", false}, {"2024-07-23T00:40:00+08:00:00", false},
		{"2024-07-23T00:40:00.5+08:00", true}, {"2024-07-23T00:40:00+99:99", true}, {"2024-07-23T00:40:00+00:00", true},
		{"2024-07-23T00:40:00z", true}, {"2024-07-23t00:40:00Z", false}, {"2024-07-23 00:40:00Z", false},
		{"2024-07-23T00:40:00ZZ", false}, {"2024-07-23T00:40:00 Z", false}, {"2024-07-23T00:40:00Z ", false}, {" 2024-07-23T00:40:00.5Z", false},
		{"2024-07-23T00:40:00:30", true}, {"2024-07-23T00:40:0030", true}, {"2024-07-23T00:40:00:", true},
		{"2024-07-23T24:00:00", true}, {"2024-07-23T24:00:00Z", true}, {"2024-07-23T24:00:01", false}, {"2024-07-23T25:00:00.1Z", false},
		{"2024-02-29T00:00:00.1Z", true}, {"2023-02-29T00:00:00.1Z", false}, {"1900-02-29T00:00:00.1Z", false}, {"2000-02-29T00:00:00.1Z", true},
		{"2024-13-01T00:00:00.1Z", false}, {"2024-00-01T00:00:00.1Z", false}, {"2024-04-31T00:00:00.1Z", false}, {"2024-01-00T00:00:00.1Z", false},
		{"0000-01-01T00:00:00.1Z", false}, {"0001-01-01T00:00:00.1Z", true}, {"2024-01-01T00:60:00.1Z", false}, {"2024-01-01T00:00:60.1Z", false},
		{"٢٠٢٤-07-23T00:40:00.1Z", false},
		{"/Date(1721695254120)/", true}, {"/Date(-1)/", true}, {"/Date(1721695254120+0800)/", true}, {"/Date(1721695254120)", false},
		{"/date(1721695254120)/", false}, {"Date(1)", false}, {"see /Date(1)/", false}, {"/", false}, {"", false},
	} {
		quoted := `"` + row.text + `"`
		for _, literal := range []string{quoted, strings.ReplaceAll(quoted, "/", `\/`), strings.ReplaceAll(quoted, "0", `\u0030`)} {
			_, err := scanJSON([]byte(in(`"IssueDate":[{"_":`+literal+`}]`)), jsonOptions{literals: literalsSafe})
			if row.date {
				refused(t, err, ErrLiteral, "Invoice[0].IssueDate[0]._: "+shorten([]byte(literal)))
			} else if err != nil {
				t.Errorf("%s: got the error %v, want none", literal, err)
			}
			scanned(t, in(literal+`:1`), jsonOptions{literals: literalsSafe}) // names are never read as dates
			scanned(t, in(`"a":`+literal), jsonOptions{})
		}
	}
}

func TestLiteralsOfWhatIsTakenOutAreNotJudged(t *testing.T) {
	src := in(`"UBLExtensions":[1e99,"/Date(1)/","\/"],"a":1.0,"Signature":[{"\u0041":1e99}]`)
	for _, rule := range []literalRule{literalsSafe, literalsKept} {
		d := scanned(t, src, jsonOptions{literals: rule})
		if got, want := string(d.extensions)+string(d.signature), `[1e99,"/Date(1)/","\/"][{"\u0041":1e99}]`; got != want {
			t.Errorf("rule %d: got %s, want %s", rule, got, want)
		}
		if len(d.warnings) > 0 {
			t.Errorf("rule %d: got the warnings %q, want none", rule, d.warnings)
		}
	}
	if _, err := scanJSON([]byte(in(`"Signature":1,"a":1e99`)), jsonOptions{literals: literalsSafe}); err == nil {
		t.Error("judging does not begin again behind what is taken out")
	}
}

func TestKeptLiteralsAreWarnedOf(t *testing.T) {
	src := in(`"a":[1.0,"x",85.00,1e99,"\/","/Date(1)/"],"\u0062":{"c":true}`)
	d := scanned(t, src, jsonOptions{literals: literalsKept})
	if got := string(d.canonical); got != src {
		t.Errorf("got %s, want the source %s", got, src)
	}
	want := []string{
		`Invoice[0].a[2]: kept 85.00, which a server may rewrite as 85.0`,
		`Invoice[0].a[3]: kept 1e99, which may not survive`,
		`Invoice[0].a[4]: kept "\/", which a server may rewrite as "/"`,
		`Invoice[0].a[5]: kept "/Date(1)/", which may not survive`,
		`Invoice[0].b: kept "\u0062", which a server may rewrite as "b"`,
	}
	if len(d.warnings) != len(want) {
		t.Fatalf("got the warnings %q, want %d", d.warnings, len(want))
	}
	for i := range want {
		if !strings.HasPrefix(d.warnings[i], want[i]) {
			t.Errorf("got the warning %q, want %q", d.warnings[i], want[i])
		}
	}
}

func TestOfVeryManyKeptLiteralsTenAreNamedAndTheRestCounted(t *testing.T) {
	for _, row := range []struct {
		literals, warnings int
		last               string
	}{
		{10, 10, "Invoice[0].a[9]: kept 1, which a server may rewrite as 1.0"},
		{11, 11, "and 1 more literal"},
		{1010, 11, "and 1000 more literals"},
	} {
		d := scanned(t, in(`"a":[`+strings.Repeat("1,", row.literals-1)+`1]`), jsonOptions{literals: literalsKept})
		if len(d.warnings) != row.warnings || !strings.HasPrefix(d.warnings[len(d.warnings)-1], row.last) {
			t.Errorf("%d literals: got %d warnings, the last %q; want %d and %q", row.literals, len(d.warnings), d.warnings[len(d.warnings)-1], row.warnings, row.last)
		}
	}
}

func TestLongLiteralsAreShownShort(t *testing.T) {
	_, err := scanJSON([]byte(in(`"a":1`+strings.Repeat("0", 100_000))), jsonOptions{literals: literalsSafe})
	refused(t, err, ErrLiteral, "Invoice[0].a: 1"+strings.Repeat("0", 47)+"...")
	if len(err.Error()) > 400 {
		t.Errorf("the error has %d bytes", len(err.Error()))
	}
	if got, want := shorten([]byte(strings.Repeat("é", 30)+"x")), strings.Repeat("é", 24)+"..."; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
