# What a developer types. `make` alone lists the targets.
# Everything lands in .venv and .cache, both ignored by git; nothing is installed system-wide.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
unexport PYTHONDONTWRITEBYTECODE  # a lab starts hundreds of agents: compiling ours each time is a quarter of that
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' && echo $$p && break; done)

# Real etcd for the tests: the end-of-life line, one with the learner-promotion bug, and the one we stand for.
ETCD_DIR := .cache/etcd
ETCD_VERSIONS := 3.4.23 3.5.16 3.5.30
ETCD_RELEASE := 3.5.27

MIND := tests/model tests/decide tests/telemetry
comma := ,
STEP = @printf '\n== %s\n' "$(1)"

.PHONY: help
help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(VENV)/.ready ## create .venv with everything for tests and the lab

$(VENV)/.ready: pyproject.toml requirements-dev.lock
	$(call STEP,setup: a virtual environment in $(VENV))
	@[ -n "$(PYTHON)" ] || { echo "Python 3.11 or later is needed: none found as python3, python3.13, python3.12 or python3.11"; exit 1; }
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "$(PYTHON) cannot create virtual environments: install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --use-pep517 --no-deps --require-hashes -r requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@$(BIN)/python -m pip check --disable-pip-version-check >/dev/null || $(BIN)/python -m pip check
	@touch $@

.PHONY: etcd
etcd: ## fetch the etcd binaries the tests run against, into .cache/etcd
	@mkdir -p $(ETCD_DIR)
	@for version in $(ETCD_VERSIONS); do \
		packer/install-etcd --version $$version --into $(ETCD_DIR)/$$version 2>$(ETCD_DIR)/install.log || \
			{ echo "etcd $$version cannot be had here (see $(ETCD_DIR)/install.log); its tests are skipped"; rmdir $(ETCD_DIR)/$$version 2>/dev/null || true; }; \
	done
	@[ -x $(ETCD_DIR)/$(lastword $(ETCD_VERSIONS))/etcd ] || \
		packer/install-etcd --version $(ETCD_RELEASE) --into $(ETCD_DIR)/$(ETCD_RELEASE)

# It wants nothing of its package but itself, and libc. A machine whose package lists are old or empty, as a container's
# are, gets lists of our own from the sources that it is set up with. Works as anybody.
PROMTOOL := .cache/promtool
OWN_LISTS = -o Dir::State::Lists=$$PWD/lists -o Dir::Cache=$$PWD/cache -o APT::Sandbox::User=root -o Acquire::Languages=none

.PHONY: promtool
promtool: ## fetch promtool, for the tests of docs/alerts.yaml, into .cache/promtool
	@[ -x $(PROMTOOL)/usr/bin/promtool ] || command -v promtool >/dev/null || { \
		rm -rf $(PROMTOOL) && mkdir -p $(PROMTOOL)/apt/lists/partial $(PROMTOOL)/apt/cache/archives/partial && \
		if (cd $(PROMTOOL)/apt && { apt-get -q download prometheus || \
				{ apt-get -q $(OWN_LISTS) update || true; apt-get -q $(OWN_LISTS) download prometheus; }; } && \
				dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x ./usr/bin/promtool && mv usr ..) >$(PROMTOOL)/fetch.log 2>&1; \
		then rm -rf $(PROMTOOL)/apt; \
		else echo "promtool cannot be had here (see $(PROMTOOL)/fetch.log); its tests are skipped"; fi; }

.PHONY: test
test: setup ## everything that must hold: lint, types, layers, unit tests with coverage, the lab
	$(call STEP,etcd and promtool: binaries for the tests)
	@$(MAKE) etcd promtool
	@$(MAKE) lint types
	$(call STEP,model, decide, telemetry: every branch of the mind)
	@$(BIN)/python -m pytest -q -n 2 $(MIND) --cov=agent.model --cov=agent.decide --cov-report= --cov-fail-under=100
	$(call STEP,everything else that needs no etcd: properties$(comma) simulation$(comma) settings$(comma) telemetry$(comma) the doors)
	@$(BIN)/python -m pytest -q -n 2 -m "not lab and not etcd and not delivery" $(foreach folder,$(MIND),--ignore=$(folder))
	$(call STEP,etcd and lab tests: real etcd$(comma) emulated AWS$(comma) the real agent$(comma) with the printed IAM policy in force)
	@LAB_ENFORCES_IAM=1 $(BIN)/python -m pytest -q -n 3 --dist worksteal -m "(lab or etcd) and not long"

.PHONY: long
long: setup ## what `make test` shows once, again and at more length
	@$(MAKE) etcd
	@$(BIN)/python -m pytest -q -n 2 --dist worksteal -m long

.PHONY: unit
unit: setup ## only the tests that need no etcd (seconds)
	@$(BIN)/python -m pytest -q -n 2 -m "not lab and not etcd and not delivery"

