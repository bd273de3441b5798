# One command for each task. Python 3.11 or newer is all that must be there.
PYTHON ?= python3
# Elsewhere than on Linux the plain index has CPU builds too; on Linux this one has them without CUDA.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: run compiled test test-parts test-gateways test-vllm test-openwebui conformance web bench bench-peers soak lint format lock env clean

run: .venv/ready
	$(BIN)/rag-gateway serve

# The gateway as the image has it, with the hot paths' modules compiled; needs a C compiler and some minutes.
compiled: build/compiled/ready

build/compiled/ready: .venv/ready hatch_build.py $(shell find gateway retrieval guardrails features -name '*.py')
	rm -rf build/compiled
	HATCH_BUILD_HOOK_ENABLE_CUSTOM=true $(PIP) install --quiet --no-deps --no-build-isolation --target build/compiled .
	touch $@

# Parts as the checkout has them, then whole gateways as they are delivered. Two tests at a time, since most wait for a
# process of theirs; a file's tests stay together, with what they share.
test: test-parts test-gateways

PYTEST ?= -n 2 --dist loadfile
test-parts: .venv/ready
	-sh tests/services/install.sh
	$(BIN)/pytest -o cache_dir=build/pytest/parts $(PYTEST) tests/architecture tests/unit tests/integration

test-gateways: compiled
	-sh tests/services/install.sh
	PYTHONPATH=$(CURDIR)/build/compiled \
	  $(BIN)/pytest -o cache_dir=build/pytest/gateways $(PYTEST) tests/contract tests/e2e tests/battery

test-vllm: .venv/ready
	bash tests/vllm/setup.sh
	$(BIN)/pytest tests/vllm

# Not part of the gate: an environment of its own of about 3 GB, and a browser (Debian: apt-get install chromium).
test-openwebui: .venv/ready
	bash tests/openwebui/setup.sh
	$(BIN)/pytest tests/openwebui

# What official clients' own suites say of the gateway; 220 MB of downloads, and npm.
conformance: .venv/ready
	bash tests/conformance/setup.sh
	$(BIN)/pytest tests/conformance

# The chat page's files in gateway/web/, from their source; needs Node 20 or newer.
web:
	cd web && npm ci --ignore-scripts --no-audit --no-fund && npm run --silent check && npm run --silent build

bench: compiled
	$(BIN)/python benchmarks/run.py

bench-peers: .venv/ready
	$(BIN)/python benchmarks/peers.py

# Half an hour of load and faults: memory, descriptors and tasks have to stay flat.
soak: compiled
	PYTHONPATH=$(CURDIR)/build/compiled $(BIN)/python benchmarks/soak.py --minutes 30

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

env: .venv/ready

# any-llm lies in a folder of its own, for its own tests: it asks for an older anthropic than the other tests do. So
# does the Milvus server that some of them start: 58 MB, and 246 MB unpacked at its first start; and Phoenix, which
# reads the traces that are sent to it.
# torch comes first and alone: the index that has CPU builds is asked for nothing else. All the rest is pinned by
# hash in requirements.lock.
.venv/ready: requirements.lock tests/any_llm.lock tests/milvus_server.lock tests/phoenix.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "rag-gateway needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Making the environment: about 2 GB, a few minutes the first time."
	$(PIP) install --quiet --no-deps --retries 0 --extra-index-url $(TORCH_INDEX) torch==2.13.0 2>/dev/null \
	  || $(PIP) install --no-deps --extra-index-url $(TORCH_INDEX) torch==2.13.0
	$(PIP) install --quiet --require-hashes --no-deps -r requirements.lock
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	$(PIP) install --quiet --require-hashes --no-deps --upgrade --target .venv/any-llm -r tests/any_llm.lock
	$(PIP) install --quiet --require-hashes --no-deps --upgrade --target .venv/milvus-server -r tests/milvus_server.lock
	$(PIP) install --quiet --require-hashes --no-deps --upgrade --target .venv/phoenix -r tests/phoenix.lock
	touch .venv/ready

# Needs `uv` on the path; run it after a change of pyproject.toml's dependencies.
lock:
	uv pip compile pyproject.toml --extra all --group dev --generate-hashes --quiet --no-emit-find-links \
	  --no-emit-package torch --no-annotate --custom-compile-command "make lock" --python-version 3.11 \
	  -o requirements.lock

clean:
	rm -rf .venv .venv-vllm build data
