package audit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/transparency-dev/tessera"
	"golang.org/x/mod/sumdb/note"
)

// Errors of opening a log.
var (
	// ErrNoLog is the error of a directory or a database without a log.
	ErrNoLog = errors.New("there is no log in it (is it mounted? else make one: roamsignd audit init)")
	// ErrInUse is the error of a log that another process, or this one, has open.
	ErrInUse = errors.New("another process has the log open")
)

// clockSlack is how far in the future a checkpoint's time may lie before it is taken
// for that of a clock which was put back since, or of another that is wrong.
const clockSlack = time.Second

// machineError is an error of the machine's state, which can change.
type machineError struct{ error }

// Unwrap returns the error itself.
func (e machineError) Unwrap() error { return e.error }

// place is where a log is kept: a directory, or a database.
type place interface {
	// driver returns Tessera's driver over it.
	driver(ctx context.Context) (tessera.Driver, error)
	// state reads what Tessera keeps of the log: [ErrNoLog] where there is none.
	state(ctx context.Context) (state, error)
	source() Source
	// usable finds what forbids the next append. It takes microseconds.
	usable() error
	// same finds what is wrong with what Tessera did without error.
	same() error
	// look finds out whether a log that could be written still can be, and lets
	// Tessera publish where a clock that was put back holds it up: it waits until the
	// last checkpoint is an interval old.
	look(ctx context.Context) error
	// probe finds out whether a log of this size that could not be written can be
	// again: by writing.
	probe(ctx context.Context, size uint64) error
	// release lets go of it.
	release() error
}

// state is all of a log that is integrated.
type state struct {
	Size uint64 `json:"size"`
	Root []byte `json:"root"`
}

func (s state) valid() bool { return len(s.Root) == len(Digest{}) && s.Size <= maxSize }

// store is a log that is open: its place with Tessera over it.
type store struct {
	place
	tessera    tessera.Driver
	options    *tessera.AppendOptions
	appender   *tessera.Appender
	reader     tessera.LogReader
	shutdown   func(context.Context) error
	cancel     context.CancelFunc // ends Tessera
	integrator *integrator        // of a directory
	// record puts entries on record and returns the outcome of each. The error is of
	// all of them.
	record func(ctx context.Context, entries [][]byte) ([]appended, error)
	opened uint64 // how many entries it had when it was opened
	queue  chan *pending
	pace   pace // of the batches; the worker's

	working sync.WaitGroup
	stop    context.CancelFunc // ends those who work
	ended   <-chan struct{}    // closed when they are to end
}

// openStore takes the place, judges what is in it, and starts Tessera.
func openStore(ctx context.Context, config Config, database *database, keys []Key) (*store, error) {
	var s store
	if database != nil {
		s.place = database
	} else {
		folder, err := openFolder(config.Dir)
		if err != nil {
			return nil, err
		}
		s.place = folder
	}
	if err := s.start(ctx, config, keys); err != nil {
		return nil, errors.Join(err, s.abandon())
	}
	return &s, nil
}

// Create makes an empty log with its first checkpoint: in the directory, which is
// made if it is missing (mode 0700), or in the database, which must be there. It
// refuses where there is a log already, and a directory with anything else in it.
func Create(ctx context.Context, config Config) error {
	keys, err := config.keys()
	if err != nil {
		return err
	}
	database, err := config.database()
	if err != nil {
		return err
	}
	if database != nil {
		err = errors.Join(createShared(ctx, config, database, keys), database.db.Close())
	} else {
		err = createFolder(ctx, config, keys)
	}
	if err != nil {
		return fmt.Errorf("making an audit log in %s: %w", config.where(), err)
	}
	return nil
}

// start judges the log and starts Tessera over it.
func (s *store) start(ctx context.Context, config Config, keys []Key) error {
	size, err := judge(ctx, s.place, keys)
	if err != nil {
		return err
	}
	if err := s.look(ctx); err != nil {
		return err
	}
	s.opened, s.record = size, s.add
	if folder, is := s.place.(*folder); is {
		if s.integrator, err = newIntegrator(ctx, s, folder, size); err != nil {
			return err
		}
		s.opened, s.record = s.integrator.recorded, s.integrator.record
	}
	if err := s.run(ctx, config, keys); err != nil {
		return err
	}
	if folder, is := s.place.(*folder); is {
		err := s.integrator.catchUp(ctx)
		if err == nil {
			err = s.integrator.journal.clear(folder.content)
		}
		if err != nil {
			return machineError{err}
		}
		folder.content = nil
	}
	s.work(ctx)
	return nil
}

