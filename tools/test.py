#!/usr/bin/env python
"""Evaluate a detector: ``tools/test.py CONFIG CHECKPOINT``."""

from mmdet_atc.engine import RunParser, build, faults_in_one_line, prepare_test


def main() -> None:
    parser = RunParser('Evaluate a detector', example='test_dataloader.batch_size=8')
    parser.add_argument('checkpoint', help='file, URL or hf://ORG/REPO/FILE[@REVISION]')
    parser.add_argument('--out', help='write all predictions to this .pkl file')
    parser.add_argument(
        '--tta',
        action='store_true',
        help='run each image and its mirror image too; detectors of boxes only',
    )
    parser.add_argument('--show', action='store_true', help='show detections in a window')
    parser.add_argument('--show-dir', help='write pictures of detections below the work dir')
    parser.add_argument('--wait-time', type=float, default=2, help='seconds per shown picture')
    args = parser.parse_args()
    if args.out and not args.out.endswith(('.pkl', '.pickle')):
        parser.error(f'--out must end in .pkl or .pickle, got {args.out!r}')
    with faults_in_one_line():
        with faults_in_one_line(mistakes=True):
            runner = build(prepare_test(args), args.out)
        runner.test()


if __name__ == '__main__':
    main()
