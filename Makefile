# make demo   the main job on a real model, in one go
# make study-small   the paper's controlled study in miniature, on two cores
# make test   install what is missing, run the default tests
# make test-pure    what runs where there is no compiled code, without it
# make test-hub-1   the registry tests with huggingface_hub 1.31
# make zoo    every architecture of transformers in every spelling, and its page in the docs
# make zoo-oldest    the same with the oldest transformers that is supported
# make test-olah    the read path against olah, a server from PyPI
# make docs   the documentation site, in build/site
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
HUB1 := .venv-hub-1
OLDEST := .venv-oldest
PURE_TESTS := tests/tensors/test_delta.py tests/codecs tests/extraction/test_coding.py \
  tests/extraction/test_extract_apply.py tests/artifact/test_attacks.py tests/transfer/test_loading.py
HUB_TESTS := tests/registry/test_registries.py tests/hub/test_ranged_reads.py \
  tests/hub/test_failures.py tests/catalogue/test_browse.py tests/cli/test_hub_cli.py

.PHONY: demo study study-small test test-pure test-all test-hub-1 test-olah zoo zoo-oldest check docs \
  bench install clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints-dev.txt requirements-dev.txt $(wildcard ftt_hub/kernels/*.[ch])
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "ftt-hub needs Python 3.11 or newer; run make with PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints-dev.txt torch
	$(BIN)/python -m pip install --quiet -c constraints-dev.txt -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --no-build-isolation -c constraints-dev.txt -e '.[demo,eval,plot,tune,web]'
	@$(BIN)/python -c 'import sys; from ftt_hub import kernels; sys.exit(kernels.COMPILED is None)' || \
	  echo "NO C COMPILER: Δ is computed by NumPy, and the tests of compiled code will be SKIPPED" >&2
	@$(BIN)/python -m pip install --quiet -c constraints-dev.txt reasoning-gym || echo "NO reasoning-gym: \
	it needs pycosat, which is built by a C compiler; the tests of the study will be SKIPPED" >&2
	@touch $(STAMP)

demo: install
	$(BIN)/python examples/demo/run.py $(ARGS)

# The paper's §4 to §6 in miniature (docs/study.md): on two cores, or larger for a GPU.
study-small study: STUDY = $(if $(filter study,$@),gpu,small)
study-small study: install
	mkdir -p build/study
	$(BIN)/python examples/controlled_study/run.py train examples/controlled_study/$(STUDY).yaml \
	  --results build/study/$(STUDY).json $(ARGS)
	$(BIN)/python examples/controlled_study/run.py report build/study/$(STUDY).json \
	  --out build/study/$(STUDY)

# A worker per core; the tests of a file stay together, since they share what its fixtures build.
test: install
	$(BIN)/python -m pytest -n auto --dist loadfile

# What users have where there is no C compiler and no wheel: the same bits by NumPy.
test-pure: install
	FTT_HUB_PURE_PYTHON=1 $(BIN)/python -m pytest -p no:cacheprovider $(PURE_TESTS)

test-all: install
	$(BIN)/python -m pytest -m ''

test-hub-1: $(HUB1)/.installed
	$(HUB1)/bin/python -m pytest -p no:cacheprovider $(HUB_TESTS)

# The same packages but for huggingface_hub 1.x, which speaks httpx where 2.x speaks httpx2.
$(HUB1)/.installed: $(STAMP)
	$(PYTHON) -m venv $(HUB1)
	$(HUB1)/bin/python -m pip install --quiet 'huggingface_hub==1.31.0'
	$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
	  > "$$($(HUB1)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/zz_first.pth"
	@touch $@

# Long: about an hour on two cores. Both go on where they stopped; the page shows both.
zoo: install
	mkdir -p build/zoo
	cd tests && ../$(BIN)/python -m zoo --jobs 2 --results ../build/zoo/newest.jsonl $(ARGS)
	cd tests && ../$(BIN)/python -m zoo --results ../build/zoo/newest.jsonl \
	  --older ../build/zoo/oldest.jsonl --page ../docs/architectures.md

zoo-oldest: $(OLDEST)/.installed
	mkdir -p build/zoo
	cd tests && ../$(OLDEST)/bin/python -m zoo --jobs 2 --results ../build/zoo/oldest.jsonl $(ARGS)

# The same packages but for the oldest supported transformers and what it needs.
$(OLDEST)/.installed: $(STAMP)
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet 'transformers==5.8.0'
	@$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
	  > "$$($(OLDEST)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/zz_first.pth"
	@touch $@

# The read path against a Hub server that nobody here wrote, in an environment of its own.
test-olah: install
	$(PYTHON) -m venv .venv-olah
	.venv-olah/bin/python -m pip install --quiet olah==0.5.4
	FTT_HUB_OLAH=$(CURDIR)/.venv-olah/bin/python $(BIN)/python -m pytest -m '' tests/registry/test_olah.py

check: install
	VIRTUAL_ENV=$(CURDIR)/$(VENV) scripts/check

# Broken links, unknown anchors, missing references and anything loaded from elsewhere are errors.
docs: install
	NO_MKDOCS_2_WARNING=true $(BIN)/python -m mkdocs build
	@echo "docs: build/site/index.html"

bench: install
	$(BIN)/python benchmarks/apply.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/load.py
	$(BIN)/python benchmarks/speed.py
	$(BIN)/python benchmarks/size.py

clean:
	rm -rf build dist *.egg-info
