#!/usr/bin/env bash
# Table 3 in miniature: tools/table3_in_miniature.sh VIT [WORK_DIR]
# A Mask R-CNN on a trained ViT-S/14 (VIT: a file in DINOv2's layout, or timm://vit_small_patch14_dinov2.lvd142m)
# learns eight of COCO's training images by heart; then every way to merge on the same images, off the shelf.
# Half an hour on one CPU core; started again, it goes on.
set -euo pipefail
[[ ${1:-} != -* ]] || { sed -n "2s/^# //p" "$0" >&2; exit 2; } # no folder begins so
cd "$(dirname "${BASH_SOURCE[0]}")/.."
vit=${1:?usage: tools/table3_in_miniature.sh VIT [WORK_DIR]}
work_dir=${2:-work_dirs/table3_in_miniature}
config=configs/vit_adapter_dinov2_few_images.py
dense=$work_dir/dense/epoch_45.pth
# Threads that wait do not spin (tools/demo.sh).
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}
step() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

step "1/2 train the dense model (the log shows the ETA)"
[ -f "$dense" ] || python tools/train.py "$config" --work-dir "$work_dir/dense" --resume \
    --cfg-options model.backbone.init_cfg.checkpoint="$vit"

step "2/2 merge, as it is"
python tools/reproduce_table3.py --dense-config "$config" --sizes small --dense-small "$dense" \
    --methods average complete single tome dpcknn kmedoids topk --out-dir "$work_dir"
printf '\nAP of the images that it learned, and its drop: %s/{table3,drop}.{md,csv,png}\n' "$work_dir"