.PHONY: lint
lint: setup ## ruff, the layers, shellcheck where it is installed
	$(call STEP,lint: ruff)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	$(call STEP,layers: import-linter)
	@$(BIN)/lint-imports --no-logo --cache-dir .cache/import-linter
	@if command -v shellcheck >/dev/null; then printf '\n== lint: shellcheck\n'; shellcheck packer/install-etcd packer/image/provision packer/image/check .ci/run; fi

.PHONY: types
types: setup ## mypy --strict
	$(call STEP,types: mypy --strict)
	@$(BIN)/mypy

.PHONY: format
format: setup ## let ruff format and mend what it safely can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: demo
demo: setup ## a cluster forms, loses its leader, grows, loses its majority: in the lab, with a timeline
	@$(MAKE) etcd
	@$(BIN)/etcd-asg-agent lab demo

SEEDS ?= 1000
FIRST ?= 0
JOBS ?= 2

.PHONY: simulate
simulate: setup ## SEEDS=1000 FIRST=0 JOBS=2: whole fleets in virtual time, each seed a walk through faults
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS) --first $(FIRST) --jobs $(JOBS)

.PHONY: chaos
chaos: setup ## real etcd broken in every way we know (CASE=name,name TIMES=3, RANDOM_MINUTES=60 SEED=7)
	@$(MAKE) etcd
	@$(BIN)/python -m tests.chaos --case '$(CASE)' --times $(or $(TIMES),1) --random $(or $(RANDOM_MINUTES),0) --seed $(or $(SEED),1)

.PHONY: packages
packages: ## .deb and .rpm for each distribution and processor, into dist/packages (PACKAGES='--target debian12 --arch amd64')
	@packer/package/build $(PACKAGES)

# The tree holds what is on any Debian instance; the tests copy it. Only they run without a network.
DELIVERY := .cache/delivery
DELIVERY_ARCH = $(shell dpkg --print-architecture)
TREE := systemd,systemd-sysv,dbus,polkitd,python3,iproute2,procps,ca-certificates

.PHONY: delivery
delivery: setup ## the built package and the image on a booted Debian (needs root, mmdebstrap, systemd-container; minutes)
	@$(MAKE) etcd
	@[ -d $(DELIVERY)/tree ] || { mkdir -p $(DELIVERY) && rm -rf $(DELIVERY)/tree.new && \
		mmdebstrap --quiet --variant=minbase --include=$(TREE) bookworm $(DELIVERY)/tree.new && \
		mv $(DELIVERY)/tree.new $(DELIVERY)/tree; }
	@for into in one two; do rm -rf $(DELIVERY)/$$into; \
		packer/package/build --target debian12 --arch $(DELIVERY_ARCH) --into $(DELIVERY)/$$into; done
	@[ -x $(DELIVERY)/packer/usr/bin/packer ] || \
		(cd $(DELIVERY) && apt-get -q download packer >/dev/null && dpkg -x packer_*.deb packer && rm packer_*.deb)
	@$(BIN)/python -m tests.delivery.provisioned $(DELIVERY)
	@unshare --net sh -ec 'ip link set lo up; exec "$$@"' sh $(BIN)/python -m pytest -q -m delivery tests/delivery

.PHONY: bench
bench: setup ## how fast it forms, replaces and promotes, beside bare etcd
	@$(MAKE) etcd
	@$(BIN)/python -m tests.bench

JOBS ?= 2

.PHONY: mutants
mutants: setup ## the agent made wrong on purpose, one rule at a time: each time a check must break (JOBS=2)
	@$(MAKE) etcd
	@$(BIN)/python -m tests.mutants --jobs $(JOBS)

.PHONY: terraform
terraform: setup ## the Terraform example against the emulated AWS, and the cluster that comes of it (needs terraform; minutes)
	@$(MAKE) etcd
	@$(BIN)/python -m pytest -q -m delivery tests/delivery/test_terraform_example.py

COMPILE := uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes --upgrade \
	--no-emit-index-url --no-emit-find-links --no-header

.PHONY: lock
lock: ## resolve the dependencies anew (needs uv); lock files carry hashes and no addresses
	@command -v uv >/dev/null || { echo "make lock needs uv: python3 -m pip install uv"; exit 1; }
	@$(COMPILE) --output-file requirements.lock
	@$(COMPILE) --extra lab --group dev --output-file requirements-dev.lock
	@! grep -nE '://|--(extra-)?index-url|--find-links' requirements.lock requirements-dev.lock

.PHONY: proto
proto: ## generate the messages of agent/world/etcd_wire.proto anew, in an environment of its own
	@python3 -m venv .cache/proto
	@.cache/proto/bin/pip install --quiet grpcio-tools==1.62.3 mypy-protobuf==3.6.0 'setuptools<81'
	@PATH=$(CURDIR)/.cache/proto/bin:$$PATH python -m grpc_tools.protoc -I. --python_out=. --mypy_out=. agent/world/etcd_wire.proto

.PHONY: clean
clean: ## remove .venv, caches and everything else that can be made again
	@rm -rf $(VENV) .cache build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
