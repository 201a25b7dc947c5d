package signer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/roamsign/roamsign/internal/fault"
	"github.com/roamsign/roamsign/policy"
)

// limitedRules are rules in which the callers named have the limits.
func limitedRules(limits string, callers ...string) string {
	text := "taxpayers:\n  - {tin: " + ownTIN + "}\n  - {tin: " + foreignTIN + "}\ncallers:\n"
	for _, caller := range callers {
		text += "  - name: " + caller + "\n    taxpayers: [" + ownTIN + "]\n    methods: [SignDigest, SignDigests, SignDocument]\n" + limits
	}
	return text
}

// desk is an admission, and who comes to it.
type desk struct {
	t    *testing.T
	open *admission
	now  time.Time
	n    int
}

// noon is in Malaysia.
var noon = time.Date(2026, 11, 22, 4, 0, 0, 0, time.UTC)

func newDesk(t *testing.T) *desk {
	return &desk{t: t, open: newAdmission(slog.New(slog.DiscardHandler)), now: noon}
}

// granted is a decision under limits.
func (d *desk) granted(limits string, caller policy.Caller, method policy.Method) policy.Grant {
	d.t.Helper()
	p, err := policy.Parse([]byte(limitedRules(limits, string(caller))))
	must(d.t, err)
	grant, err := p.Decide(caller, method, ownTIN, [32]byte{1}, d.now)
	must(d.t, err)
	return grant
}

func (d *desk) charge(grant policy.Grant, id, digest string) (*charge, error) {
	return d.open.charge(d.t.Context(), grant, requestID(id), [32]byte([]byte(fmt.Sprintf("%-32s", digest))), d.now)
}

// signs has one new signature made, as far as the limits allow.
func (d *desk) signs(grant policy.Grant) error {
	d.n++
	return d.repeats(grant, fmt.Sprint("fresh-", d.n))
}

// repeats has a request made again.
func (d *desk) repeats(grant policy.Grant, id string) error {
	c, err := d.charge(grant, id, "digest of "+id)
	if err == nil {
		d.open.settle(c, true, nil, d.now)
	}
	return err
}

func (d *desk) is(what string, err error, want fault.Kind, metadata map[string]string) {
	d.t.Helper()
	if want == fault.Internal { // none
		if err != nil {
			d.t.Errorf("%s: got %v, want none", what, err)
		}
		return
	}
	e, ok := errors.AsType[*fault.Error](err)
	if !ok || e.Kind != want {
		d.t.Errorf("%s: got %v, want %v", what, err, want)
		return
	}
	if diff := cmp.Diff(metadata, e.Metadata); diff != "" && metadata != nil {
		d.t.Errorf("%s: metadata (-want +got):\n%s", what, diff)
	}
	if e.RetryAfter <= 0 {
		d.t.Errorf("%s: got no time to come again", what)
	}
}

const granted = fault.Internal // of desk.is: no error

func TestARateHasABurstAndComesBack(t *testing.T) {
	d := newDesk(t)
	grant := d.granted("    limits: {rate: 2, burst: 3}\n", erp, policy.SignDigest)
	for range 3 {
		d.is("in the burst", d.signs(grant), granted, nil)
	}
	over := map[string]string{"limit": "rate", "retry_at": "2026-11-22T04:00:00.5Z"}
	d.is("after the burst", d.signs(grant), fault.RateLimited, over)
	d.is("again", d.signs(grant), fault.RateLimited, over)
	d.now = d.now.Add(500 * time.Millisecond)
	d.is("at the time told", d.signs(grant), granted, nil)
	d.is("and once more", d.signs(grant), fault.RateLimited, nil)
}

