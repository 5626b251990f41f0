#!/usr/bin/env bash
# Makes a virtual environment with everything mmdet_atc needs, from nothing, in about two minutes beside
# the download (a few GB the first time).
#   tools/setup_env.sh [VENV_DIR]          (default .venv; `make env` calls it)
# PYTHON        the interpreter (default python3)
# MMCV          lite (default): mmcv-lite, a pure wheel, with operators on torchvision's.
#               full: mmcv, whose operators are compiled here (10 to 18 minutes on 2 cores, longer for GPUs).
#               onedl: the maintained forks onedl-mmcv, -mmengine and -mmdetection, compiled likewise.
# MMDET_ATC_LOCKED=1   the very files of requirements/lock.txt, checked by their digests, as CI does
# MMDET_ATC_TORCH      another file of torch and torchvision than requirements/torch.txt
# Of the compiled ones: MMDET_ATC_CACHE is where the built wheel is kept for the next environment (default
# ~/.cache/mmdet_atc). FORCE_CUDA=1 builds for GPUs where none is seen, as when a container is made;
# TORCH_CUDA_ARCH_LIST then says for which.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case ${1:-} in
    -h | --help) exec sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p}' tools/setup_env.sh ;;
    -*) printf "[setup] error: unknown option '%s'; tools/setup_env.sh --help\n" "$1" >&2; exit 2 ;;
esac

venv=${1:-.venv}
python=${PYTHON:-python3}
kind=${MMCV:-lite}
cache=${MMDET_ATC_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mmdet_atc}
torch=${MMDET_ATC_TORCH:-requirements/torch.txt}
lite=(-r requirements/mmcv-lite.txt)
locked=${MMDET_ATC_LOCKED:-}

say() { printf '\033[1m[setup]\033[0m %s\n' "$*"; }
die() { printf '[setup] error: %s\n' "$*" >&2; exit 1; }

[ -f "requirements/mmcv-$kind.txt" ] || die "MMCV is lite, full or onedl, not '$kind'"
[ -f "$torch" ] || die "MMDET_ATC_TORCH: there is no file '$torch'"
[ "$locked" != 1 ] || [ -z "${MMDET_ATC_TORCH:-}" ] ||
    die "MMDET_ATC_TORCH and MMDET_ATC_LOCKED=1 exclude each other: the lock file names torch"
[ "$locked" != 1 ] || [ "$kind" != onedl ] || die "MMCV=onedl has no lock file: leave MMDET_ATC_LOCKED away"
command -v "$python" >/dev/null || die "no '$python' on PATH; install Python >= 3.10 or set PYTHON"
version=$("$python" --version 2>&1) || die "'$python' does not run: ${version%%$'\n'*}; install Python >= 3.10 or set PYTHON"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    die "$version is too old: Python >= 3.10 is needed (set PYTHON)"

[ -x "$venv/bin/python" ] || { say "creating $venv"; "$python" -m venv "$venv"; }
py=$venv/bin/python
pip() { "$py" -m pip --disable-pip-version-check "$@"; }

# One distribution owns the folder `mmcv`: two would lie over one another.
mmcv=$(grep -E '^[a-z-]*mmcv' "requirements/mmcv-$kind.txt")
owner=$("$py" -c '
from importlib.metadata import distributions
print(*{d.name for d in distributions()} & {"mmcv", "mmcv-lite", "onedl-mmcv"})')
case $owner,$kind in
    ,* | "${mmcv%%=*},$kind") ;;
    *,lite) say "$owner is in $venv already, compiled: it stays"; lite=() ;;
    mmcv-lite,full) pip uninstall -qy mmcv-lite ;;
    *) die "$venv has $owner already: name another folder for MMCV=$kind" ;;
esac

rest=(-r requirements/onnx.txt -r requirements/diffusers.txt -r requirements/tests.txt -r requirements/docs.txt -c "$torch")
if [ "$kind" = onedl ]; then # in place of mmengine and mmdet
    rest+=($(grep -hE '^[a-z]' requirements/{runtime,segmentation}.txt | grep -v '^mm' | tr -d ' '))
else
    rest+=(-r requirements/runtime.txt -r requirements/segmentation.txt)
fi

if [ "$locked" = 1 ]; then
    say "all that is locked, with torch and torchvision (a few GB the first time)"
    lock=(-r requirements/lock.txt)
    [ "$kind" != lite ] || lock+=("${lite[@]/mmcv/lock-mmcv}")
    pip install -q --require-hashes --no-deps "${lock[@]}"
elif [ "$kind" = lite ]; then
    say "torch and torchvision as one matching set, mmcv-lite, mmengine, mmdet, tools for tests and documentation"
    pip install -q -r requirements/build.txt "${lite[@]}" -r "$torch" "${rest[@]}"
else
    say "build tools, then torch and torchvision as one matching set (a few GB the first time)"
    pip install -q -r requirements/build.txt
    pip install -q -r "$torch"
fi

[ "$kind" = lite ] || source tools/build_mmcv.sh

if [ "$kind" != lite ]; then
    say "mmengine, mmdet, timm, pycocotools, tools for tests and documentation"
    pip install -q --no-build-isolation -r "requirements/mmcv-$kind.txt" "${rest[@]}"
fi
say "mmdet_atc (editable)"
pip install -q --no-build-isolation --no-deps -e .
"$py" -c 'import cv2' || die "OpenCV does not load (Debian, for libGL: apt install libgl1 libglib2.0-0)"
say "done: $("$py" -W ignore - <<'PY'
import mmdet_atc.mmcv_ext, mmcv, mmdet, mmengine, timm, torch
kind = "torchvision's operators" if mmdet_atc.mmcv_ext.is_supplied() else 'its own operators'
print(f'torch {torch.__version__}, mmcv {mmcv.__version__} with {kind}, mmdet {mmdet.__version__}, '
      f'mmengine {mmengine.__version__}, timm {timm.__version__}')
PY
)"
