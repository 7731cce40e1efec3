#!/usr/bin/env bash
# Installs what is missing, so that the commands of the Makefile run: GNU Radio and SoapySDR from apt,
# the rest from PyPI into .venv, and builds the virtual radio. In an activated conda environment nothing but the
# project itself and the virtual radio.
# A stamp, written last, makes the next run a matter of milliseconds.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/environment.sh

say() { printf 'setup: %s\n' "$*" >&2; }
die() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}

system_python=/usr/bin/python3
inputs=(pyproject.toml constraints.txt environment.yml scripts/environment.sh scripts/setup.sh scripts/pins.py)
driver_inputs=(sdr/devices/virtual/{CMakeLists.txt,*.cpp,*.hpp,profiles/*.yaml})
driver=build/soapy/liblriscVirtual.so
radio_importable='import importlib.util as u, sys; sys.exit(not (u.find_spec("gnuradio") and u.find_spec("SoapySDR")))'

# All that decides what is installed, the place included: a virtual environment cannot be moved.
fingerprint() {
    { cat "${inputs[@]}" "${driver_inputs[@]}" && printf '%s\n' "$PWD" "$python" "${CI:-}" && "$python" -V; } 2>&1 | sha256sum
}

finished() {
    [ -x "$python" ] && [ -f "$driver" ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(fingerprint)" ] &&
        "$python" -c "$radio_importable" 2>/dev/null
}

finish() {
    fingerprint >"$stamp.tmp"
    mv "$stamp.tmp" "$stamp"
    say "done ($kind: $python)"
}

# pip, with its progress where someone looks at it and only its errors where nobody does.
pip() {
    local quiet=()
    [ -t 2 ] || quiet=(-qq)
    "$python" -m pip --disable-pip-version-check --no-input "$1" "${quiet[@]}" "${@:2}"
}

# ---------------------------------------------------------------- conda
setup_conda() {
    local update="conda env update --name ${CONDA_DEFAULT_ENV:-lrisc} --file environment.yml"
    "$python" -c "$radio_importable" ||
        die "the activated conda environment lacks GNU Radio or SoapySDR; run: $update"
    pip install --no-deps --no-build-isolation -e . ||
        die "could not install the project into $CONDA_PREFIX; run: $update"
    local unmet
    unmet=$("$python" -c 'from calibration.doctor import unmet_requirements as u; print(*u(("dev",)), sep=", ")')
    [ -z "$unmet" ] || die "the activated conda environment lacks $unmet; run: $update"
}

# ---------------------------------------------------------------- apt and .venv
apt_packages() {
    # By what works and not by what dpkg lists: a GNU Radio built from source is as good.
    local can="$system_python -c" library
    [ -e /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
    $can 'import ensurepip, venv' 2>/dev/null || echo python3 python3-venv
    $can 'import gnuradio.gr' 2>/dev/null && command -v grcc >/dev/null || {
        echo gnuradio
        # It asks for a terminal emulator, and would bring a desktop's.
        command -v x-terminal-emulator >/dev/null || echo xterm
    }
    command -v c++ >/dev/null || echo g++
    command -v cmake >/dev/null || echo cmake
    command -v make >/dev/null || echo make
    command -v pkg-config >/dev/null || echo pkg-config
    for library in SoapySDR:libsoapysdr-dev libzmq:libzmq3-dev cppzmq:cppzmq-dev yaml-cpp:libyaml-cpp-dev; do
        pkg-config --exists "${library%%:*}" 2>/dev/null || echo "${library##*:}"
    done
    # Windows of flowgraphs, and a display of software to test them on.
    $can 'from PyQt5 import QtWidgets' 2>/dev/null || echo python3-pyqt5
    command -v xvfb-run >/dev/null && command -v xauth >/dev/null || echo xvfb xauth
    $can 'import SoapySDR' 2>/dev/null || echo python3-soapysdr
    command -v SoapySDRUtil >/dev/null || echo soapysdr-tools
    # Reports are looked at in a browser: 370 MB that only the tests want, and without which CI would fail.
    [ "${CI:-}" != true ] || { command -v chromium || command -v google-chrome; } >/dev/null || echo chromium
}

install_from_apt() {
    local packages as_root=()
    read -ra packages <<<"$(apt_packages | tr '\n' ' ')"
    [ ${#packages[@]} -gt 0 ] || return 0
    local by_hand="apt-get update && apt-get install --no-install-recommends ${packages[*]}"
    command -v apt-get >/dev/null ||
        die "missing: ${packages[*]}" "apt-get is not here (this is neither Debian nor Ubuntu); use conda:" \
            "  conda env create --file environment.yml && conda activate lrisc"
    if [ "$(id -u)" != 0 ]; then
        # sudo may ask for a password only where someone can answer.
        command -v sudo >/dev/null && { [ -t 0 ] || sudo -n true 2>/dev/null; } ||
            die "missing: ${packages[*]}" "neither root nor sudo is available; have an administrator run:" "  $by_hand"
        as_root=(sudo)
    fi
    say "installing with apt: ${packages[*]}"
    # The lock time-out: a machine just started is often busy updating itself.
    local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300)
    { "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "${packages[@]}"; } >&2 ||
        die "apt failed, see above; once it is mended, run again, or by hand:" "  $by_hand"
}

venv_is_whole() {
    # The path: its scripts name the folder it was made in. The mark: pip was killed half-way through a package.
    [ ! -e .venv/unfinished ] &&
        grep -qsx 'include-system-site-packages = true' .venv/pyvenv.cfg && grep -qsF "$PWD/.venv" .venv/bin/activate &&
        "$python" -c 'import pip' 2>/dev/null
}

setup_venv() {
    install_from_apt
    "$system_python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "$system_python is $("$system_python" -V), but 3.11 or newer is needed (Debian 12, Ubuntu 24.04 or newer);" \
            "or use conda: conda env create --file environment.yml && conda activate lrisc"
    if ! venv_is_whole; then
        say "making .venv"
        "$system_python" -m venv --clear --system-site-packages .venv
    fi
    say "installing Python packages into .venv (the first time takes minutes)"
    "$system_python" scripts/pins.py constraints.txt >.venv/constraints.txt
    local onnxruntime=cpu
    ! "$python" -c 'import importlib.metadata as m; m.version("onnxruntime-gpu")' 2>/dev/null || onnxruntime=gpu
    # First what builds the project's own metadata: the distribution's is too old for that.
    local failed=0
    trap 'exit 130' INT TERM
    touch .venv/unfinished
    { pip install -c .venv/constraints.txt setuptools packaging &&
        pip install -c .venv/constraints.txt --no-build-isolation -e ".[$onnxruntime,dev]"; } || failed=1
    rm .venv/unfinished # an error, unlike a kill, leaves every package whole
    [ $failed = 0 ] || die "pip failed, see above; it needs a package index: run again when there is one"
    "$python" -c 'import gnuradio.gr, SoapySDR, torch' ||
        die "GNU Radio, SoapySDR and torch do not import together, see above; to start afresh: make clean setup"
}

# ---------------------------------------------------------------- the virtual radio
build_driver() {
    local log=build/virtual.log options=(-DCMAKE_LIBRARY_OUTPUT_DIRECTORY="$PWD/${driver%/*}")
    [ "${CI:-}" != true ] || options+=(-DSTRICT=ON)
    [ "$kind" != conda ] || options+=(-DCMAKE_PREFIX_PATH="$CONDA_PREFIX")
    mkdir -p build
    say "building the virtual radio, a SoapySDR driver, into ${driver%/*}"
    { cmake -S sdr/devices/virtual -B build/virtual "${options[@]}" && cmake --build build/virtual --parallel; } >$log 2>&1 ||
        { tail -n 20 $log >&2; die "the virtual radio does not build, see above and $log; to start afresh: make clean setup"; }
}

if [ "$kind" = conda ]; then
    stamp=$CONDA_PREFIX/lrisc-setup.stamp
else
    stamp=.venv/lrisc-setup.stamp
fi
finished && exit 0
"setup_$kind"
build_driver
finish
