#!/usr/bin/env bash
# The main job on generated data: tools/demo.sh [WORK_DIR]   (`make demo` calls it)
set -euo pipefail
[[ ${1:-} != -* ]] || { sed -n "2s/^# //p" "$0" >&2; exit 2; } # no folder begins so
cd "$(dirname "${BASH_SOURCE[0]}")/.."
work_dir=${1:-work_dirs/demo}
data=${SHAPES_ROOT:-data/shapes}
config=configs/atc_vit_adapter_micro_shapes.py
# Threads that wait do not spin: beside other work that made a training step 8 times as long (9.7 s, not 1.2).
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
step() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

step "1/4 generate images"
python tools/misc/make_shapes_dataset.py "$data"

step "2/4 train an ATC Mask R-CNN (a few minutes; the log shows the ETA)"
python tools/train.py "$config" --work-dir "$work_dir"

step "3/4 evaluate on unseen images"
checkpoint=$(cat "$work_dir/last_checkpoint")
python tools/test.py "$config" "$checkpoint" --work-dir "$work_dir/test"

step "4/4 draw detections and token clusters"
images=("$data"/val2017/00000000000{1,2,6}.png)
python demo/image_demo.py "${images[@]}" --config "$config" --checkpoint "$checkpoint" \
    --out-dir "$work_dir/detections" --device cpu --score-thr 0.5
python tools/analysis_tools/visualize_clusters.py "${images[@]}" --config "$config" \
    --checkpoint "$checkpoint" --out-dir "$work_dir/clusters"

python tools/misc/print_ap_table.py "$work_dir/test"
printf '\ndetections:     %s\ntoken clusters: %s\n' \
    "$work_dir/detections/vis/" "$work_dir/clusters/"
