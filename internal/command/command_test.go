package command_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/roamsign/roamsign/internal/command"
)

// result is what a run of a program shows.
type result struct {
	code     int
	out, err string
}

// pour is a made-up program: a command of one word, one of two, and one that
// ends as its argument says.
func pour(args ...string) result {
	var config string
	program := command.Program{
		Name:  "pour",
		About: "pour fills cups.",
		Commands: []command.Command{
			{
				Name: "cup", Args: "[FLAGS] FILE...", Purpose: "Fill cups.", About: "Fills each cup.",
				Example: "pour cup --size 2 a b\npour cup -- --odd-name",
				Define: func(flags *flag.FlagSet) command.Runner {
					size := flags.Int("size", 1, "how much, in `LITRES`")
					hot := flags.Bool("hot", false, "boil it first")
					var with command.Strings
					flags.Var(&with, "with", "what goes in; may be repeated")
					return func(_ context.Context, streams command.Streams, args []string) error {
						fmt.Fprintf(streams.Out, "config=%s size=%d hot=%t with=%s args=%q", config, *size, *hot, with.String(), args)
						return nil
					}
				},
			},
			{
				Name: "pot list", Purpose: "List pots.", About: "Lists them.", Example: "pour pot list",
				Define: func(*flag.FlagSet) command.Runner {
					return func(_ context.Context, streams command.Streams, args []string) error {
						fmt.Fprintf(streams.Out, "pots %q", args)
						return nil
					}
				},
			},
			{Name: "spill", Args: "HOW", Purpose: "Fail.", About: "Fails.", Example: "pour spill quietly", Define: spill},
		},
		Global: func(set *flag.FlagSet) { set.StringVar(&config, "config", config, "the configuration `FILE`") },
		Code: func(err error) int {
			if errors.Is(err, errScalded) {
				return 77
			}
			return command.Failed
		},
	}
	var out, errs bytes.Buffer
	code := program.Run(context.Background(), args, command.Streams{In: strings.NewReader(""), Out: &out, Err: &errs})
	return result{code, out.String(), errs.String()}
}

var errScalded = errors.New("scalded")

func spill(*flag.FlagSet) command.Runner {
	return func(_ context.Context, _ command.Streams, args []string) error {
		switch strings.Join(args, " ") {
		case "quietly":
			return command.Status(5)
		case "twice":
			return errors.Join(errors.New("a spot"), errors.New("another spot"))
		case "hot":
			return fmt.Errorf("pouring: %w", errScalded)
		}
		return command.Usagef("spill quietly, twice or hot, not %q", args)
	}
}

func TestFlagsStandAnywhere(t *testing.T) {
	for _, row := range []struct {
		name string
		args string
		want string
	}{
		{"none", "cup a", `config= size=1 hot=false with= args=["a"]`},
		{"before the arguments", "cup --size 2 --hot a b", `config= size=2 hot=true with= args=["a" "b"]`},
		{"after them", "cup a b --size=2 --hot", `config= size=2 hot=true with= args=["a" "b"]`},
		{"between them", "cup a --hot b -size 2 c", `config= size=2 hot=true with= args=["a" "b" "c"]`},
		{"several times", "cup --with milk a --with sugar", `config= size=1 hot=false with=milk,sugar args=["a"]`},
		{"the last one counts", "cup --size 2 a --size 3", `config= size=3 hot=false with= args=["a"]`},
		{"none after two hyphens", "cup a -- --size --hot", `config= size=1 hot=false with= args=["a" "--size" "--hot"]`},
		{"a hyphen is an argument", "cup - --hot", `config= size=1 hot=true with= args=["-"]`},
		{"no argument", "cup --hot", `config= size=1 hot=true with= args=[]`},
		{"a global one before the command", "--config x cup a", `config=x size=1 hot=false with= args=["a"]`},
		{"a global one after it", "cup a --config x", `config=x size=1 hot=false with= args=["a"]`},
		{"a global one on both sides", "--config x cup --config y a", `config=y size=1 hot=false with= args=["a"]`},
		{"a command of two words", "pot list a", `pots ["a"]`},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := pour(strings.Fields(row.args)...)
			if diff := cmp.Diff(result{command.OK, row.want, ""}, got, cmp.AllowUnexported(result{})); diff != "" {
				t.Errorf("pour %s (-want +got):\n%s", row.args, diff)
			}
		})
	}
}

