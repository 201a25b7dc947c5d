package softhsmtest

import (
	"bytes"
	"encoding/binary"
	"io"
)

// question is what the shim asks before a call, and after it where it was told
// to; or it tells that it took sessions away. The layout is that of shim.c.
type question struct {
	Name    [32]byte
	Stage   uint64
	Session uint64
	Value   uint64 // after: what the real module returned
	Epoch   uint64 // not before: grows whenever sessions are taken away
	Length  uint64 // C_Sign: 1 where only the length is asked for
	Running uint64 // other calls that have not returned
}

// The stages of a call.
const (
	before = iota
	after
	lost // before the call sessions were taken away, and it waits
)

func (q *question) function() string { return string(bytes.TrimRight(q.Name[:], "\x00")) }

// answer says what becomes of a call. The layout is that of shim.c.
type answer struct {
	Actions uint64
	Value   uint64 // with giveBack
	Session uint64 // with logout
}

// What an answer may ask for.
const (
	doIt     = 1 << iota // let the real module do the call
	giveBack             // whatever came of it, return the value
	report               // ask again afterwards
	corrupt              // spoil the signature
	alone                // let no other call run meanwhile
	lose                 // close all sessions, first
	logout               // log the user out, first
)

// refuse is the answer that nothing is done.
func refuse(value uint) answer { return answer{Actions: giveBack, Value: uint64(value)} }

func readQuestion(r io.Reader) (q question, err error) {
	err = binary.Read(r, binary.NativeEndian, &q)
	return q, err
}

func writeAnswer(w io.Writer, a answer) error {
	return binary.Write(w, binary.NativeEndian, a)
}
