# make demo    set up and segment a short recording with the real node over DDS, with pictures
# make test    set up and run every test
# make bench   set up and print the measured ratios of docs/benchmarks/
# make soak    set up and run the node for 30 minutes under load and faults (SOAK_ARGS="--minutes 5 --source DRIVE")
# make lint    ruff and mypy
#
# VENV=...     use this virtual environment (default .venv); an existing one is reused
# PYTHON=...   the interpreter that makes the environment (default python3)

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
READY := $(VENV)/.clip2uda-$(shell cat setup.py package.xml pyproject.toml | cksum | cut -d' ' -f1)

# With ROS 2 sourced (ROS_DISTRO), its rclpy and messages are used; otherwise real ROS 2 comes from PyPI.
ifdef ROS_DISTRO
VENV_FLAGS := --system-site-packages
EXTRAS := dev
else
VENV_FLAGS :=
EXTRAS := dev,ros-pip
endif

# Threads that wait must not spin: the node, the player and the tests share the cores.
export OMP_WAIT_POLICY ?= passive

.PHONY: setup demo test bench soak lint clean

setup: $(READY)

$(READY):
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV_FLAGS) $(VENV) || \
	  { echo "no virtual environment could be made: install python3-venv (Debian, Ubuntu) or set PYTHON=" >&2; exit 1; }
	@echo "installing the dependencies into $(VENV) (PyTorch is large: a few minutes and 6 GB)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$(EXTRAS)]'
	@touch $@

demo: setup
	$(BIN)/clip2uda demo $(DEMO_ARGS)

# Two workers, each on one core; a node of theirs has its own processes. PYTEST_ARGS="-n 0" does without workers.
test: export OMP_NUM_THREADS ?= 1
test: setup
	$(BIN)/python -m pytest -n 2 --no-loadscope-reorder --durations=15 $(PYTEST_ARGS)

bench: setup
	$(BIN)/python -m clip2uda_core.bench

soak: setup
	$(BIN)/python -m clip2uda_ros.soak $(SOAK_ARGS)

lint: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

clean:
	rm -rf .venv build install log demo_out *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
