package xades

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
)

// What is read at a stride is what is read step by step: as soon as a blank
// stands in a leaf it is not read at a stride.
func TestLeavesReadAtAStrideAreAsReadStepByStep(t *testing.T) {
	g := &generator{Rand: rand.New(rand.NewPCG(8, 2026))}
	values := []string{
		"1.5", "0", "-0", "0.50", "10", "10.0", "1.00", "-1.5", "01", "1.", ".5", "1e2", "1.5E+3", "123456789012345.5", "12345678901234.5", "0.00001", "-", "1..2",
		`""`, `"a"`, `"a b"`, `"é"`, `"\u00e9"`, `"\/"`, `"a\"b"`, `"2024-07-23T00:40:54.120Z"`, `"2024-07-23T00:40:54Z"`, "\"\u0085\"", "\"\u2028\"", "\"€\"", "\"\t\"", `"`, `"\`,
		"true", "null", "[]", "{}", "",
	}
	names := []string{`"_"`, `"a"`, `"b"`, `"currencyID"`, `"\u0061"`, `"é"`, `""`, `a`, ``}
	ends := []string{"}]", "}]", "}]", "}]", "}", "]", "", "},{}]", "}]]", "},1]", ",}]"}
	var read int
	for range 5000 {
		members := `"_":` + pick(g, values)
		for range g.IntN(7) - 1 {
			members += "," + pick(g, names) + ":" + pick(g, values)
		}
		end := pick(g, ends)
		for _, opt := range []jsonOptions{{}, {literals: literalsSafe}, {literals: literalsKept}} {
			stride, strideErr := scanJSON([]byte(in(`"x":[{`+members+end)), opt)
			steps, stepsErr := scanJSON([]byte(in(`"x":[ {`+members+end)), opt)
			if (strideErr == nil) != (stepsErr == nil) || errors.Is(strideErr, ErrLiteral) != errors.Is(stepsErr, ErrLiteral) {
				t.Fatalf("%s%s with %+v: got the error %v, want %v", members, end, opt, strideErr, stepsErr)
			}
			if strideErr != nil {
				continue
			}
			read++
			if !bytes.Equal(stride.canonical, steps.canonical) || fmt.Sprint(stride.warnings) != fmt.Sprint(steps.warnings) || stride.header != steps.header {
				t.Fatalf("%s%s with %+v: got %s %q\nwant %s %q", members, end, opt, stride.canonical, stride.warnings, steps.canonical, steps.warnings)
			}
		}
	}
	if read < 300 {
		t.Errorf("%d leaves were read at all: the generator shows too little", read)
	}
}
