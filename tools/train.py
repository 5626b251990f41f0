#!/usr/bin/env python
"""Train a detector: ``tools/train.py configs/atc_vit_adapter_s_average_r50.py``."""

from mmdet_atc.engine import RunParser, build, faults_in_one_line, prepare_training


def main() -> None:
    parser = RunParser('Train a detector', example='train_dataloader.batch_size=1')
    parser.add_argument('--amp', action='store_true', help='train in mixed precision')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate with the batch size instead of accumulating gradients',
    )
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='resume from this checkpoint; without a value, from the last one of the work dir',
    )
    args = parser.parse_args()
    with faults_in_one_line():
        with faults_in_one_line(mistakes=True):
            runner = build(prepare_training(args))
        runner.train()


if __name__ == '__main__':
    main()
