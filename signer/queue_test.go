package signer

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/roamsign/roamsign/internal/fault"
	"github.com/roamsign/roamsign/policy"
)

// hold takes a session that another goroutine would hold.
func hold(t *testing.T, q *queue) turn {
	t.Helper()
	held, err := q.enter(t.Context(), erp, 1)
	if err != nil {
		t.Fatalf("enter: %v", err)
	}
	return held
}

func TestOneCallersTurnsComeInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(2, 100, 100)
		first, second := hold(t, q), hold(t, q)
		order := make(chan int, 10)
		var all sync.WaitGroup
		for i := range 10 {
			all.Go(func() {
				own, err := q.enter(t.Context(), erp, 1)
				if err != nil {
					t.Errorf("enter: %v", err)
					return
				}
				order <- i
				time.Sleep(time.Millisecond) // of the bubble's clock
				own.end(nil)
			})
			synctest.Wait() // until it waits
		}
		first.end(nil)
		second.end(nil)
		all.Wait()
		close(order)
		var got []int
		for i := range order {
			got = append(got, i)
		}
		// Two sessions serve two at a time; of those, either may report first.
		for i := 0; i < 10; i += 2 {
			slices.Sort(got[i : i+2])
		}
		if want := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}; !slices.Equal(got, want) {
			t.Errorf("order: got %v, want %v", got, want)
		}
	})
}

// wait has a goroutine wait in the queue, and tells how that ended.
func wait(ctx context.Context, q *queue, caller policy.Caller) <-chan error {
	ended := make(chan error, 1)
	go func() {
		own, err := q.enter(ctx, caller, 1)
		if err == nil {
			own.end(nil)
		}
		ended <- err
	}()
	return ended
}

func TestTheQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(1, 3, 3)
		held := hold(t, q)
		for range 3 {
			wait(t.Context(), q, erp)
		}
		synctest.Wait()
		if _, err := q.enter(t.Context(), erp, 1); kindOf(err) != fault.Overloaded {
			t.Errorf("the fourth to wait: got %v, want OVERLOADED", err)
		}
		held.end(nil)
		synctest.Wait()
		hold(t, q).end(nil) // they have left
	})
}

func TestTheQueueIsBoundedByCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(1, 100, 2)
		held := hold(t, q)
		for range 2 {
			wait(t.Context(), q, erp)
		}
		synctest.Wait()
		if _, err := q.enter(t.Context(), erp, 1); kindOf(err) != fault.Overloaded {
			t.Errorf("the caller's third to wait: got %v, want OVERLOADED", err)
		}
		other := wait(t.Context(), q, portal)
		synctest.Wait()
		held.end(nil)
		if err := <-other; err != nil {
			t.Errorf("another caller's first: %v", err)
		}
	})
}

// A flood fills the queue, and yet it does not keep others out.
func TestAFullQueueMakesRoomForWhoHasLessInIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(1, 5, 100)
		held := hold(t, q)
		var flood []<-chan error
		for range 5 {
			flood = append(flood, wait(t.Context(), q, erp))
			synctest.Wait()
		}
		first := wait(t.Context(), q, portal)
		synctest.Wait()
		if err := <-flood[4]; kindOf(err) != fault.Overloaded {
			t.Errorf("the flood's last: got %v, want OVERLOADED", err)
		}
		second := wait(t.Context(), q, portal)
		synctest.Wait()
		if err := <-flood[3]; kindOf(err) != fault.Overloaded {
			t.Errorf("the flood's last but one: got %v, want OVERLOADED", err)
		}
		// Three and two: one more for either would only turn that round.
		for _, caller := range []policy.Caller{erp, portal} {
			if _, err := q.enter(t.Context(), caller, 1); kindOf(err) != fault.Overloaded {
				t.Errorf("%s's next: got %v, want OVERLOADED", caller, err)
			}
		}
		held.end(nil)
		for i, ended := range []<-chan error{first, second, flood[0], flood[1], flood[2]} {
			if err := <-ended; err != nil {
				t.Errorf("of those who stayed, %d: %v", i, err)
			}
		}
	})
}

// Room may be made by sending away the only one who waits.
func TestAQueueOfOnePlaceMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(1, 1, 1)
		held := hold(t, q)
		light := wait(t.Context(), q, erp)
		synctest.Wait()
		ended := make(chan error, 1)
		go func() {
			own, err := q.enter(t.Context(), portal, 3)
			if err == nil {
				own.end(nil)
			}
			ended <- err
		}()
		if err := <-light; kindOf(err) != fault.Overloaded {
			t.Errorf("the lighter one: got %v, want OVERLOADED", err)
		}
		synctest.Wait()
		held.end(nil)
		if err := <-ended; err != nil {
			t.Errorf("the heavier one: %v", err)
		}
		hold(t, q).end(nil)
	})
}

