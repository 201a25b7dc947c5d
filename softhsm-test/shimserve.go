package softhsmtest

import (
	"maps"
	"net"
	"slices"
	"time"

	"github.com/miekg/pkcs11"
)

// accept serves the shim's connections, each of which has at most one call on
// it at a time.
func (s *Shim) accept() {
	for {
		connection, err := s.listener.Accept()
		if err != nil {
			return
		}
		if s.keep(connection) {
			s.serving.Go(func() { s.serve(connection) })
		}
	}
}

// keep takes a connection down, so that the end of the test ends it.
func (s *Shim) keep(connection net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.over:
		_ = connection.Close()
		return false
	default:
	}
	s.connections[connection] = true
	return true
}

func (s *Shim) serve(connection net.Conn) {
	defer func() {
		_ = connection.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.connections, connection)
	}()
	for {
		q, err := readQuestion(connection)
		if err != nil {
			return
		}
		a, m := s.decide(q)
		s.wait(q, m)
		if writeAnswer(connection, a) != nil {
			return
		}
	}
}

// wait lets a call hang or take its time.
func (s *Shim) wait(q question, m *mishap) {
	if m != nil && m.met != nil {
		close(m.met)
	}
	if m != nil && m.release != nil {
		select {
		case <-m.release:
		case <-s.over:
		}
	}
	s.mu.Lock()
	delay := s.delays[q.function()]
	s.mu.Unlock()
	if delay > 0 && q.Stage == before {
		select {
		case <-time.After(delay):
		case <-s.over:
		}
	}
}

// decide says what becomes of a call, and which mishap met it, if one did.
func (s *Shim) decide(q question) (answer, *mishap) {
	s.mu.Lock()
	defer s.mu.Unlock()
	function := q.function()
	switch q.Stage {
	case lost:
		s.begins(q.Epoch)
		return answer{}, nil
	case after:
		s.note(q)
		if m := s.meets(q); m != nil {
			return m.answer, m
		}
		return answer{}, nil
	}
	s.calls[function]++
	switch {
	case function == "C_Finalize" && q.Running > 0:
		s.t.Errorf("C_Finalize under %d running calls, which would be a crash", q.Running)
		return refuse(pkcs11.CKR_FUNCTION_FAILED), nil
	case function == "C_Finalize":
		return struck(s.plain(function), s.meets(q))
	case s.away != nil:
		return refuse(s.away.Value), nil
	case s.stale != 0:
		return refuse(s.stale), nil
	case function == "C_OpenSession" && s.limit > 0 && len(s.open) >= s.limit:
		return refuse(pkcs11.CKR_SESSION_COUNT), nil
	}
	a, m := struck(s.plain(function), s.meets(q))
	if s.expects(function, after) {
		a.Actions |= report
	}
	return s.disturb(a), m
}

// struck is the answer, or that of a mishap that met the call.
func struck(a answer, m *mishap) (answer, *mishap) {
	if m != nil {
		a = m.answer
	}
	return a, m
}

// plain is the answer that nothing is wrong.
func (s *Shim) plain(function string) answer {
	a := answer{Actions: doIt}
	switch function {
	case "C_Initialize", "C_Finalize", "C_CloseAllSessions":
		a.Actions |= alone | report
	case "C_OpenSession", "C_CloseSession":
		a.Actions |= report
	}
	return a
}

// disturb lets what is to be taken away be taken before the call, if it reaches
// the real module.
func (s *Shim) disturb(a answer) answer {
	if a.Actions&doIt == 0 || a.Actions&alone != 0 || s.upset == 0 {
		return a
	}
	a.Actions |= s.upset & lose
	for session := range s.open {
		if s.upset&logout != 0 {
			a.Actions |= logout
			a.Session = session
		}
		break
	}
	s.upset = 0
	return a
}

// meets returns the first mishap whose call this is, and forgets it.
func (s *Shim) meets(q question) (met *mishap) {
	for _, m := range s.faults {
		if m.function != q.function() || m.stage != q.Stage || m.signing && q.Length != 0 {
			continue
		}
		m.in--
		if m.in <= 0 && met == nil {
			met = m
		}
	}
	s.faults = slices.DeleteFunc(s.faults, func(m *mishap) bool { return m == met })
	return met
}

// expects tells whether a fault waits for a call of the function at that stage.
func (s *Shim) expects(function string, stage uint64) bool {
	return slices.ContainsFunc(s.faults, func(m *mishap) bool { return m.function == function && m.stage == stage })
}

// note keeps the account of open sessions.
func (s *Shim) note(q question) {
	s.begins(q.Epoch)
	switch {
	case q.Value != pkcs11.CKR_OK:
	case q.function() == "C_Initialize":
		s.up = true
	case q.function() == "C_Finalize":
		s.up, s.stale, s.upset = false, 0, 0
	case q.function() == "C_OpenSession" && q.Epoch == s.epoch:
		s.open[q.Session] = q.Epoch
	case q.function() == "C_CloseSession":
		delete(s.open, q.Session)
	}
}

// begins strikes out the sessions of earlier epochs.
func (s *Shim) begins(epoch uint64) {
	if epoch <= s.epoch {
		return
	}
	s.epoch = epoch
	maps.DeleteFunc(s.open, func(_, opened uint64) bool { return opened < epoch })
}

// close ends the shim with its test. Whoever calls in from then on finds the
// device away.
func (s *Shim) close() {
	s.mu.Lock()
	close(s.over)
	_ = s.listener.Close()
	for connection := range s.connections {
		_ = connection.Close()
	}
	s.mu.Unlock()
	s.serving.Wait()
}