func TestErrorsAreALineEachAndHaveTheirCodes(t *testing.T) {
	for _, row := range []struct {
		name string
		args string
		code int
		want string
	}{
		{"reported by the command itself", "spill quietly", 5, ""},
		{"two faults", "spill twice", command.Failed, "pour: a spot\npour: another spot\n"},
		{"an error with a code of its own", "spill hot", 77, "pour: pouring: scalded\n"},
		{"wrong usage", "spill", command.Usage, "pour: spill quietly, twice or hot, not []\nTry: pour spill --help\n"},
		{"an unknown command", "stir", command.Usage, "pour: unknown command \"stir\"\nTry: pour --help\n"},
		{"half a command", "pot", command.Usage, "pour: unknown command \"pot\"\nTry: pour --help\n"},
		{"help on an unknown command", "help stir", command.Usage, "pour: unknown command \"stir\"\nTry: pour --help\n"},
		{"an unknown flag", "cup --milk", command.Usage, "pour: unknown flag --milk\nTry: pour cup --help\n"},
		{"an unknown flag after arguments", "cup a -milk", command.Usage, "pour: unknown flag --milk\nTry: pour cup --help\n"},
		{"an unknown global flag", "--milk cup", command.Usage, "pour: unknown flag --milk\nTry: pour --help\n"},
		{"a command's flag before its name", "--hot cup", command.Usage, "pour: unknown flag --hot\nTry: pour --help\n"},
		{"a value missing", "cup --size", command.Usage, "pour: --size needs a value\nTry: pour cup --help\n"},
		{"a value of the wrong kind", "cup --size big", command.Usage,
			"pour: invalid value \"big\" for --size: parse error\nTry: pour cup --help\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got := pour(strings.Fields(row.args)...)
			if diff := cmp.Diff(result{row.code, "", row.want}, got, cmp.AllowUnexported(result{})); diff != "" {
				t.Errorf("pour %s (-want +got):\n%s", row.args, diff)
			}
		})
	}
}

const overview = `pour fills cups.

Usage: pour COMMAND [FLAGS] [ARGUMENTS]

Commands:
  cup       Fill cups.
  pot list  List pots.
  spill     Fail.

Example: pour cup --size 2 a b

Each command has its own --help.
`

const cupHelp = `Fill cups.

Usage: pour cup [FLAGS] FILE...

Fills each cup.

Flags:
  --config FILE            the configuration FILE
  --hot                    boil it first
  --size LITRES            how much, in LITRES
  --with                   what goes in; may be repeated

Examples:
  pour cup --size 2 a b
  pour cup -- --odd-name
`

func TestHelpIsHadInEveryWay(t *testing.T) {
	for _, row := range []struct {
		args string
		want result
	}{
		{"", result{command.Usage, "", overview}},
		{"--help", result{command.OK, overview, ""}},
		{"-h", result{command.OK, overview, ""}},
		{"help", result{command.OK, overview, ""}},
		{"cup --help", result{command.OK, cupHelp, ""}},
		{"cup a -h", result{command.OK, cupHelp, ""}},
		{"help cup", result{command.OK, cupHelp, ""}},
	} {
		got := pour(strings.Fields(row.args)...)
		if diff := cmp.Diff(row.want, got, cmp.AllowUnexported(result{})); diff != "" {
			t.Errorf("pour %s (-want +got):\n%s", row.args, diff)
		}
	}
}

func TestWithoutCodesOfItsOwnAProgramFailsWithOne(t *testing.T) {
	program := command.Program{Name: "pour", Commands: []command.Command{{Name: "spill", Define: spill}}}
	var errs bytes.Buffer
	got := program.Run(context.Background(), []string{"spill", "hot"}, command.Streams{Err: &errs})
	if got != command.Failed {
		t.Errorf("got exit code %d, want %d", got, command.Failed)
	}
}

func TestAStatusSaysWhatItIs(t *testing.T) {
	if got, want := command.Status(3).Error(), "exit status 3"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
