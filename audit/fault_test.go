package audit_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/roamsign/roamsign/audit"
)

// injection is one fault: how it comes about and goes, and what it does to an
// append that begins before it comes.
type injection struct {
	spoil, mend     func(t *testing.T)
	errs, onRecord  bool
	withoutReceipts bool // as long as it lasts
}

// The table of faults, each over both places. Whatever happens, an entry whose
// Append returned is in the log, and the log is whole.
func TestNothingLeavesUnrecorded(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		directory, database func(t *testing.T, config *audit.Config) injection
	}{
		"append fails and was not written":       {directoryRefuses, databaseRefuses},
		"append reports failure but was written": {nil, databaseLosesTheAnswer}, // of a directory: TestAWriteThatMayHaveBeenDone
		"the tiles cannot be written":            {directoryWithoutTiles, nil},
		"the tiles were written all the same":    {directoryLosesTheAnswer, nil},
		"the checkpoint cannot be published":     {directoryWithoutCheckpoint, databaseWithoutCheckpoint},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if row.directory != nil {
				t.Run("directory", func(t *testing.T) { t.Parallel(); inject(t, newConfig(t), row.directory) })
			}
			if row.database != nil {
				t.Run("database", func(t *testing.T) { t.Parallel(); inject(t, newShared(t), row.database) })
			}
		})
	}
}

func inject(t *testing.T, config audit.Config, prepare func(*testing.T, *audit.Config) injection) {
	check(t, audit.Create(t.Context(), config))
	fault := prepare(t, &config)
	log := open(t, config)
	since := examine(t, log, config, nil).Text
	appended := map[uint64]int{}
	for n, index := range fill(t, log, 0, 20) {
		appended[index] = n
	}
	size := quiet(t, log).Size
	fault.spoil(t)
	index, err := log.Append(t.Context(), entry(20), 0)
	switch {
	case fault.errs && !isUnavailable(err):
		t.Errorf("got index %d and %v, want a log that is unavailable", index, err)
	case !fault.errs && err != nil:
		t.Errorf("got %v, want an index", err)
	case !fault.errs:
		appended[index] = 20
	}
	if fault.withoutReceipts {
		if _, err := log.Receipt(t.Context(), size); err == nil {
			t.Error("got a receipt that no checkpoint stands behind")
		}
	}
	fault.mend(t)
	until(t, "ready again", log.Ready)
	now, err := log.Size(t.Context())
	check(t, err)
	if was := now > size; was != fault.onRecord {
		t.Errorf("on record: got %t, want %t", was, fault.onRecord)
	}
	if fault.onRecord {
		if e, err := log.Entry(t.Context(), size); err != nil || e.RequestID != entry(20).RequestID {
			t.Errorf("what was written: got %+v and %v, want entry 20", e, err)
		}
	}
	for n, index := range fill(t, log, 21, 30) {
		appended[index] = n
	}
	quiet(t, log)
	recorded(t, log, appended)
	v := verifiers(t, config)
	for index := range appended {
		receipt, err := log.Receipt(t.Context(), index)
		check(t, err)
		if _, err := audit.VerifyReceipt(receipt, v); err != nil {
			t.Errorf("index %d: %v", index, err)
		}
	}
	examine(t, log, config, since)
}

func nothing(*testing.T) {}

// directoryRefuses has another journal where the log's was.
func directoryRefuses(_ *testing.T, config *audit.Config) injection {
	journal := filepath.Join(config.Dir, ".journal")
	return injection{
		errs: true,
		spoil: func(t *testing.T) {
			check(t, os.Rename(journal, journal+"-away"))
			check(t, os.WriteFile(journal, make([]byte, 2<<20), 0o600))
		},
		mend: func(t *testing.T) { check(t, os.Rename(journal+"-away", journal)) },
	}
}

// directoryWithoutTiles has a file where Tessera makes directories.
func directoryWithoutTiles(_ *testing.T, config *audit.Config) injection {
	tiles := filepath.Join(config.Dir, "tile")
	return injection{
		onRecord: true, withoutReceipts: true,
		spoil: func(t *testing.T) {
			check(t, os.Rename(tiles, tiles+"-away"))
			check(t, os.WriteFile(tiles, nil, 0o600))
		},
		mend: func(t *testing.T) {
			check(t, os.Remove(tiles))
			check(t, os.Rename(tiles+"-away", tiles))
		},
	}
}

// directoryLosesTheAnswer holds Tessera's lock until it waits for it, and then takes
// away the mark by which the directory is known, until Tessera has written.
func directoryLosesTheAnswer(t *testing.T, config *audit.Config) injection {
	mark := filepath.Join(config.Dir, ".journal")
	taken := make(chan struct{})
	return injection{
		onRecord: true,
		spoil: func(t *testing.T) {
			file, err := os.OpenFile(filepath.Join(config.Dir, ".state/treeState.lock"), os.O_RDWR, 0)
			check(t, err)
			whole := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
			check(t, unix.FcntlFlock(file.Fd(), unix.F_OFD_SETLKW, &whole))
			info, err := file.Stat()
			check(t, err)
			stat, _ := info.Sys().(*syscall.Stat_t)
			go func() {
				defer close(taken)
				defer file.Close() // which unlocks
				until(t, "an append that waits", func() error { return waitsFor(stat.Ino) })
				if err := os.Rename(mark, mark+"-away"); err != nil {
					t.Errorf("taking away the mark: %v", err)
				}
			}()
		},
		mend: func(t *testing.T) {
			<-taken
			check(t, os.Rename(mark+"-away", mark))
		},
	}
}

