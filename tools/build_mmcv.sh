# Builds mmcv with its compiled operators for tools/setup_env.sh, which reads it with `source`: installs $mmcv
# into $venv ($py, pip) from a wheel that is kept in $cache.

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
wheel=$(tr - _ <<<"${mmcv%%=*}")
# Checked on the compiled module itself: a build without ops imports as plain `mmcv`, and one made where no
# GPU was seen imports on a GPU machine, too.
check_ops='import mmcv.ops, sys
built_with = mmcv.ops.get_compiling_cuda_version()
sys.exit("-cu" in sys.argv[1] and built_with == "not available" and "its ops are for the CPU alone")'
has_ops() { "$py" -c "$check_ops" "$abi" >/dev/null 2>&1; }

# The CUDA toolkit with nvcc and all its headers: CUDA_HOME, else what torch guesses from the place of nvcc,
# else (it may be a wrapper that lies elsewhere) what nvcc says of itself.
toolkit() {
    local folder
    for folder in "${CUDA_HOME:-$("$py" -c 'from torch.utils.cpp_extension import CUDA_HOME; print(CUDA_HOME or "")')}" \
        "${CUDA_HOME:-$(nvcc --dryrun -x cu -c /dev/null 2>&1 | sed -n 's/^#\$ TOP=//p')}"; do
        [ ! -x "$folder/bin/nvcc" ] || [ ! -f "$folder/include/crt/host_defines.h" ] ||
            { realpath "$folder"; return; }
    done
    return 1
}

if ! has_ops; then
    if ! ls "$wheels/$wheel"-*.whl >/dev/null 2>&1; then
        cxx=${CXX:-g++}
        command -v "${cxx%% *}" >/dev/null || die "mmcv's ops need a C++ compiler (Debian: apt install g++)"
        case $abi in *-cu*)
            CUDA_HOME=$(toolkit) ||
                die "mmcv's ops for GPUs need the toolkit of CUDA $("$py" -c 'import torch; print(torch.version.cuda)') with bin/nvcc and include/crt: set CUDA_HOME to its folder (CUDA_VISIBLE_DEVICES= builds for the CPU alone)"
            export CUDA_HOME
        esac
        say "building $mmcv with its ops (10 to 18 minutes on 2 cores, longer for GPUs; kept in $wheels)"
        mkdir -p "$wheels"
        build=$(mktemp -d "$wheels/.build-XXXXXX")
        trap 'rm -rf "$build"' EXIT
        site=$("$py" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
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
        mv "$build/$wheel"-*.whl "$wheels/"
    fi
    say "installing $(basename "$wheels/$wheel"-*.whl)"
    # What mmcv needs, and then itself: the same version, but built otherwise, counts as installed.
    pip install -q --no-build-isolation "$wheels/$wheel"-*.whl
    has_ops || pip install -q --no-deps --force-reinstall "$wheels/$wheel"-*.whl
    has_ops || die "mmcv was installed, but its ops cannot be used: $("$py" -c "$check_ops" "$abi" 2>&1 | tail -n 1). Delete $wheels and $venv and run again"
fi
