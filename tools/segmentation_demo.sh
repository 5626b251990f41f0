#!/usr/bin/env bash
# Segmentation on generated data, dense and with ATC: tools/segmentation_demo.sh [WORK_DIR]
# It calls MMSegmentation's own tools (pip install --no-deps mmsegmentation ftfy regex prettytable wcwidth).
set -euo pipefail
[[ ${1:-} != -* ]] || { sed -n "2s/^# //p" "$0" >&2; exit 2; } # no folder begins so
cd "$(dirname "${BASH_SOURCE[0]}")/.."
work_dir=${1:-work_dirs/segmentation_demo}
data=${SHAPES_ROOT:-data/shapes}
dense=configs/segmentation/upernet_vit_adapter_micro_shapes.py
atc=configs/segmentation/upernet_atc_vit_adapter_micro_shapes.py
tools=$(python -c 'import importlib.util, sys
found = importlib.util.find_spec("mmseg") or sys.exit("error: MMSegmentation is not installed: docs/segmentation.md")
print(found.submodule_search_locations[0] + "/.mim/tools")')
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
# Threads that wait do not spin (tools/demo.sh).
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
step() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

step "1/5 generate images"
python tools/misc/make_shapes_dataset.py "$data" --semantic

step "2/5 train a dense UPerNet"
python "$tools/train.py" "$dense" --work-dir "$work_dir/dense"
trained=$(cat "$work_dir/dense/last_checkpoint")

step "3/5 its weights with ATC, as they are"
python "$tools/test.py" "$dense" "$trained" --work-dir "$work_dir/dense-test"
python "$tools/test.py" "$atc" "$trained" --work-dir "$work_dir/atc-test"

step "4/5 fine-tune with ATC"
python "$tools/train.py" "$atc" --work-dir "$work_dir/atc" --cfg-options load_from="$trained"

step "5/5 evaluate it"
python "$tools/test.py" "$atc" "$(cat "$work_dir/atc/last_checkpoint")" --work-dir "$work_dir/atc-tuned-test"

python tools/misc/print_ap_table.py dense="$work_dir/dense-test" \
    "ATC r=.5, off the shelf=$work_dir/atc-test" "ATC r=.5, fine-tuned=$work_dir/atc-tuned-test"
