# make help lists the targets. Nothing has to be installed by hand but Go, make and git.

SHELL    := /bin/bash
VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
BUILD    := CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X gearmesh.dev/internal/version.Version=$(VERSION)"
GEAR     := ./bin/gear
# Tests with the tag root make network namespaces, or take tools from the module proxy; those with the tag lab boot lab hosts.
PACKAGES := ./api/... ./client/... ./unitgen/... ./linker/... ./dnsd/... ./router/... ./mesh/... ./geard/... ./master/... ./internal/... ./cmd/... ./contrib/...
DEBS     := mmdebstrap debian-archive-keyring iptables nftables iproute2 conntrack docker-registry haproxy bind9-dnsutils curl procps kmod e2fsprogs systemd
# Peers and clients of the DNS server.
DEBS     += dnsperf unbound knot dnsmasq-base musl-tools gcc libc6-dev nodejs

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: deps
deps: ## install the Debian packages that tests and lab need (root)
	@missing=$$(for p in $(DEBS); do dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
	if [ -n "$$missing" ]; then \
	  echo "installing: "$$missing; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi

.PHONY: build
build: ## build gear, geard and gear-run into bin/
	@mkdir -p bin
	@$(BUILD) -o bin/ ./cmd/gear ./cmd/geard ./cmd/gear-run

.PHONY: build-failpoints
build-failpoints: ## build the same with failpoints into bin/failpoints/ (docs/debugging.md)
	@mkdir -p bin/failpoints
	@$(BUILD) -tags failpoints -o bin/failpoints/ ./cmd/gear ./cmd/geard ./cmd/gear-run ./contrib/faults

.PHONY: build-clock
build-clock: ## build the same with a wall clock that can be stepped too into bin/clock/
	@mkdir -p bin/clock
	@go run ./contrib/clockstep bin/clock/overlay
	@$(BUILD) -tags failpoints -overlay bin/clock/overlay/overlay.json -o bin/clock/ ./cmd/gear ./cmd/geard ./cmd/gear-run ./contrib/faults

.PHONY: check
check: ## format, vet and the tests that need neither root nor a lab, in under a minute once built
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); exit 1; }
	go vet ./...
	go test -timeout 30m $(PACKAGES)

.PHONY: test
test: deps build build-failpoints ## all tests: units, real components, and the whole story in the lab (root)
	go vet -tags root,lab,host ./...
	go test -timeout 30m -tags root $(PACKAGES)
	go test -p 1 -tags lab -count=1 -timeout 90m -v -run '^Test(Lab|Node)' ./contrib/...

.PHONY: test-node
test-node: deps build ## the part of test about a single host: sessions, repair, eject, secrets, boot alone (root)
	go test -tags lab -count=1 -timeout 30m -v -run '^TestNode' ./contrib/...

.PHONY: race
race: ## the unit tests under the race detector
	CGO_ENABLED=1 go test -timeout 30m -race $(PACKAGES)

.PHONY: golden
golden: ## rewrite the golden files; read the diff before you commit it
	UPDATE_GOLDEN=1 go test $(PACKAGES)

.PHONY: fuzz
fuzz: ## run each fuzz target for FUZZTIME (10s)
	@for pkg in $$(go list $(PACKAGES)); do \
	  for f in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	    echo "$$pkg $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(or $(FUZZTIME),10s) $$pkg || exit 1; \
	  done; \
	done

.PHONY: bench
bench: deps build ## measure the numbers of the docs, each beside its peer in one run (ONLY=P1,P3); also in out/bench.json
	@mkdir -p out
	go run ./contrib/bench -only "$(ONLY)" -out out/bench.json

.PHONY: faults
faults: deps build-clock ## do harm to a lab and see that the bounds of the docs hold (ONLY=F1,F7); also in out/faults.json
	@mkdir -p out
	bin/clock/faults -bin bin/clock -only "$(ONLY)" -out out/faults.json

.PHONY: demo
demo: deps build ## three systemd hosts on this machine, with the guestbook on them, step by step
	@go run ./contrib/demo

.PHONY: demo-down
demo-down: build ## take the demo's lab down; nothing of it stays but the cached root tree
	@$(GEAR) lab down --lab demo

.PHONY: dev
dev: ## the whole system unprivileged on a fake host, rebuilt when a file changes
	@go run ./contrib/dev

.PHONY: lint
lint: ## golangci-lint with .golangci.yml, through the Go module proxy
	go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0 run