func TestADaysQuotaEndsAtMidnightInMalaysia(t *testing.T) {
	d := newDesk(t)
	grant := d.granted("    limits: {daily: 3}\n", erp, policy.SignDigest)
	for range 3 {
		d.is("of the day's", d.signs(grant), granted, nil)
	}
	d.is("beyond", d.signs(grant), fault.QuotaExceeded, map[string]string{"limit": "daily", "retry_at": "2026-11-22T16:00:00Z"})
	d.now = time.Date(2026, 11, 22, 15, 59, 59, 0, time.UTC)
	d.is("a second before midnight", d.signs(grant), fault.QuotaExceeded, nil)
	d.now = d.now.Add(time.Second)
	for range 3 {
		d.is("of the next day's", d.signs(grant), granted, nil)
	}
	d.now = d.now.Add(-time.Second)
	d.is("with a clock that is put back", d.signs(grant), fault.QuotaExceeded, nil)
	d.now = noon.AddDate(0, 0, -3)
	d.is("with a clock that was days ahead", d.signs(grant), granted, nil)
}

func TestAMethodHasLimitsOfItsOwn(t *testing.T) {
	d := newDesk(t)
	const limits = "    limits: {daily: 5}\n    method_limits: {SignDigest: {daily: 2, rate: 100}}\n"
	blind, whole := d.granted(limits, erp, policy.SignDigest), d.granted(limits, erp, policy.SignDocument)
	d.is("blind", d.signs(blind), granted, nil)
	d.is("blind", d.signs(blind), granted, nil)
	d.is("blind, beyond", d.signs(blind), fault.QuotaExceeded, map[string]string{"limit": "daily", "method": "SignDigest", "retry_at": "2026-11-22T16:00:00Z"})
	for range 3 {
		d.is("whole", d.signs(whole), granted, nil)
	}
	d.is("all together, beyond", d.signs(whole), fault.QuotaExceeded, map[string]string{"limit": "daily", "retry_at": "2026-11-22T16:00:00Z"})
}

func TestTheBlindMethodsShareTheirLimits(t *testing.T) {
	d := newDesk(t)
	const limits = "    method_limits: {blind: {daily: 3}, SignDigests: {daily: 2}}\n"
	single, batch, whole := d.granted(limits, erp, policy.SignDigest), d.granted(limits, erp, policy.SignDigests), d.granted(limits, erp, policy.SignDocument)
	for range 2 {
		d.is("in a batch", d.signs(batch), granted, nil)
	}
	d.is("the batches' own third", d.signs(batch), fault.QuotaExceeded, map[string]string{"limit": "daily", "method": "SignDigests", "retry_at": "2026-11-22T16:00:00Z"})
	d.is("a single one", d.signs(single), granted, nil)
	d.is("the fourth of both", d.signs(single), fault.QuotaExceeded, map[string]string{"limit": "daily", "method": "blind", "retry_at": "2026-11-22T16:00:00Z"})
	for range 5 {
		d.is("whole documents", d.signs(whole), granted, nil)
	}

	d = newDesk(t)
	const atATime = "    method_limits: {blind: {concurrent: 1}}\n"
	one, err := d.charge(d.granted(atATime, erp, policy.SignDigest), "a", "a")
	must(t, err)
	_, err = d.charge(d.granted(atATime, erp, policy.SignDigests), "b", "b")
	d.is("one of a batch meanwhile", err, fault.RateLimited, map[string]string{"limit": "concurrent", "method": "blind", "retry_at": "2026-11-22T04:00:00.1Z"})
	d.open.settle(one, true, nil, d.now)
	d.is("one of a batch afterwards", d.signs(d.granted(atATime, erp, policy.SignDigests)), granted, nil)

	d = newDesk(t)
	const rate = "    method_limits: {blind: {rate: 1, burst: 1}}\n"
	d.is("the first", d.signs(d.granted(rate, erp, policy.SignDigests)), granted, nil)
	d.is("by the other method", d.signs(d.granted(rate, erp, policy.SignDigest)), fault.RateLimited, nil)
	d.now = d.now.Add(time.Second)
	d.is("a second later", d.signs(d.granted(rate, erp, policy.SignDigest)), granted, nil)
}

func TestLimitsAreOfOneCallerAndOneSigner(t *testing.T) {
	d := newDesk(t)
	const limits = "    limits: {daily: 1}\n"
	own := d.granted(limits, erp, policy.SignDigest)
	d.is("the first", d.signs(own), granted, nil)
	d.is("the second", d.signs(own), fault.QuotaExceeded, nil)
	d.is("another caller's", d.signs(d.granted(limits, portal, policy.SignDigest)), granted, nil)
	other := newDesk(t)
	d.is("at another signer", other.signs(own), granted, nil)
}

