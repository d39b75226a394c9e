# minivae: `make demo` trains and draws, `make test` proves. Each makes .venv if need be; a machine with python3 (3.11 or
# later), its venv module and make is enough.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# That the wheel works is for `make test` alone: from a checkout too it is built from the sdist.
SDIST_TESTS ?= tests/test_latent.py tests/test_old_files.py tests/test_packaging.py \
  --deselect tests/test_packaging.py::test_the_wheel_holds_the_kernels_as_files

.PHONY: demo demo-mpi test test-fast test-all portable verify everything torch asan lint bench smoke package figures notebooks docs docs-test docs-blocks docs-pages clean help
.DEFAULT_GOAL := help

help:
	@echo "make demo     train on real handwritten digits and write pictures to demo/ (about half a minute)"
	@echo "make demo-mpi the same by two processes and by one, which write the same model (MPICH, from a wheel)"
	@echo "make test     the CPU test suite;  make test-fast: the engine's tests;  make test-all: the slow ones too"
	@echo "make portable the tests under other processors, BLAS kernels, numbers of threads and versions (an hour)"
	@echo "make asan     the CUDA kernels, compiled for this machine, under AddressSanitizer (needs g++)"
	@echo "make lint     ruff and mypy"
	@echo "make bench    benchmarks;  make smoke: each once, quickly"
	@echo "make package  build sdist and wheel in dist/, check both, and run the engine's tests from the unpacked sdist"
	@echo "make docs     the book, in site/: open site/index.html;  make docs-test: run its code blocks, open its pages"
	@echo "make figures  the figures of the README that take longer (needs MNIST: MINIVAE_DATA=folder)"
	@echo "make notebooks  run the notebooks of examples/, quickly; with WRITE=1 in full, and keep what they show (minutes)"
	@echo "make clean    remove .venv, demo/ and caches"

# One stamp for each set of extras: made again when pyproject.toml changes. Without --no-compile, pip compiles every file
# of every package, on one core; Python compiles what it imports, once. The pip of an older Python takes twice as long to
# resolve. -qq: no warnings.
PIP = $(BIN)/python -m pip install -qq --disable-pip-version-check --no-compile

$(VENV)/.%: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "minivae needs Python 3.11 or later; name one: make PYTHON=python3.12 …"; exit 1; }
	@test -x $(BIN)/python || { $(PYTHON) -m venv $(VENV) && { $(PIP) --upgrade pip || true; }; }
	$(PIP) --config-settings editable_mode=compat -e ".[$*]"
	@touch $@

demo: $(VENV)/.digits,viz
	@rm -rf demo/digits demo/plane
	$(BIN)/minivae train digits --out demo/digits --hidden 256,128 --latent 16 --epochs 250 --batch-size 64 --validation 0.1
	$(BIN)/minivae train digits --out demo/plane --likelihood gaussian:0.15 --hidden 256,128 --latent 2 --epochs 200 \
	  --batch-size 64 --validation 0.1
	@echo
	@echo "Look at demo/digits/samples.png, demo/digits/reconstructions.png, demo/digits/loss.png,"
	@echo "and at the plane of two latent dimensions: demo/plane/manifold.png, demo/plane/latent.png."
	@echo "(The first model explains random 0/1 draws of the grey pictures, the second the greys themselves: their"
	@echo "nats are of different things and cannot be compared, and pixel noise blurs the first one's samples.)"

# On one core as on two: a rank has one thread, and two ranks on one core take turns.
demo-mpi: $(VENV)/.mpi,digits,viz
	@rm -rf demo/two-ranks demo/one-rank
	$(BIN)/mpiexec -n 2 $(BIN)/minivae train digits --out demo/two-ranks --hidden 256,128 --latent 16 --epochs 30 \
	  --batch-size 256 --validation 0.1 --threads 1
	$(BIN)/minivae train digits --out demo/one-rank --hidden 256,128 --latent 16 --epochs 30 --batch-size 256 \
	  --validation 0.1 --threads 1 --shards 2
	cmp demo/two-ranks/model.safetensors demo/one-rank/model.safetensors
	@echo "The models of two ranks and of one are the same, byte for byte. How, and when it pays: docs/distributed.md"