// waitsFor reports whether somebody waits for a lock on a file.
func waitsFor(inode uint64) error {
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(locks)) {
		if strings.Contains(line, "->") && strings.Contains(line, fmt.Sprintf(":%d ", inode)) {
			return nil
		}
	}
	return fmt.Errorf("nobody waits: %s", locks)
}

// directoryWithoutCheckpoint has a directory where the checkpoint belongs.
func directoryWithoutCheckpoint(_ *testing.T, config *audit.Config) injection {
	checkpoint := filepath.Join(config.Dir, "checkpoint")
	return injection{
		onRecord: true, withoutReceipts: true,
		spoil: func(t *testing.T) {
			check(t, os.Rename(checkpoint, checkpoint+"-away"))
			check(t, os.Mkdir(checkpoint, 0o700))
		},
		mend: func(t *testing.T) {
			check(t, os.Remove(checkpoint))
			check(t, os.Rename(checkpoint+"-away", checkpoint))
		},
	}
}

// databaseRefuses cuts the connection before an append's commit reaches the server.
func databaseRefuses(t *testing.T, config *audit.Config) injection {
	w := wiretap(t, config)
	return injection{errs: true, spoil: func(*testing.T) { w.armed.Store(cutBefore) }, mend: nothing}
}

// databaseLosesTheAnswer cuts it after the server has committed.
func databaseLosesTheAnswer(t *testing.T, config *audit.Config) injection {
	w := wiretap(t, config)
	return injection{errs: true, onRecord: true, spoil: func(*testing.T) { w.armed.Store(cutAfter) }, mend: nothing}
}

// databaseWithoutCheckpoint has a server that takes no checkpoint.
func databaseWithoutCheckpoint(_ *testing.T, config *audit.Config) injection {
	name := nameOf(*config)
	return injection{
		onRecord: true, withoutReceipts: true,
		spoil: func(t *testing.T) {
			running(t).do(t, name, "CREATE TRIGGER refuse BEFORE INSERT ON Checkpoint FOR EACH ROW SIGNAL SQLSTATE '45000'")
		},
		mend: func(t *testing.T) { running(t).do(t, name, "DROP TRIGGER refuse") },
	}
}

// What a wire does to the next commit of an append.
const (
	passOn = iota
	cutBefore
	cutAfter
)

// wire stands between a log and its database, and reads what passes.
type wire struct {
	socket string
	armed  atomic.Int32
}

// wiretap puts a wire before the database of a configuration.
func wiretap(t *testing.T, config *audit.Config) *wire {
	t.Helper()
	w := &wire{socket: running(t).socket()}
	tapped := filepath.Join(running(t).dir, "wire-"+nameOf(*config))
	var listening net.ListenConfig
	listener, err := listening.Listen(t.Context(), "unix", tapped)
	check(t, err)
	config.MySQL.DSN = strings.Replace(config.MySQL.DSN, w.socket, tapped, 1)
	var serving sync.WaitGroup
	t.Cleanup(func() {
		check(t, listener.Close())
		serving.Wait()
	})
	serving.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { w.carry(client) })
		}
	})
	return w
}

// carry passes on what goes both ways, until one side closes or a fault is due.
func (w *wire) carry(client net.Conn) {
	defer client.Close()
	var dialer net.Dialer
	server, err := dialer.DialContext(context.Background(), "unix", w.socket)
	if err != nil {
		return
	}
	defer server.Close()
	var answered sync.WaitGroup
	defer answered.Wait()
	var deaf atomic.Bool
	answers := make(chan struct{}, 1)
	answered.Go(func() {
		defer client.Close()
		b := make([]byte, 64<<10)
		for {
			n, err := server.Read(b)
			if err != nil {
				return
			}
			if deaf.Load() {
				answers <- struct{}{}
				return
			}
			if _, err := client.Write(b[:n]); err != nil {
				return
			}
		}
	})
	defer server.Close() // before it is waited for
	appending := false
	for {
		packet, err := readPacket(client)
		if err != nil {
			return
		}
		text := string(packet[4:])
		appending = appending || strings.Contains(text, "REPLACE INTO `TiledLeaves`")
		fault := int32(passOn)
		if appending && strings.HasSuffix(text, "COMMIT") {
			appending = false
			fault = w.armed.Swap(passOn)
		}
		if fault == cutBefore {
			return
		}
		deaf.Store(fault == cutAfter)
		if _, err := server.Write(packet); err != nil {
			return
		}
		if fault == cutAfter {
			<-answers
			return
		}
	}
}

// readPacket reads one packet of the protocol: three bytes of length, one number.
func readPacket(r io.Reader) ([]byte, error) {
	head := make([]byte, 4)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	length := int(head[0]) | int(head[1])<<8 | int(head[2])<<16
	packet := append(make([]byte, 0, 4+length), head...)[:4+length]
	_, err := io.ReadFull(r, packet[4:])
	return packet, err
}