func TestRetriesCountOnce(t *testing.T) {
	d := newDesk(t)
	const limits = "    limits: {daily: 4, rate: 0.001, burst: 4}\n"
	grant := d.granted(limits, erp, policy.SignDigest)
	d.is("the first", d.repeats(grant, "a"), granted, nil)
	for range freeRetries {
		d.is("its retry", d.repeats(grant, "a"), granted, nil)
	}
	charge := func(grant policy.Grant, id, digest string) error {
		c, err := d.charge(grant, id, digest)
		d.open.settle(c, err == nil, err, d.now)
		return err
	}
	d.is("another digest", charge(grant, "a", "other"), granted, nil)
	d.is("another ID", charge(grant, "b", "digest of a"), granted, nil)
	d.is("another method", charge(d.granted(limits, erp, policy.SignDigests), "a", "digest of a"), granted, nil)
	d.is("a fifth", charge(grant, "c", "c"), fault.QuotaExceeded, nil)
	d.is("the second's retry", charge(grant, "a", "other"), granted, nil)
}

func TestEndlessRetriesMeetTheRate(t *testing.T) {
	d := newDesk(t)
	grant := d.granted("    limits: {rate: 0.001, burst: 2, daily: 1}\n", erp, policy.SignDigest)
	var err error
	n := 0
	for ; err == nil && n < 1000; n++ {
		err = d.repeats(grant, "a")
	}
	d.is("a flood of retries", err, fault.RateLimited, nil)
	if want := 1 + freeRetries + 1 + 1; n != want { // the first, the free ones, one of the rate's, the refused
		t.Errorf("got %d requests until one was refused, want %d", n, want)
	}
}

func TestWhatIsRefusedIsGivenBack(t *testing.T) {
	for _, row := range []struct {
		err   error
		stays bool
	}{
		{fault.New(fault.Overloaded, "full"), false},
		{fault.New(fault.TokenUnavailable, "away"), false},
		{fault.New(fault.SignatureWrong, "wrong"), false},
		{fault.New(fault.DocumentInvalid, "no document"), false},
		{fault.New(fault.TaxpayerMismatch, "another's"), false},
		{errors.New("a slip of ours"), false},
		{nil, false}, // a panic
		{fmt.Errorf("waiting: %w", context.Canceled), true},
		{fmt.Errorf("waiting: %w", context.DeadlineExceeded), true},
	} {
		d := newDesk(t)
		grant := d.granted("    limits: {daily: 1, rate: 0.001, burst: 1}\n", erp, policy.SignDigest)
		c, err := d.charge(grant, "a", "a")
		must(t, err)
		d.open.settle(c, false, row.err, d.now)
		if row.stays {
			d.is("a new one after "+fmt.Sprint(row.err), d.signs(grant), fault.QuotaExceeded, nil)
			c, err = d.charge(grant, "a", "a")
			d.is("its retry after "+fmt.Sprint(row.err), err, granted, nil)
			d.open.settle(c, true, nil, d.now)
			continue
		}
		d.is("a new one after "+fmt.Sprint(row.err), d.signs(grant), granted, nil)
		d.is("a second one after "+fmt.Sprint(row.err), d.signs(grant), fault.QuotaExceeded, nil)
	}
}

// One of two that are the same is refused: what the other got stays charged.
func TestARefusedTwinGivesNothingBack(t *testing.T) {
	for _, firstFails := range []bool{true, false} {
		d := newDesk(t)
		grant := d.granted("    limits: {daily: 1}\n", erp, policy.SignDigest)
		first, err := d.charge(grant, "a", "a")
		must(t, err)
		twin, err := d.charge(grant, "a", "a")
		must(t, err)
		refused, served := first, twin
		if !firstFails {
			refused, served = twin, first
		}
		d.open.settle(refused, false, fault.New(fault.Overloaded, "full"), d.now)
		d.is("while one is in the making", d.signs(grant), fault.QuotaExceeded, nil)
		d.open.settle(served, true, nil, d.now)
		d.is("afterwards", d.signs(grant), fault.QuotaExceeded, nil)
	}
}

