// Package chaos runs quorate lab chaos on real Postgres, for five minutes with a fresh seed unless told otherwise:
//
//	CHAOS_MINUTES=60 CHAOS_SEED=7 go test -count 1 -timeout 2h ./e2e/chaos
//
// It must never compose a fault or judge a history itself: what it runs is what users run.
package chaos
