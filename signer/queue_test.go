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
)

// hold takes a session that another goroutine would hold.
func hold(t *testing.T, q *queue) (leave func(error)) {
	t.Helper()
	leave, err := q.enter(t.Context())
	if err != nil {
		t.Fatalf("enter: %v", err)
	}
	return leave
}

func TestSessionsAreHandedOutInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(2, 100)
		first, second := hold(t, q), hold(t, q)
		order := make(chan int, 10)
		var all sync.WaitGroup
		for i := range 10 {
			all.Go(func() {
				leave, err := q.enter(t.Context())
				if err != nil {
					t.Errorf("enter: %v", err)
					return
				}
				order <- i
				time.Sleep(time.Millisecond) // of the bubble's clock
				leave(nil)
			})
			synctest.Wait() // until it waits
		}
		first(nil)
		second(nil)
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

func TestTheQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(1, 3)
		leave := hold(t, q)
		for range 3 {
			go func() {
				leave, err := q.enter(t.Context())
				if err != nil {
					t.Errorf("enter: %v", err)
					return
				}
				leave(nil)
			}()
		}
		synctest.Wait()
		if _, err := q.enter(t.Context()); kindOf(err) != fault.Overloaded {
			t.Errorf("the fourth to wait: got %v, want OVERLOADED", err)
		}
		leave(nil)
		synctest.Wait()
		hold(t, q)(nil) // they have left
	})
}

func TestWhatCannotBeDoneInTimeIsRefusedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(2, 1000)
		leave := hold(t, q)
		time.Sleep(100 * time.Millisecond) // of the bubble's clock
		leave(nil)                         // a signature takes 100 ms
		first, second := hold(t, q), hold(t, q)
		waiting, cancel := context.WithCancel(t.Context())
		for range 5 {
			go func() { _, _ = q.enter(waiting) }()
		}
		synctest.Wait()
		// Five wait for two sessions: the sixth starts in 300 ms and ends in 400.
		for _, row := range []struct {
			within time.Duration
			kind   fault.Kind
		}{
			{399 * time.Millisecond, fault.Overloaded},
			{401 * time.Millisecond, fault.DeadlineExceeded},
		} {
			ctx, done := context.WithTimeout(t.Context(), row.within)
			began := time.Now()
			_, err := q.enter(ctx)
			took := time.Since(began)
			done()
			if kindOf(err) != row.kind {
				t.Errorf("a deadline in %v: got %v, want %v", row.within, err, row.kind)
			}
			if row.kind == fault.Overloaded && took != 0 {
				t.Errorf("a deadline in %v: refused after %v, want at once", row.within, took)
			}
			if e, ok := errors.AsType[*fault.Error](err); ok && e.RetryAfter != 300*time.Millisecond {
				t.Errorf("retry: got %v, want 300ms", e.RetryAfter)
			}
		}
		cancel()
		synctest.Wait()
		first(nil)
		second(nil)
	})
}

func TestAFreeSessionIsGivenWhateverTheAverage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(1, 10)
		leave := hold(t, q)
		time.Sleep(time.Hour) // of the bubble's clock
		leave(nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		leave, err := q.enter(ctx)
		if err != nil {
			t.Fatalf("enter: %v", err)
		}
		leave(nil)
	})
}

func TestFailuresTeachNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(1, 10)
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
			leave := hold(t, q)
			time.Sleep(row.took) // of the bubble's clock
			leave(row.err)
			if q.cost != row.want {
				t.Errorf("after %v (%v): got %v, want %v", row.took, row.err, q.cost, row.want)
			}
		}
	})
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(1, 10)
		leave := hold(t, q)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			_, err := q.enter(ctx)
			ended <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-ended; kindOf(err) != fault.Canceled {
			t.Errorf("got %v, want CANCELED", err)
		}
		if _, err := q.enter(ctx); kindOf(err) != fault.Canceled {
			t.Errorf("with a context that has ended: got %v, want CANCELED", err)
		}
		if q.waiting != 0 {
			t.Errorf("waiting: got %d, want none", q.waiting)
		}
		leave(nil)
		hold(t, q)(nil)
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