func TestWhatCannotBeDoneInTimeIsRefusedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(2, 1000, 1000)
		held := hold(t, q)
		time.Sleep(100 * time.Millisecond) // of the bubble's clock
		held.end(nil)                      // a signature takes 100 ms
		first, second := hold(t, q), hold(t, q)
		waiting, cancel := context.WithCancel(t.Context())
		for range 5 {
			wait(waiting, q, erp)
		}
		synctest.Wait()
		for _, row := range []struct {
			caller policy.Caller
			within time.Duration
			kind   fault.Kind
			retry  time.Duration
		}{
			// Five wait for two sessions: the sixth starts in 300 ms and ends in 400.
			{erp, 399 * time.Millisecond, fault.Overloaded, 300 * time.Millisecond},
			{erp, 401 * time.Millisecond, fault.DeadlineExceeded, 0},
			// Another caller's first one is next: it starts in 50 ms and ends in 150.
			{portal, 149 * time.Millisecond, fault.Overloaded, 100 * time.Millisecond},
			{portal, 151 * time.Millisecond, fault.DeadlineExceeded, 0},
		} {
			ctx, done := context.WithTimeout(t.Context(), row.within)
			began := time.Now()
			_, err := q.enter(ctx, row.caller, 1)
			took := time.Since(began)
			done()
			if kindOf(err) != row.kind {
				t.Errorf("%s, a deadline in %v: got %v, want %v", row.caller, row.within, err, row.kind)
			}
			if row.kind == fault.Overloaded && took != 0 {
				t.Errorf("%s, a deadline in %v: refused after %v, want at once", row.caller, row.within, took)
			}
			if e, ok := errors.AsType[*fault.Error](err); ok && e.RetryAfter != row.retry {
				t.Errorf("%s, retry: got %v, want %v", row.caller, e.RetryAfter, row.retry)
			}
		}
		cancel()
		synctest.Wait()
		first.end(nil)
		second.end(nil)
	})
}

func TestAFreeSessionIsGivenWhateverTheAverage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(1, 10, 10)
		held := hold(t, q)
		time.Sleep(time.Hour) // of the bubble's clock
		held.end(nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		held, err := q.enter(ctx, erp, 1)
		if err != nil {
			t.Fatalf("enter: %v", err)
		}
		held.end(nil)
	})
}

func TestFailuresTeachNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(1, 10, 10)
		for _, row := range []struct {
			took time.Duration
			err  error
			want time.Duration
		}{
			{time.Second, errors.New("away"), 0},
			{80 * time.Millisecond, nil, 80 * time.Millisecond},
			{0, errors.New("away"), 80 * time.Millisecond},
			{160 * time.Millisecond, nil, 90 * time.Millisecond},
			{10 * time.Millisecond, nil, 80 * time.Millisecond},
		} {
			held := hold(t, q)
			time.Sleep(row.took) // of the bubble's clock
			held.end(row.err)
			if q.cost != row.want {
				t.Errorf("after %v (%v): got %v, want %v", row.took, row.err, q.cost, row.want)
			}
		}
	})
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(1, 10, 10)
		held := hold(t, q)
		ctx, cancel := context.WithCancel(t.Context())
		ended := wait(ctx, q, erp)
		synctest.Wait()
		cancel()
		if err := <-ended; kindOf(err) != fault.Canceled {
			t.Errorf("got %v, want CANCELED", err)
		}
		if _, err := q.enter(ctx, erp, 1); kindOf(err) != fault.Canceled {
			t.Errorf("with a context that has ended: got %v, want CANCELED", err)
		}
		if q.line.length != 0 {
			t.Errorf("waiting: got %d, want none", q.line.length)
		}
		held.end(nil)
		hold(t, q).end(nil)
	})
}

// A session that was handed to one who has just given up goes on to the next.
func TestAHandedOverSessionIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(1, 10, 10)
		held := hold(t, q)
		gone, _, err := q.take(t.Context(), erp, 1)
		if gone == nil || err != nil {
			t.Fatalf("join: got %v, %v, want a place in the line", gone, err)
		}
		next := wait(t.Context(), q, portal)
		synctest.Wait()
		held.end(nil) // it is the first one's now
		q.abandon(gone)
		if err := <-next; err != nil {
			t.Errorf("the next one: %v", err)
		}
		// With nobody else it is set free.
		held = hold(t, q)
		gone, _, err = q.take(t.Context(), erp, 1)
		if gone == nil || err != nil {
			t.Fatalf("join: got %v, %v, want a place in the line", gone, err)
		}
		held.end(nil)
		q.abandon(gone)
		hold(t, q).end(nil)
	})
}

func TestWhoIsSentAwayAndGivesUpAtOnceTakesNoSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(1, 1, 1)
		held := hold(t, q)
		gone, _, err := q.take(t.Context(), erp, 1)
		if gone == nil || err != nil {
			t.Fatalf("join: got %v, %v, want a place in the line", gone, err)
		}
		heavier, _, err := q.take(t.Context(), portal, 2)
		if heavier == nil || err != nil {
			t.Fatalf("join: got %v, %v, want a place in the line", heavier, err)
		}
		q.abandon(gone)
		if q.busy != 1 {
			t.Errorf("sessions in use: got %d, want 1", q.busy)
		}
		q.abandon(heavier)
		held.end(nil)
		if q.busy != 0 || q.line.length != 0 {
			t.Errorf("got %d sessions in use and %d who wait, want none", q.busy, q.line.length)
		}
	})
}

func TestRetriesAreNeitherAtOnceNorNever(t *testing.T) {
	for _, row := range []struct{ wait, want time.Duration }{
		{0, 100 * time.Millisecond},
		{time.Second, time.Second},
		{time.Hour, 10 * time.Second},
	} {
		e, ok := errors.AsType[*fault.Error](overloaded(row.wait, "full"))
		if !ok || e.RetryAfter != row.want {
			t.Errorf("overloaded(%v): got %v, want %v", row.wait, e, row.want)
		}
	}
}
