package ca

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestARegisterKnowsWhatItIssued(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "clients")
	if _, err := OpenRegister(folder); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("opening none: got %v, want that it does not exist", err)
	}
	made, err := NewRegister(folder, "Test CA", valid())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewRegister(folder, "Test CA", valid()); !errors.Is(err, os.ErrExist) {
		t.Errorf("making a second one: got %v, want that it exists", err)
	}
	register, err := OpenRegister(folder)
	if err != nil || !register.Certificate().Equal(made.Certificate()) {
		t.Fatalf("opening it: got %v, want the one that was made", err)
	}
	long := Validity{NotBefore: valid().NotBefore.AddDate(-1, 0, 0), NotAfter: valid().NotAfter.AddDate(1, 0, 0)}
	if _, err := register.Client("erp.example.com", long); err == nil {
		t.Error("a certificate outlives its authority")
	}
	within := register.Within(long)
	if own := register.Certificate(); !within.NotBefore.Equal(own.NotBefore) || !within.NotAfter.Equal(own.NotAfter) {
		t.Errorf("within the authority's validity: got %v", within)
	}
	if kept := (Validity{within.NotBefore.Add(time.Minute), within.NotAfter.Add(-time.Minute)}); register.Within(kept) != kept {
		t.Error("a validity within the authority's was changed")
	}
	names := []string{"erp.example.com", "spiffe://example.com/till"}
	for i, name := range names {
		starts := Validity{NotBefore: within.NotBefore.Add(time.Duration(i) * time.Minute), NotAfter: within.NotAfter}
		if _, err := register.Client(name, starts); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := register.Server([]string{"localhost"}, within); err != nil {
		t.Fatal(err)
	}
	issued, err := register.Clients()
	if err != nil || len(issued) != len(names) {
		t.Fatalf("Clients: got %d, %v, want %d and not the server's", len(issued), err, len(names))
	}
	for i, name := range names {
		if got, err := NameOf(issued[i]); got != name || err != nil {
			t.Errorf("certificate %d: got name %q, want %q", i, got, name)
		}
	}
	if _, err := NameOf(register.Certificate()); err == nil {
		t.Error("a certificate without a name has one")
	}
}

func TestAKeyWithoutItsAuthorityIsKept(t *testing.T) {
	folder := t.TempDir()
	if _, err := NewRegister(folder, "Test CA", valid()); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(folder, "ca.key")
	before, err := os.ReadFile(key)
	if err = errors.Join(err, os.Remove(filepath.Join(folder, "ca.pem"))); err != nil {
		t.Fatal(err)
	}
	if _, err := NewRegister(folder, "Test CA", valid()); !errors.Is(err, os.ErrExist) || !strings.Contains(err.Error(), "remove the key to begin anew") {
		t.Errorf("got %v, want an error that says what to do", err)
	}
	if after, err := os.ReadFile(key); err != nil || string(after) != string(before) {
		t.Errorf("the key is another one (%v)", err)
	}
}

func TestARegisterIssuesNothingItCannotNote(t *testing.T) {
	folder := t.TempDir()
	register, err := NewRegister(folder, "Test CA", valid())
	if err != nil {
		t.Fatal(err)
	}
	issued := filepath.Join(folder, "issued")
	if err := errors.Join(os.RemoveAll(issued), os.WriteFile(issued, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if pair, err := register.Client("erp.example.com", register.Within(valid())); err == nil || pair != nil || !strings.Contains(err.Error(), "noting what was issued") {
		t.Errorf("got %v, %v, want no certificate", pair, err)
	}
}
