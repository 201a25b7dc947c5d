package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"syscall"
	"time"
)

// ceremonyLogName is the log's name where none is given: beside the
// configuration, or in the working directory where there is none.
const ceremonyLogName = "roamsign-ceremony.log"

// entry is a line of the ceremony log: public facts only.
type entry struct {
	Time        string `json:"time"` // UTC
	Step        string `json:"step"`
	Outcome     string `json:"outcome"` // begun, then done or failed
	User        string `json:"user"`
	Host        string `json:"host"`
	Module      string `json:"module,omitempty"`
	Token       string `json:"token,omitempty"`
	TokenSerial string `json:"token_serial,omitempty"`
	KeyLabel    string `json:"key_label,omitempty"`
	KeyID       string `json:"key_id,omitempty"`
	SPKI        string `json:"spki_sha256,omitempty"`
	Certificate string `json:"certificate_sha256,omitempty"`
	Request     string `json:"request_sha256,omitempty"`
	Detail      string `json:"detail,omitempty"`
	Error       string `json:"error,omitempty"`
}

// ceremonyLog appends to a file of JSON lines. It is opened before a step is
// taken, so that a step that cannot be recorded is not taken, and "begun" is on
// the disk before the token is touched.
type ceremonyLog struct {
	file  *os.File
	entry entry
}

// openCeremonyLog opens the log, or makes it, 0600.
func openCeremonyLog(path string) (_ *ceremonyLog, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("opening the ceremony log, without which no step is taken: %w (--ceremony-log FILE names another)", err)
		}
	}()
	file, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = fmt.Errorf("%s is not a regular file", path)
	case info.Mode().Perm()&0o077 != 0:
		err = fmt.Errorf("%s: its mode is %#o, so others than its owner have access: run chmod 600 on it", path, info.Mode().Perm())
	default:
		err = errors.Join(endLine(file, info.Size()), syncFolder(filepath.Dir(path)))
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &ceremonyLog{file: file}, nil
}

// endLine ends a line that a crash cut short.
func endLine(file *os.File, size int64) error {
	if size == 0 {
		return nil
	}
	last := make([]byte, 1)
	if _, err := file.ReadAt(last, size-1); err != nil {
		return err
	}
	if last[0] == '\n' {
		return nil
	}
	_, err := io.WriteString(file, "\n")
	return err
}

// syncFolder makes the log's name durable.
func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// begin records that a step is about to be taken.
func (l *ceremonyLog) begin(e entry) error {
	e.User = currentUser()
	e.Host, _ = os.Hostname() // empty where it is unknown
	l.entry = e
	return l.append("begun")
}

// end records how the step ended, and closes the log. It returns err, joined
// with what went wrong in recording it.
func (l *ceremonyLog) end(err error) error {
	outcome := "done"
	if err != nil {
		outcome, l.entry.Error = "failed", err.Error()
	}
	return errors.Join(err, l.append(outcome), l.file.Close())
}

// append writes one line, which is on the disk when it returns.
func (l *ceremonyLog) append(outcome string) error {
	l.entry.Outcome = outcome
	l.entry.Time = time.Now().UTC().Format(time.RFC3339Nano)
	line, err := json.Marshal(l.entry)
	if err == nil {
		_, err = l.file.Write(append(line, '\n'))
	}
	if err == nil {
		err = l.file.Sync()
	}
	if err != nil {
		return fmt.Errorf("recording in the ceremony log that the step is %s: %w", outcome, err)
	}
	return nil
}

// currentUser names who runs this, by number where there is no name.
func currentUser() string {
	if who, err := user.Current(); err == nil {
		return who.Username
	}
	return fmt.Sprintf("uid %d", os.Getuid())
}
