#!/usr/bin/env bash
# tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]
# On several machines: NNODES, NODE_RANK, MASTER_ADDR and PORT as torchrun knows them.
set -euo pipefail
config=${1:?usage: tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]}
gpus=${2:?usage: tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]}

"${PYTHON:-python}" "$(dirname "${BASH_SOURCE[0]}")/torchrun.py" \
    --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="${PORT:-29500}" \
    --nproc_per_node="$gpus" \
    "$(dirname "${BASH_SOURCE[0]}")/train.py" "$config" --launcher pytorch "${@:3}"
