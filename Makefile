# make help tells what there is.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The packages that need a C compiler. All others are pure Go, and stay so.
CGO_PACKAGES := /(hsm|cmd/roamsignd|softhsm-test)$$
PURE = $(shell go list ./... | grep -vE '$(CGO_PACKAGES)')

BUF = go tool -modfile=tools.mod buf

.PHONY: help
help: ## This list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s%s\n", $$1, $$2 }' Makefile

.PHONY: build
build: ## bin/roamsign (static, pure Go) and bin/roamsignd (cgo, for PKCS#11).
	@build/packages.sh gcc
	CGO_ENABLED=0 go build -o bin/roamsign ./cmd/roamsign
	build/static.sh bin/roamsign
	CGO_ENABLED=1 go build -o bin/roamsignd ./cmd/roamsignd

.PHONY: test
test: packages build ## All tests, with the race detector. Installs what is missing (Debian, as root).
	go vet ./...
	CGO_ENABLED=0 go build $(PURE)
	CGO_ENABLED=1 go test -race -count=1 -timeout=10m ./...
	CGO_ENABLED=0 go test -count=1 ./xades/... ./client/...
	$(MAKE) --no-print-directory examples
	@if [ "$$(id -u)" -eq 0 ]; then $(MAKE) --no-print-directory deb-test; else echo "Not run, since it wants root: make deb-test"; fi

.PHONY: check
check: ## Lint, floors, generated code, the API's promises, licences, scripts.
	@build/packages.sh gcc shellcheck
	@unformatted=$$(gofmt -s -l .); [ -z "$$unformatted" ] || { echo "Not gofmt'd: $$unformatted" >&2; exit 1; }
	shellcheck build/*.sh .ci/run
	go test -count=1 ./internal/house
	go tool -modfile=lint.mod golangci-lint run
	build/proto.sh

.PHONY: vuln
vuln: ## Known vulnerabilities in what the programs are built of; wants vuln.go.dev.
	@build/vuln.sh

.PHONY: generate
generate: ## The Go code of the API, from its protos.
	$(BUF) generate

.PHONY: baseline
baseline: ## Promises the API as it is now. Refuses where that breaks an earlier promise.
	$(BUF) breaking --against proto/baseline.txtpb
	$(BUF) build -o proto/baseline.txtpb --exclude-source-info

.PHONY: soak
soak: packages build ## The long drills at their full counts: outages, hangs, restarts of a remote token.
	ROAMSIGN_SOAK=1 CGO_ENABLED=1 go test -race -count=1 -timeout=30m -v -run='Drill|EverySignatureThatAClientHolds' ./softhsm-test
	ROAMSIGN_SOAK=1 go test -race -count=1 -timeout=30m -v ./audit

.PHONY: bench
bench: benched ## The benchmarks, as one table: BENCH_JSON=FILE writes it, too, QUICK=1 is rough and takes a minute.
	BENCH_JSON="$(abspath $(BENCH_JSON))" $(MEASURE)

.PHONY: bench-check
bench-check: benched ## The benchmarks, compared with those on record by their ratios: fails where more than 15% are lost.
	BENCH_CHECK=testdata/baseline.json BENCH_JSON="$(abspath $(BENCH_JSON))" $(MEASURE)

.PHONY: benched
benched:
	@build/packages.sh gcc softhsm2 libxml2-dev libp11-kit-dev

# BENCH_ROWS, a regular expression, picks rows. It and QUICK reach the program through the environment.
MEASURE = CGO_ENABLED=1 go test -run='^$$' -bench='^BenchmarkTable$$' -benchtime=1x -timeout=60m ./softhsm-test/bench

.PHONY: demo
demo: ## An invoice signed by a key in a throw-away token, verified, and Valid at a stand-in for LHDN.
	@build/packages.sh gcc softhsm2 libxml2-utils openssl opensc
	@$(MAKE) --no-print-directory build
	@build/demo.sh

# Node.js comes with npm from its makers; Debian has it as a package of its own.
.PHONY: examples
examples: build ## The examples in Python and JavaScript, run against a signer of their own.
	@build/packages.sh softhsm2 protobuf-compiler protobuf-compiler-grpc libprotobuf-dev python3-grpcio nodejs npm
	@build/examples.sh

.PHONY: examples-more
examples-more: build ## The same for those in PHP and Java, which want much from Debian: a JDK and netty.
	@build/packages.sh softhsm2 protobuf-compiler protobuf-compiler-grpc libprotobuf-dev php-cli php-curl php-google-protobuf \
	  default-jdk-headless libgrpc-java protobuf-compiler-grpc-java-plugin libprotobuf-java libguava-java libnetty-java libnetty-tcnative-java \
	  libnetty-tcnative-jni libperfmark-java libgeronimo-annotation-1.3-spec-java libjsr305-java
	@build/examples.sh php java

# No paths of the machine that built it.
.PHONY: deb
deb: export GOFLAGS = -trimpath
deb: build ## dist/roamsign_VERSION_ARCH.deb, a Debian package with both programs.
	@build/deb.sh

.PHONY: deb-test
deb-test: build ## Installs that package, goes from there to a signature by the manual, and removes it. As root.
	@build/packages.sh softhsm2 openssl
	@build/deb-test.sh "$$(build/deb.sh)"

.PHONY: systemd-test
systemd-test: build ## The package under a systemd of its own, in a scratch folder: some minutes. As root.
	@build/packages.sh mmdebstrap
	@build/systemd-test.sh "$$(build/deb.sh)"

# What the tests need beside Go.
.PHONY: packages
packages:
	@build/packages.sh gcc softhsm2 libxml2-utils openssl opensc p11-kit p11-kit-modules libp11-kit-dev opencryptoki mariadb-server-core strace
