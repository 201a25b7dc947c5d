package main

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/roamsign/roamsign/internal/command"
)

// standard is the name that stands for standard input, or output.
const standard = "-"

// maxRead is how much of a file is read: enough to call any larger one too
// large.
const maxRead = 16 << 20

// read returns a file's content, or standard input's, unless ctx has ended. The
// error has no name of the file in it: who reports it adds that.
func read(ctx context.Context, streams command.Streams, name string) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, unreadable{errInterrupted}
	}
	if name == standard {
		return readStandard(ctx, streams.In)
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, unnamed(err)
	}
	content, err := readFrom(file)
	return content, errors.Join(err, file.Close())
}

// errInterrupted is the error of whatever a signal to end has kept from being
// done.
var errInterrupted = errors.New("interrupted")

// readStandard reads standard input, which may be a terminal: if ctx ends, the
// reading is left to itself, since nothing else would end it.
func readStandard(ctx context.Context, source io.Reader) ([]byte, error) {
	done := make(chan struct{})
	var all []byte
	var failed error
	go func() {
		defer close(done)
		all, failed = readFrom(source)
	}()
	select {
	case <-done:
		return all, failed
	case <-ctx.Done():
		return nil, unreadable{errInterrupted}
	}
}

func readFrom(source io.Reader) ([]byte, error) {
	content, err := io.ReadAll(io.LimitReader(source, maxRead))
	if err != nil {
		return nil, unnamed(err)
	}
	return content, nil
}

// unreadable is the error of a file that could not be read or written, as
// opposed to one whose content is wrong.
type unreadable struct{ err error }

func (e unreadable) Error() string { return e.err.Error() }
func (e unreadable) Unwrap() error { return e.err }

// unnamed takes the file's name out of an error.
func unnamed(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		err = e.Err
	}
	return unreadable{err}
}

// task is one document to sign: where it is read and where it goes.
type task struct{ input, output string }

// plan decides where each input's signed document goes, and refuses before
// anything is signed what would overwrite an input or another output.
func plan(inputs []string, folder string) ([]task, error) {
	if len(inputs) == 1 && (folder == standard || folder == "" && inputs[0] == standard) {
		return []task{{inputs[0], standard}}, nil
	}
	if folder == standard {
		return nil, command.Usagef("--out - takes one document, and there are %d", len(inputs))
	}
	tasks := make([]task, len(inputs))
	from := map[string]string{} // output, as a place, to its input
	for i, input := range inputs {
		if input == standard {
			return nil, command.Usagef("- is standard input and output, so it goes without other files and --out DIR")
		}
		output := signedName(input, folder)
		if other, taken := from[place(output)]; taken {
			return nil, command.Usagef("%s and %s would both become %s: sign them in two runs, each with its own --out", other, input, output)
		}
		from[place(output)] = input
		tasks[i] = task{input, output}
	}
	for _, input := range inputs {
		if other, hit := from[place(input)]; hit {
			return nil, command.Usagef("%s is an input, and the signed %s would overwrite it: leave one of them out, or use --out", input, other)
		}
	}
	return tasks, nil
}

// signedName returns where a signed document goes: beside its input, or into
// the folder.
func signedName(input, folder string) string {
	base := filepath.Base(input)
	extension := filepath.Ext(base)
	if folder == "" {
		folder = filepath.Dir(input)
	}
	return filepath.Join(folder, strings.TrimSuffix(base, extension)+".signed"+extension)
}

// place tells whether two names are one file's, also through linked folders and,
// for a file that is there, a link of its own.
func place(name string) string {
	absolute, err := filepath.Abs(name)
	if err != nil {
		return name
	}
	if followed, err := filepath.EvalSymlinks(absolute); err == nil {
		return followed
	}
	if folder, err := filepath.EvalSymlinks(filepath.Dir(absolute)); err == nil {
		return filepath.Join(folder, filepath.Base(absolute))
	}
	return absolute
}

// write puts a signed document where it goes. The file is there either whole or
// not at all, whatever happens meanwhile, and as open to others as its input. It
// takes the place of an earlier one of that name.
func write(streams command.Streams, t task, document []byte) error {
	if t.output == standard {
		_, err := streams.Out.Write(document)
		return err
	}
	mode := fs.FileMode(0o666)
	if info, err := os.Stat(t.input); err == nil && t.input != standard {
		mode &= info.Mode().Perm() | 0o600
	}
	folder := filepath.Dir(t.output)
	if err := os.MkdirAll(folder, 0o777); err != nil {
		return unreadable{err}
	}
	temporary := filepath.Join(folder, "."+filepath.Base(t.output)+"."+rand.Text())
	if err := writeWhole(temporary, mode, document); err != nil {
		return unreadable{errors.Join(err, removed(temporary))}
	}
	if err := os.Rename(temporary, t.output); err != nil {
		return unreadable{errors.Join(err, removed(temporary))}
	}
	return syncFolder(folder)
}

// removed takes away what a failed write left, if it left something.
func removed(name string) error {
	if err := os.Remove(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// writeWhole makes a new file that is on the disk when it returns.
func writeWhole(name string, mode fs.FileMode, content []byte) error {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// syncFolder makes a rename last.
func syncFolder(name string) error {
	folder, err := os.Open(name)
	if err != nil {
		return unreadable{err}
	}
	if err := errors.Join(folder.Sync(), folder.Close()); err != nil {
		return unreadable{err}
	}
	return nil
}
