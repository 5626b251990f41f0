#!/usr/bin/env bash
# Makes a virtual environment with everything mmdet_atc needs, from nothing.
#   tools/setup_env.sh [VENV_DIR]          (default .venv; `make env` calls it)
# PYTHON chooses the interpreter, MMDET_ATC_CACHE the folder where the built mmcv wheel
# is kept for the next environment (default ~/.cache/mmdet_atc). MMDET_ATC_LOCKED=1 installs the very
# files of requirements/lock.txt, checked by their digests, as CI does; MMDET_ATC_TORCH names another
# file of torch and torchvision than requirements/torch.txt. FORCE_CUDA=1 builds mmcv's ops for GPUs
# where none is seen, as when a container is made; TORCH_CUDA_ARCH_LIST then says for which.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case ${1:-} in
    -h | --help) exec sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p}' tools/setup_env.sh ;;
    -*) printf "[setup] error: unknown option '%s'; tools/setup_env.sh --help\n" "$1" >&2; exit 2 ;;
esac

venv=${1:-.venv}
python=${PYTHON:-python3}
cache=${MMDET_ATC_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mmdet_atc}
torch=${MMDET_ATC_TORCH:-requirements/torch.txt}

say() { printf '\033[1m[setup]\033[0m %s\n' "$*"; }
die() { printf '[setup] error: %s\n' "$*" >&2; exit 1; }

[ -f "$torch" ] || die "MMDET_ATC_TORCH: there is no file '$torch'"
[ "${MMDET_ATC_LOCKED:-}" != 1 ] || [ -z "${MMDET_ATC_TORCH:-}" ] ||
    die "MMDET_ATC_TORCH and MMDET_ATC_LOCKED=1 exclude each other: the lock file names torch"
command -v "$python" >/dev/null || die "no '$python' on PATH; install Python >= 3.10 or set PYTHON"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    die "$("$python" --version) is too old: Python >= 3.10 is needed (set PYTHON)"

[ -x "$venv/bin/python" ] || { say "creating $venv"; "$python" -m venv "$venv"; }
py=$venv/bin/python
pip() { "$py" -m pip --disable-pip-version-check "$@"; }

if [ "${MMDET_ATC_LOCKED:-}" = 1 ]; then
    say "all that is locked, with torch and torchvision (a few GB the first time)"
    pip install -q --require-hashes --no-deps -r requirements/lock.txt
else
    say "build tools, then torch and torchvision as one matching set (a few GB the first time)"
    pip install -q -r requirements/build.txt
    pip install -q -r "$torch"
fi

# Everything that changes the binary is in the folder's name, so a stale wheel is never used.
abi=$("$py" - <<'PY'
import os, sys, sysconfig, torch
ops = 'cpu'
if torch.cuda.is_available() or os.environ.get('FORCE_CUDA') == '1':  # as mmcv asks
    seen = (torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count()))
    seen = sorted({f'{major}.{minor}' for major, minor in seen})
    gpus = os.environ.get('TORCH_CUDA_ARCH_LIST', '').replace(';', ' ').split() or seen or ['all']
    ops = f'cu{torch.version.cuda}-for-{"-".join(gpus)}'
print(f'cp{sys.version_info.major}{sys.version_info.minor}-torch{torch.__version__.split("+")[0]}'
      f'-{ops}-{sysconfig.get_platform()}')
PY
)
wheels=$cache/wheels/$abi
mmcv=$(grep -v '^#' requirements/mmcv.txt)
# Checked on the compiled module itself: a build without ops imports as plain `mmcv`, and one made where no
# GPU was seen imports on a GPU machine, too.
check_ops='import mmcv.ops, sys
built_with = mmcv.ops.get_compiling_cuda_version()
sys.exit("-cu" in sys.argv[1] and built_with == "not available" and "its ops are for the CPU alone")'
has_ops() { "$py" -c "$check_ops" "$abi" >/dev/null 2>&1; }

if ! has_ops; then
    if ! ls "$wheels"/mmcv-*.whl >/dev/null 2>&1; then
        command -v "${CXX:-g++}" >/dev/null || die "mmcv's ops need a C++ compiler (Debian: apt install g++)"
        case $abi in *-cu*)
            cuda_home=$("$py" -c 'from torch.utils.cpp_extension import CUDA_HOME; print(CUDA_HOME or "")')
            [ -x "$cuda_home/bin/nvcc" ] ||
                die "mmcv's ops for GPUs need nvcc of CUDA $("$py" -c 'import torch; print(torch.version.cuda)'), which is neither on PATH nor in CUDA_HOME (CUDA_VISIBLE_DEVICES= builds those for the CPU alone)"
        esac
        say "building $mmcv with its ops (10 to 18 minutes on 2 cores, longer for GPUs; kept in $wheels)"
        mkdir -p "$wheels"
        build=$(mktemp -d "$wheels/.build-XXXXXX")
        trap 'rm -rf "$build"' EXIT
        site=$("$py" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
        cxx=${CXX:-g++}
        # mmcv asks for C++17, the headers of torch from some version on for C++20: the last one counts.
        if grep -q 'C++20 or later' "$site/torch/include/ATen/ATen.h"; then
            printf '#!/bin/sh\nexec %s "$@" -std=c++20\n' "$cxx" >"$build/cxx"
            chmod +x "$build/cxx"
            cxx=$(realpath "$build/cxx")
        fi
        # torch's CUDA headers come from PyPI packages, which nvcc does not search by itself.
        cuda_include=$site/nvidia/cu13/include
        # pip's cache of wheels knows neither torch nor ops: it may hold an mmcv without ops, or one
        # built for another torch.
        PATH="$(realpath "$venv")/bin:$PATH" CXX=$cxx MMCV_WITH_OPS=1 MAX_JOBS=${MAX_JOBS:-$(nproc)} \
            CPATH="${CPATH:+$CPATH:}$cuda_include" \
            "$py" -m pip wheel --no-cache-dir --no-build-isolation --no-deps -w "$build" "$mmcv" >"$wheels/build.log" 2>&1 ||
            die "building $mmcv failed; the log is $wheels/build.log: $(tail -n 1 "$wheels/build.log")"
        mv "$build"/mmcv-*.whl "$wheels/"
    fi
    say "installing $(basename "$wheels"/mmcv-*.whl)"
    pip install -q --no-build-isolation "$wheels"/mmcv-*.whl
    # The same version, but built otherwise, counts as installed.
    has_ops || pip install -q --no-deps --force-reinstall "$wheels"/mmcv-*.whl
    has_ops || die "mmcv was installed, but its ops cannot be used: $("$py" -c "$check_ops" "$abi" 2>&1 | tail -n 1). Delete $wheels and $venv and run again"
fi

say "mmengine, mmdet, timm, pycocotools, tools for tests and documentation"
pip install -q --no-build-isolation -r requirements.txt -r requirements/tests.txt \
    -r requirements/docs.txt -c "$torch" -c requirements/mmcv.txt
if [ -f setup.cfg ]; then
    say "mmdet_atc (editable)"
    pip install -q --no-build-isolation --no-deps -e .
fi
say "done: $("$py" -c 'import torch, mmcv, mmdet, mmengine, timm; print(f"torch {torch.__version__}, mmcv {mmcv.__version__}, mmdet {mmdet.__version__}, mmengine {mmengine.__version__}, timm {timm.__version__}")')"
