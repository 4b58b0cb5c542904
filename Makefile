# Each target sets everything up by itself, on a machine with Python 3.11 and nothing else.
# Further words: make train ARGS="--steps 20000". Another place for the environment: VENV=/some/place.
# Without make (Windows, say): python course.py lab, and so on.

PYTHON ?= $(shell command -v python3.11 || command -v python3 || echo python)
ARGS ?=

.PHONY: help lab train test test-full student site slides bundle figures setup

help:
	@$(PYTHON) course.py --help

lab train test test-full student site slides bundle figures setup:
	@$(PYTHON) course.py $@ $(ARGS)