func TestSoManyMayBeInTheMaking(t *testing.T) {
	d := newDesk(t)
	grant := d.granted("    limits: {concurrent: 2}\n    method_limits: {SignDocument: {concurrent: 1}}\n", erp, policy.SignDigest)
	whole := d.granted("    limits: {concurrent: 2}\n    method_limits: {SignDocument: {concurrent: 1}}\n", erp, policy.SignDocument)
	one, err := d.charge(whole, "a", "a")
	d.is("the first", err, granted, nil)
	_, err = d.charge(whole, "b", "b")
	d.is("the method's second", err, fault.RateLimited, map[string]string{"limit": "concurrent", "method": "SignDocument", "retry_at": "2026-11-22T04:00:00.1Z"})
	two, err := d.charge(grant, "c", "c")
	d.is("the second", err, granted, nil)
	_, err = d.charge(grant, "c", "c")
	d.is("the third, although a retry", err, fault.RateLimited, nil)
	d.open.settle(one, true, nil, d.now)
	d.is("once one is made", d.signs(grant), granted, nil)
	d.open.settle(two, true, nil, d.now)
}

func TestOtherLimitsApplyAtOnceAndResetNothing(t *testing.T) {
	d := newDesk(t)
	under := func(limits string) policy.Grant { return d.granted("    limits: "+limits+"\n", erp, policy.SignDigest) }
	for range 5 {
		d.is("under the first", d.signs(under("{daily: 10}")), granted, nil)
	}
	d.is("under a smaller quota", d.signs(under("{daily: 5}")), fault.QuotaExceeded, nil)
	d.is("under a larger quota", d.signs(under("{daily: 6}")), granted, nil)
	d.is("and beyond", d.signs(under("{daily: 6}")), fault.QuotaExceeded, nil)
	d.is("without a quota", d.signs(under("{rate: 0.001, burst: 2}")), granted, nil)
	d.is("with the quota again", d.signs(under("{daily: 7}")), fault.QuotaExceeded, nil)

	d = newDesk(t)
	for range 2 {
		d.is("in the burst", d.signs(under("{rate: 1, burst: 2}")), granted, nil)
	}
	d.is("with a larger burst", d.signs(under("{rate: 1, burst: 100}")), fault.RateLimited, nil)
	d.now = d.now.Add(time.Second)
	d.is("with a second's rate", d.signs(under("{rate: 1, burst: 100}")), granted, nil)
}

func TestWhatIsGivenBackNeverExceedsTheBurst(t *testing.T) {
	var bucket tally
	bucket.apply(policy.Limits{Rate: 1, Burst: 2}, noon)
	for range 10 {
		bucket.putBack(noon)
	}
	for i, free := range []bool{true, true, false} {
		if wait := bucket.take(noon); (wait == 0) != free {
			t.Errorf("take %d: got a wait of %v, want none: %v", i, wait, free)
		}
	}
	bucket.putBack(noon)
	if wait := bucket.take(noon); wait != 0 {
		t.Errorf("after one was put back: got a wait of %v, want none", wait)
	}
}

func TestARequestIsForgottenAfterManyOthers(t *testing.T) {
	var m memory
	key := func(i int) (k requestKey) { return requestKey(fmt.Appendf(nil, "%016d", i)) }
	settle := func(i int) {
		r := &request{key: key(i), settled: true}
		m.begin(r)
		m.end(r)
	}
	for i := range maxRecent {
		settle(i)
	}
	if m.recall(key(0)) == nil {
		t.Error("the oldest of as many as are remembered is forgotten")
	}
	// One that is tried again keeps its place, and is known as long as it is in the making.
	again := m.recall(key(0))
	again.retries = 3
	m.begin(again)
	settle(maxRecent)
	if m.recall(key(0)) != again || m.recall(key(1)) == nil {
		t.Errorf("in the making: got %v and %v, want both", m.recall(key(0)), m.recall(key(1)))
	}
	m.end(again)
	if got := m.recall(key(0)); got == nil || got.retries != 3 || m.recall(key(1)) != nil {
		t.Errorf("settled again: got %v and %v, want 3 retries and the oldest forgotten", got, m.recall(key(1)))
	}
	for i := range 2 * maxRecent {
		settle(2*maxRecent + i)
	}
	if len(m.settled) != maxRecent || len(m.ring) != maxRecent || len(m.making) != 0 || m.recall(key(0)) != nil {
		t.Errorf("remembered: got %d, %d and %d in the making, want %d and none", len(m.settled), len(m.ring), len(m.making), maxRecent)
	}
	given := &request{key: key(-1)}
	m.begin(given)
	m.end(given)
	if m.recall(key(-1)) != nil {
		t.Error("one that was given back is remembered")
	}
}

