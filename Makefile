# make demo         a spool, an S3 server and one run, with no account
# make test         every promise, each on a sample of engines, servers, sizes and faults
# make test-all     the same, then every combination that it leaves out and the tests of chance with their long budgets
# make coverage     the tests of `make test`, with how much of the package they reach, branch by branch
# make lint         format, lint, types, layers, generated documentation
# make docs         the documentation as a site, in build/site; a warning is an error
# make linkcheck    do the links that lead out of the documentation still lead somewhere? Asks the network
# make pictures     the pictures in docs/images anew, from real runs on this machine; takes minutes, faketime and Chromium
# make generated    write anew what is made from the types: tables of the documentation, the schema, the manual page
# make bench        the benchmarks, for an hour; peers are installed, results go to benchmarks/results/
# make bench-quick  under a minute: does a file cost more CPU than it used to?
# make deb          a Debian package in build/deb, with debhelper and dh-virtualenv
# make release      what is published of this version, in dist: sdist, wheel, checksums, and the notes from the changelog
# make clean        remove what the above made
#
# All that is needed is Python 3.10 or newer, with its venv module. Packages go into .venv beside this file.
# PYTHON=python3.12 takes another interpreter (after `make clean`, if there is a .venv already). PYTEST_ARGS is handed to
# pytest, DEMO_ARGS to the demo, BENCH_ARGS to the benchmarks (`make bench BENCH_ARGS=--help`). TEST_PROCESSES is how many
# tests run at once; those that measure time run after the others, one by one.

PYTHON = python3
PYTEST_ARGS =
# Tests wait for servers and clocks a good part of their time.
TEST_PROCESSES = $$(($$(nproc) * 5 / 2))
DEMO_ARGS =
BENCH_ARGS =

VENV = .venv
BIN = $(VENV)/bin
DOCS_VENV = .venv-docs
SPHINX = $(DOCS_VENV)/bin/python -m sphinx --fail-on-warning --keep-going --quiet
METADATA = setup.py pyproject.toml s3_uploader/_version.py
# A plain path entry instead of an import hook: the hook would add its milliseconds to each start that a test measures.
# What pytest makes of the tests is kept for the next run, whatever the environment says. hypothesis would import trio, a
# dependency of selenium, in each process.
PYTEST = PYTHONDONTWRITEBYTECODE= HYPOTHESIS_NO_PLUGINS=1 $(BIN)/python -m pytest -q --durations 15 -rsfE
# In the order of tests/distribution.py.
SIDE_BY_SIDE = -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder -m 'not timing'
# Only the files that have some: collecting them all takes longer than some of these tests.
ONE_BY_ONE = -m timing $$(grep -rl --include='*.py' 'mark.timing' tests)
# A third of its time would go into bytecode, of which the tests use little. This variable is the one for --no-compile
# that every pip reads alike, those that it starts itself included.
INSTALL = PIP_COMPILE=0 $(BIN)/python -m pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat
SOURCES = s3_uploader tests docs benchmarks setup.py

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

demo: $(VENV)/.demo
	@$(BIN)/s3-uploader-cli demo $(DEMO_ARGS)

test: $(VENV)/.test
	$(PYTEST) $(SIDE_BY_SIDE) $(PYTEST_ARGS)
	$(PYTEST) $(ONE_BY_ONE)

# `make -o test test-all` takes what `make test` has tried for tried. A type checker reads the pages' programs.
test-all: $(VENV)/.dev test
	$(PYTEST) --unsampled $(SIDE_BY_SIDE) $(PYTEST_ARGS)
	$(PYTEST) --unsampled $(ONE_BY_ONE)

coverage: $(VENV)/.dev
	$(PYTEST) $(SIDE_BY_SIDE) --cov --cov-report term-missing --cov-report xml:build/coverage.xml $(PYTEST_ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/mypy --follow-imports=silent tests docs benchmarks
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check

docs: $(DOCS_VENV)/.docs
	$(SPHINX) --fresh-env --write-all -b html -c docs . build/site
	$(DOCS_VENV)/bin/python -m docs.site_search build/site/searchindex.js
	@echo "build/site/index.html"

linkcheck: $(DOCS_VENV)/.docs
	$(SPHINX) -b linkcheck -c docs . build/linkcheck

pictures: $(DOCS_VENV)/.docs
	$(DOCS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[docs,test]'
	$(DOCS_VENV)/bin/python docs/record.py
	$(DOCS_VENV)/bin/python -m docs.report_pictures

generated: $(VENV)/.test
	$(BIN)/python docs/generate.py

bench: $(VENV)/.test
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m benchmarks $(BENCH_ARGS)

bench-quick: $(VENV)/.test
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m benchmarks quick

# The changelog of the package has one entry: which version it is. What changed stands in CHANGELOG.md.
deb:
	@for each in dh dh_virtualenv dpkg-buildpackage; do command -v $$each >/dev/null || \
	  { echo "$$each is missing: apt install build-essential debhelper dh-virtualenv python3-venv" >&2; exit 69; }; done
	rm -rf build/deb
	mkdir -p build/deb
	git archive --prefix s3-uploader/ HEAD | tar -x -C build/deb
	cp -r build/deb/s3-uploader/deploy/debian build/deb/s3-uploader/debian
	printf 's3-uploader (%s) unstable; urgency=medium\n\n  * See CHANGELOG.md.\n\n -- %s  %s\n' \
	  "$$(sed -n 's/^__version__ = "\(.*\)"/\1/p' s3_uploader/_version.py)" \
	  "The s3_uploader authors <s3-uploader@localhost>" "$$(git log -1 --format=%aD)" \
	  >build/deb/s3-uploader/debian/changelog
	cd build/deb/s3-uploader && dpkg-buildpackage --build=binary --unsigned-changes --no-check-builddeps
	@ls build/deb/*.deb

release: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "build>=1.2"
	$(BIN)/python docs/release.py

clean:
	rm -rf $(VENV) $(DOCS_VENV) .cache build dist *.egg-info .coverage .coverage.* htmlcov
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find s3_uploader tests docs benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "$(PYTHON) is missing or older than 3.10; name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "$(PYTHON) cannot make virtual environments." >&2; \
	    echo "On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)

# Each stamp says that .venv holds what that extra needs, and those that it includes; it is made anew when the metadata
# changes.
$(VENV)/.demo: $(METADATA) | $(BIN)/python
	$(INSTALL) -e '.[demo]'
	@touch $@

$(VENV)/.test: $(METADATA) | $(BIN)/python
	$(INSTALL) -e '.[test]'
	@touch $(VENV)/.demo $@

$(VENV)/.dev: $(METADATA) | $(BIN)/python
	$(INSTALL) -e '.[dev]'
	@touch $(VENV)/.demo $(VENV)/.test $@

# Sphinx and its theme have an environment of their own, so that nobody needs them to work on the program.
$(DOCS_VENV)/.docs: $(METADATA)
	$(PYTHON) -m venv --clear $(DOCS_VENV)
	PIP_COMPILE=0 $(DOCS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	@touch $@

.PHONY: help demo test test-all coverage lint docs linkcheck pictures generated bench bench-quick deb release clean
