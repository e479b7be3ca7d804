#!/usr/bin/env bash
# Build the virtual environment: tools/setup_venv.sh FOLDER
# PYTHON=python3.12 picks another interpreter, EXTRAS=cpu,lm what is installed beside the package (all of it).
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1

supported() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

fail() { echo "error: $*" >&2; exit 2; }

if [ -n "${PYTHON:-}" ]; then
    supported "$PYTHON" || fail "PYTHON=$PYTHON is not a working Python 3.10 to 3.13; name one that is"
else
    for candidate in python3 python3.13 python3.12 python3.11 python3.10; do
        if supported "$candidate"; then PYTHON=$candidate; break; fi
    done
    [ -n "${PYTHON:-}" ] || fail "no Python 3.10 to 3.13 found; install python3 and python3-venv, or set PYTHON=/path/to/python"
fi
"$PYTHON" -c 'import ensurepip' 2>/dev/null || fail "$PYTHON cannot build virtual environments; install the package python3-venv"
# fairseq comes as source with a few compiled loops.
command -v c++ >/dev/null || fail "no C++ compiler found, fairseq compiles a few loops; install the package g++"
"$PYTHON" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' ||
    fail "the C headers of $PYTHON are missing, fairseq compiles a few loops; install the package python3-dev"

version=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
echo "setting up $venv with Python $version: about 5 GB, some minutes"
# An environment of another interpreter, half-built or of another installation, would be mixed with this one.
interpreter() { "$1" -c 'import sys; print(sys.version, sys.base_prefix)' 2>/dev/null; }
if [ -e "$venv" ] && [ "$(interpreter "$venv/bin/python")" != "$(interpreter "$PYTHON")" ]; then
    rm -rf "$venv"
fi
"$PYTHON" -m venv "$venv"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check install --progress-bar on -q "$@"; }

pip torch==2.11.0 torchaudio==2.11.0
pip cython==3.3.1 wheel==0.45.1 "setuptools==80.9.0"
if [ "$version" = 3.10 ]; then
    # omegaconf 2.0.6, which fairseq 0.12.2 asks for, has metadata that newer pips refuse.
    pip "pip<24.1"
    pip numpy==2.2.6
    pip fairseq==0.12.2
else
    pip numpy==2.4.6
    # Build against the torch just installed: an isolated build would fetch another one of several GB.
    pip --no-build-isolation fairseq-fixed==0.12.3.1
fi
# Isolated: where editdistance has no wheel (Python 3.13) its build needs a backend of its own.
extras=${EXTRAS-dev,docs,cpu,benchmark,onnx,hdf5,lm,phones,segment,streams,hub}
pip -e ".${extras:+[$extras]}"
touch "$venv/.ready"
echo "ready: $venv"