func TestAccountsAreOfOneDay(t *testing.T) {
	d := newDesk(t)
	const limits = "    limits: {daily: 2}\n"
	for i := range 20 {
		must(t, d.signs(d.granted(limits, policy.Caller(fmt.Sprintf("caller-%d.example.com", i)), policy.SignDigest)))
	}
	own := d.granted(limits, erp, policy.SignDigest)
	late, err := d.charge(own, "late", "late")
	must(t, err)
	d.now = d.now.AddDate(0, 0, 1)
	must(t, d.signs(own))
	if len(d.open.accounts) != 1 {
		t.Errorf("accounts: got %d, want only that of which something is in the making", len(d.open.accounts))
	}
	d.open.settle(late, false, fault.New(fault.Overloaded, "full"), d.now)
	d.is("of the next day", d.signs(own), granted, nil)
	d.is("yesterday's is not given back today", d.signs(own), fault.QuotaExceeded, nil)
}

// Whatever comes, no more is released a day than the quota, every request
// once, and never more are in the making than may be.
func TestWhateverComesQuotasHold(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 3))
		d := newDesk(t)
		const daily, concurrent = 20, 5
		grant := d.granted(fmt.Sprintf("    limits: {daily: %d, concurrent: %d}\n", daily, concurrent), erp, policy.SignDigest)
		type work struct {
			id string
			c  *charge
		}
		var making []work
		released := map[string]bool{}
		outcomes := []error{fault.New(fault.Overloaded, "full"), context.Canceled, errors.New("ours")}
		for range 500 {
			if len(making) > 0 && random.IntN(2) == 0 {
				i := random.IntN(len(making))
				w := making[i]
				making = append(making[:i], making[i+1:]...)
				if random.IntN(2) == 0 {
					d.open.settle(w.c, true, nil, d.now)
					released[w.id] = true
				} else {
					d.open.settle(w.c, false, outcomes[random.IntN(len(outcomes))], d.now)
				}
				continue
			}
			id := fmt.Sprint(random.IntN(60))
			if c, err := d.charge(grant, id, id); err == nil {
				making = append(making, work{id, c})
			}
			if len(making) > concurrent || len(released) > daily {
				t.Fatalf("seed %d: %d in the making and %d released, want at most %d and %d", seed, len(making), len(released), concurrent, daily)
			}
		}
		for _, w := range making {
			d.open.settle(w.c, false, outcomes[0], d.now)
		}
		own := d.open.accounts[erp]
		if own.making != 0 || own.tallies[""].making != 0 || own.tallies[""].used < len(released) || own.tallies[""].used > daily {
			t.Errorf("seed %d: in the end %d are in the making and %d used, for %d released", seed, own.making, own.tallies[""].used, len(released))
		}
	}
}

func TestCallersWithoutLimitsHaveNoAccount(t *testing.T) {
	d := newDesk(t)
	grant := d.granted("", erp, policy.SignDigest)
	for range 100 {
		must(t, d.signs(grant))
	}
	if len(d.open.accounts) != 0 {
		t.Errorf("accounts: got %d, want none", len(d.open.accounts))
	}
}

func TestErrorsOfLimitsSayWhichItWas(t *testing.T) {
	d := newDesk(t)
	grant := d.granted("    method_limits: {SignDigest: {daily: 1}}\n", erp, policy.SignDigest)
	must(t, d.signs(grant))
	err := d.signs(grant)
	for _, want := range []string{"method SignDigest", "the day's 1 signatures"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}
