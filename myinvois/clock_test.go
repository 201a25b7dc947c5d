package myinvois

import (
	"fmt"
	"net/http"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

func TestAClockThatWasFastAtTheSendingCostsNothing(t *testing.T) {
	for _, fast := range []time.Duration{15 * time.Minute, time.Hour, -time.Hour} {
		for _, later := range []time.Duration{5 * time.Minute, 2 * time.Hour} {
			t.Run(fmt.Sprintf("by %v, looked at %v later", fast, later), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { lostByAClock(t, fast, 0, later) })
			})
		}
	}
}

func TestAClockThatIsAlwaysWrongCostsNothing(t *testing.T) {
	for _, slow := range []time.Duration{-24 * time.Hour, -time.Hour, -7 * time.Minute, 7 * time.Minute, time.Hour} {
		for _, later := range []time.Duration{time.Minute, 20 * time.Minute, 3 * time.Hour} {
			t.Run(fmt.Sprintf("by %v, looked at %v later", slow, later), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { lostByAClock(t, slow, slow, later) })
			})
		}
	}
}

// lostByAClock has a submission's answer lost while the clock is wrong by so much,
// and delivers it later, by a clock that may be right: it is accepted once.
func lostByAClock(t *testing.T, sent, looked, later time.Duration) {
	t.Helper()
	s := &stage{after: onlyFor("submit", 1, cut), slow: sent, told: true}
	j := opened(t, filepath.Join(t.TempDir(), "journal"))
	ids := numbered(t, j, 1)
	interrupted(t, at(t, s, lasting(t)), j, ids)
	s.slow = looked
	time.Sleep(later)
	got := deliver(t.Context(), at(t, s, lasting(t)), j, ids)
	if got.outcomes["INV-0"] != Valid {
		t.Errorf("got %v, %v", got.outcomes, got.reasons)
	}
	once(t, s, 1)
}

func TestThePlatformsTimeIsTakenFromItsAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		for _, row := range []struct {
			date string
			took time.Duration
			want time.Duration // ahead
		}{
			{"", 0, 0},
			{"yesterday", 0, 0},
			{now.UTC().Format(http.TimeFormat), 0, 0},
			{now.Add(-tolerance).UTC().Format(http.TimeFormat), 0, 0},
			{now.Add(time.Hour).UTC().Format(http.TimeFormat), 0, time.Hour},
			{now.Add(-time.Hour).UTC().Format(http.TimeFormat), 0, -time.Hour},
			{now.Add(-time.Minute).UTC().Format(http.TimeFormat), time.Minute, 0}, // a slow answer
			{now.Add(-time.Hour).UTC().Format(http.TimeFormat), time.Minute, -time.Hour + time.Minute},
		} {
			var c clock
			c.heed(http.Header{"Date": {row.date}}, now.Add(-row.took), now)
			if got := c.now().Sub(now); got != row.want {
				t.Errorf("%q after %v: got %v ahead, want %v", row.date, row.took, got, row.want)
			}
		}
	})
}