// work starts those who work behind the log's back.
func (s *store) work(ctx context.Context) {
	ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	s.queue, s.ended = make(chan *pending, maxWaiting), ctx.Done()
	s.working.Go(func() { s.write(ctx) })
	if s.integrator != nil {
		s.working.Go(func() { s.integrator.run(ctx) })
	}
}

// run starts Tessera, which makes a log where there is none.
func (s *store) run(ctx context.Context, config Config, keys []Key) error {
	witnesses, err := config.witnesses()
	if err != nil {
		return err
	}
	if s.options, err = options(keys, witnesses, config.checkpointInterval()); err != nil {
		return err
	}
	if s.tessera, err = s.driver(ctx); err != nil {
		return machineError{err}
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	s.appender, s.shutdown, s.reader, err = tessera.NewAppender(running, s.tessera, s.options)
	if err != nil {
		return machineError{err}
	}
	return nil
}

// settle waits until so many of the entries that are on record can be read.
func (s *store) settle(ctx context.Context, entries uint64) error {
	if s.integrator == nil {
		return nil
	}
	return s.integrator.settle(ctx, entries)
}

// broken tells why what is on record does not come into the tiles.
func (s *store) broken() error {
	if s.integrator == nil {
		return nil
	}
	_, _, broken := s.integrator.progress()
	return broken
}

// healthy finds out whether a log that could be written still can be.
func (s *store) healthy(ctx context.Context) error {
	if broken := s.broken(); broken != nil {
		return broken
	}
	return s.look(ctx)
}

// healed finds out whether a log with so many entries on record, which could not be
// written, can be again.
func (s *store) healed(ctx context.Context, size uint64) error {
	if broken := s.broken(); broken != nil {
		return broken
	}
	if s.integrator != nil {
		size, _, _ = s.integrator.progress()
		if err := s.integrator.journal.try(size); err != nil {
			return err
		}
	}
	return s.probe(ctx, size)
}

// close ends Tessera once the last checkpoint is published, as published says.
func (s *store) close(ctx context.Context, published func(context.Context) error) error {
	err := s.settle(ctx, maxSize)
	if err == nil {
		err = s.shutdown(ctx)
	}
	if err == nil {
		err = published(ctx)
	}
	if err != nil {
		err = fmt.Errorf("waiting for the last checkpoint: %w", err)
	}
	return errors.Join(err, s.abandon())
}

// abandon ends all as it is and lets go of the place: not while something is still
// being written to it, which would be in the way of whoever takes it next.
func (s *store) abandon() error {
	if s.stop != nil {
		s.stop()
	}
	over := make(chan struct{})
	go func() {
		s.working.Wait()
		close(over)
	}()
	hangs := time.NewTimer(abandonWithin)
	defer hangs.Stop()
	select {
	case <-over:
	case <-hangs.C:
	}
	if s.cancel != nil {
		s.cancel()
	}
	select {
	case <-over:
		return s.release()
	default:
		return errors.New("what is being written does not end: the log stays locked until this process does")
	}
}

// abandonWithin is how long whoever gives a log up waits for what is being written.
const abandonWithin = 5 * time.Second

// signersOf returns the keys for signing.
func signersOf(keys []Key) ([]note.Signer, error) {
	signers := make([]note.Signer, len(keys))
	for i, k := range keys {
		signer, err := note.NewSigner(k.private)
		if err != nil {
			return nil, fmt.Errorf("log key %v: %w", k, errors.New("not usable"))
		}
		signers[i] = signer
	}
	return signers, nil
}

// verifiersOf returns the keys for verifying.
func verifiersOf(keys []Key) (Verifiers, error) {
	var text []byte
	for _, k := range keys {
		text = append(append(text, k.verifier...), '\n')
	}
	return ParseVerifiers(text)
}
