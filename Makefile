# Every target is one command that can be typed by hand; ./check is what has to pass.
GO    ?= go
TAGS  := hashicorpmetrics
OUT   ?= dist/bench
RUNS  ?= 20
DURABILITY ?= quorum
# 2+1- before a fault means two nodes with data and a witness.
FAULTS ?= host-kill postgres-kill partition switchover backend-kill isolate agent-kill agent-kill-norespawn agent-stop \
	agent-upgrade guard-kill guard-stop agent+guard-kill agent+guard-stop postgres-stop disk-hang disk-full standby-kill \
	leader-kill 2+1-witness-kill 2+1-host-kill 2+1-standby-kill
MINUTES ?= 30
FUZZTIME ?= 30s
FUZZ    ?= .
SEED    ?= 1

.DEFAULT_GOAL := help
.PHONY: help build dist test lint e2e bench soak chaos model model-long sim sim-nightly negative negative-chaos fuzz demo check clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/quorate
	CGO_ENABLED=0 $(GO) build -tags $(TAGS) -o bin/quorate ./cmd/quorate

dist: ## build static dist/quorate-linux-amd64 and -arm64 with their SHA-256 sums
	@mkdir -p dist
	@for arch in amd64 arm64; do \
		echo "dist/quorate-linux-$$arch"; \
		CGO_ENABLED=0 GOOS=linux GOARCH=$$arch $(GO) build -tags $(TAGS) -trimpath -ldflags='-s -w' \
			-o dist/quorate-linux-$$arch ./cmd/quorate || exit 1; \
	done
	@cd dist && sha256sum quorate-linux-amd64 quorate-linux-arm64 > SHA256SUMS

test: ## unit tests with the race detector, without e2e and the model
	$(GO) test -race -tags $(TAGS) $$($(GO) list -tags $(TAGS) ./... | grep -v -e '/quorate/e2e' -e '/quorate/docs/')

lint: ## gofmt, vet, staticcheck and the rules of tidy_test.go
	@wrong=$$(gofmt -l .); if [ -n "$$wrong" ]; then echo "not formatted:"; echo "$$wrong"; exit 1; fi
	$(GO) vet -tags $(TAGS) ./...
	$(GO) tool staticcheck -tags $(TAGS) ./...
	$(GO) test -tags $(TAGS) -count 1 .

e2e: ## end-to-end tests on real Postgres, alone on this machine
	$(GO) test -tags $(TAGS) -p 1 -count 1 -timeout 40m ./e2e/...

bench: build ## measure every fault: make bench [OUT=directory] [RUNS=20] [FAULTS="host-kill isolate"]
	@mkdir -p $(OUT)
	@status=0; for fault in $(FAULTS); do \
		nodes="--data 3"; name=$$fault; \
		case $$fault in 2+1-*) nodes="--data 2 --witness 1"; fault=$${fault#2+1-} ;; esac; \
		echo "$$name: $(RUNS) runs into $(OUT)/$$name.json"; \
		bin/quorate lab bench --fault $$fault $$nodes --runs $(RUNS) --durability $(DURABILITY) --client libpq --json > $(OUT)/$$name.json || status=1; \
	done; exit $$status

soak: build ## break and heal at random: make soak [MINUTES=30] [SEED=1]
	bin/quorate lab soak --minutes $(MINUTES) --seed $(SEED)

chaos: build ## break several things at once and judge: make chaos [MINUTES=30] [SEED=1]
	bin/quorate lab chaos --minutes $(MINUTES) --seed $(SEED)

model: ## the short configurations of the model in docs/model: what must hold, and what must be caught
	$(GO) run ./docs/model/lease short
	$(GO) run ./docs/model/syncm short
	$(GO) run ./docs/model/whole short

model-long: ## the same models with long bounds: hours, and 3 GiB
	$(GO) run ./docs/model/lease long
	$(GO) run ./docs/model/lease sim 5m
	$(GO) run ./docs/model/syncm long
	$(GO) run ./docs/model/whole long

sim: ## play SEEDS=10000 seeds of the simulator from SEED=1 on, and the worlds that lack a mechanism
	$(GO) test -tags $(TAGS) -count 1 -timeout 60m -v -run 'TestSeeds|TestMutationsAreCaught' ./e2e/sim \
		-sim.seeds=$(or $(SEEDS),10000) -sim.first=$(SEED)

sim-nightly: ## play a million seeds that nobody played before, or those from SEED on
	$(GO) test -tags $(TAGS) -count 1 -timeout 24h -v -run TestSeeds ./e2e/sim \
		-sim.seeds=$(or $(SEEDS),1000000) -sim.first=$(if $(filter file,$(origin SEED)),$(shell date +%s)000000,$(SEED))

negative: ## leave out one mechanism after the other: vet, its test, and the simulator have to notice (docs/decisions/0017)
	$(GO) run -tags $(TAGS) ./e2e/negative vet
	$(GO) run -tags $(TAGS) ./e2e/negative unit
	$(GO) run -tags $(TAGS) ./e2e/negative simulator

negative-chaos: ## the same for what chaos has to notice, as root: 20 minutes for each at most, and as long for the clean build
	$(GO) run -tags $(TAGS) ./e2e/negative chaos -seed $(SEED)

fuzz: ## search for input that breaks a decoder or parser, each target for a while: make fuzz [FUZZTIME=30s] [FUZZ=./pgctl]
	@targets=$$(grep -rlE '^func Fuzz' --include='*_test.go' . | sort | while read -r file; do \
		sed -nE 's/^func (Fuzz[A-Za-z0-9_]*)\(.*/\1/p' "$$file" | while read -r target; do \
			echo "$$(dirname "$$file") $$target"; \
		done; \
	done | grep -e "$(FUZZ)"); \
	[ -n "$$targets" ] || { echo "no target is named like $(FUZZ)"; exit 1; }; \
	echo "$$targets" | while read -r dir target; do \
		echo "$$dir: $$target for $(FUZZTIME)"; \
		$(GO) test -tags $(TAGS) -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$dir" </dev/null || exit 1; \
	done

demo: ## three nodes on this machine and one failover, step by step
	./demo

check: ## everything that has to pass before a change goes in
	./check

clean: ## remove what was built
	rm -rf bin dist