# One worker a core; a worker that is done takes tests from another.
WORKERS = -n logical --maxprocesses 8 --dist worksteal

ENGINE = kernels math special noise rows_and_weights vectorised threads latent likelihoods objectives optim backend vae

test: $(VENV)/.test
	$(BIN)/python -m pytest $(WORKERS)

test-fast: $(VENV)/.test
	$(BIN)/python -m pytest $(WORKERS) $(ENGINE:%=tests/test_%.py) tests/test_gradcheck_engine.py::test_gradients_are_right

# AFTER, of this and of docs-blocks: what .ci/run installs meanwhile. LEFT_OUT: what else runs meanwhile.
test-all: $(VENV)/.test | $(AFTER)
	$(BIN)/python -m pytest $(WORKERS) -m "not book and not hours" $(LEFT_OUT:%=--ignore=%)

portable: $(VENV)/.test
	$(BIN)/python scripts/portable.py

verify: $(VENV)/.test
	$(BIN)/minivae verify

# One installation of all that .ci/run needs.
everything: $(VENV)/.test,mpi,lint,bench,docs,notebooks,package
	@touch $(foreach extra,test mpi lint bench docs notebooks package,$(VENV)/.$(extra))

# torch is an oracle of the tests, and large: what needs it skips where it cannot be had.
torch:
	@$(PIP) 'torch==2.13.0' || echo "torch: not to be had here"

asan: $(VENV)/.test
	$(BIN)/python tests/asan.py

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy minivae

bench: $(VENV)/.bench
	$(BIN)/python -m pytest bench --benchmark-columns=min,median,iqr,rounds --benchmark-group-by=group

smoke: $(VENV)/.bench
	$(BIN)/python -m pytest bench --benchmark-disable -q

# From the unpacked sdist: its own tests, on its own package.
package: $(VENV)/.package
	rm -rf dist
	VALIDATE_PYPROJECT_NO_NETWORK=1 $(BIN)/python -m validate_pyproject pyproject.toml
	$(BIN)/python -m build --no-isolation --outdir dist .
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/python -m check_wheel_contents dist/*.whl
	rm -rf dist/unpacked && mkdir dist/unpacked && tar xzf dist/*.tar.gz -C dist/unpacked --strip-components=1
	cd dist/unpacked && PYTHONPATH=$$PWD $(CURDIR)/$(BIN)/python -m pytest -q $(SDIST_TESTS)

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "The book is in site/: open site/index.html"

docs-test: docs-blocks docs-pages

docs-blocks: docs | $(AFTER)
	$(BIN)/python -m pytest $(WORKERS) tests/test_book.py -m book

# Status 77: there is no Chromium, and the check has said so.
docs-pages: docs
	$(BIN)/python scripts/check_book.py site || test $$? = 77

figures: $(VENV)/.digits,viz
	$(BIN)/python scripts/book/pictures.py --full
	$(BIN)/minivae train mnist --out demo/mnist --force --binarize dynamic --hidden 500 --latent 20 --activation relu \
	  --batch-size 128 --lr 1e-3 --epochs 10
	$(BIN)/minivae train mnist --out demo/mnist-plane --force --hidden 500,250 --latent 2 --epochs 8
	$(BIN)/minivae picture demo/mnist-plane manifold -o docs/manifold.png --force
	$(BIN)/minivae gradcheck

# An error or a warning in a cell is a failure. WRITE=1 saves the outputs, in a form that gives small diffs.
notebooks: $(VENV)/.notebooks
	PYTHONPATH=$(CURDIR) PYTHONWARNINGS=error::UserWarning,error::RuntimeWarning $(if $(WRITE),,MINIVAE_QUICK=1) \
	  $(BIN)/python -m nbconvert --log-level=WARN --to=notebook --execute $(if $(WRITE),--inplace,--output-dir=build/notebooks) \
	  --CoalesceStreamsPreprocessor.enabled=True --ClearMetadataPreprocessor.enabled=True \
	  --ClearMetadataPreprocessor.preserve_nb_metadata_mask="{'kernelspec', ('language_info', 'name')}" examples/*.ipynb

clean:
	rm -rf $(VENV) demo build dist site docs/figures/out .numba-cache .cuda-cache .portable .mypy_cache .ruff_cache .pytest_cache .benchmarks
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
