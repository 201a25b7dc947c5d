// Package bench measures the service against what it stands on: bare C_Sign
// calls on the same token, and a bare gRPC server that does nothing but make them.
// "make bench" prints its table, docs/PERFORMANCE.md tells what the rows mean.
//
// All of it is test code, run by one benchmark. It judges nothing unless it is
// asked to ("make bench-check"): then it compares ratios with those on record.
//
// The one idea: a figure means something only beside another one of the same
// minutes on the same machine. So whatever is compared takes turns in short
// rounds, and what counts is the median of the rounds' ratios.
package bench
