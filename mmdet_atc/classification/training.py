"""The paper's fine-tuning of classifiers, with timm's parts.

AdamW, cosine schedule per step with warm-up, stochastic depth, mixup and cutmix or, for several
labels, the asymmetric loss; an average of the weights; mixed precision; several processes under
``torchrun``; a state after every epoch from which training goes on.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from mmengine.dist import get_dist_info
from timm.data import Mixup
from timm.data.distributed_sampler import RepeatAugSampler
from timm.loss import AsymmetricLossMultiLabel, SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV2, random_seed
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset, DistributedSampler, RandomSampler

from mmdet_atc.checkpoints import CheckpointError, check_fit, load_safely, replaced
from mmdet_atc.clustering import NonFiniteError

from .evaluation import Evaluation, evaluate


@dataclass(frozen=True)
class Recipe:
    """How a classifier is trained; the defaults are the paper's for DeiT.

    Args:
        epochs (int): How often each image is seen. Default: 30.
        warmup_epochs (int): Of these, how many the learning rate rises in. Default: 20.
        lr (float): Peak learning rate for a total batch of 1,024. Default: 1e-3.
        warmup_lr (float): Learning rate at the start. Default: 1e-6.
        min_lr (float): Learning rate at the end. Default: 1e-5.
        weight_decay (float): Not of norms, biases and position embeddings. Default: 0.05.
        batch_size (int): Images of a process and step. Default: 256.
        accumulate (int): Batches that make a step of the optimizer. Default: 2.
        mixup (float): Its alpha; 0 is none. Default: 0.8.
        cutmix (float): Likewise. Default: 1.0.
        smoothing (float): Of the labels. Default: 0.1.
        ema (float): Decay of the averaged weights; 0 is none. Default: 0.99996.
        amp (bool): Mixed precision, float16 on a GPU and bfloat16 on a CPU. Default: True.
        seed (int): Default: 0.
    """

    epochs: int = 30
    warmup_epochs: int = 20
    lr: float = 1e-3
    warmup_lr: float = 1e-6
    min_lr: float = 1e-5
    weight_decay: float = 0.05
    batch_size: int = 256
    accumulate: int = 2
    mixup: float = 0.8
    cutmix: float = 1.0
    smoothing: float = 0.1
    ema: float = 0.99996
    amp: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ('epochs', 'batch_size', 'accumulate'):
            if getattr(self, name) < 1:
                raise ValueError(f'{name} must be at least 1, got {getattr(self, name)}')


class Trainer:
    """Trains a classifier on a data set.

    Args:
        model (nn.Module): On its device, patched or not.
        train_data (Dataset): Images as tensors and labels.
        val_data (Dataset): Likewise.
        num_classes (int): Number of classes.
        recipe (Recipe): How.
        multi_label (bool): Whether an image has any number of classes. Default: False.
        workers (int): Processes that load images. Default: 4.
        say (Callable[[str], None]): Called with a line per epoch. Default: nothing.
    """

    def __init__(
        self,
        model: nn.Module,
        train_data: Dataset,
        val_data: Dataset,
        num_classes: int,
        recipe: Recipe,
        multi_label: bool = False,
        workers: int = 4,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        classes = [set(getattr(data, 'classes', ())) for data in (train_data, val_data)]
        if classes[0] != classes[1]:
            raise ValueError(
                'training and validation have different classes; only one of them has '
                f'{sorted(classes[0] ^ classes[1])[:5]}'
            )
        self.model = model
        self.device = next(model.parameters()).device
        self.recipe = recipe
        self.multi_label = multi_label
        self.rank, world_size = get_dist_info()
        self.say = say
        self.wrapped = model
        self.sampler: DistributedSampler | RepeatAugSampler | RandomSampler
        if world_size > 1:
            ids = [self.device.index] if self.device.type == 'cuda' else None
            self.wrapped = DistributedDataParallel(model, device_ids=ids)
            # Each image three times in a row, as DeiT; an epoch is one third of these.
            self.sampler = (
                DistributedSampler(train_data)
                if multi_label
                else RepeatAugSampler(train_data, num_repeats=3)
            )
        else:
            self.generator = torch.Generator()
            self.sampler = RandomSampler(cast(Sized, train_data), generator=self.generator)
        usual: dict[str, Any] = dict(num_workers=workers, pin_memory=self.device.type == 'cuda')
        self.train_loader = DataLoader(
            train_data, recipe.batch_size, sampler=self.sampler, drop_last=True, **usual
        )
        self.val_loader = DataLoader(val_data, recipe.batch_size, **usual)
        self.steps = len(self.train_loader) // recipe.accumulate
        if self.steps == 0:
            raise ValueError(
                f'batch_size {recipe.batch_size} x accumulate {recipe.accumulate} must be at most '
                f'the number of images of a process, {len(self.sampler)}'
            )
        total = recipe.batch_size * recipe.accumulate * world_size
        lr = recipe.lr * total / 1024
        self.optimizer = create_optimizer_v2(
            model, 'adamw', lr=lr, weight_decay=recipe.weight_decay, eps=1e-8
        )
        self.schedule = CosineLRScheduler(
            self.optimizer,
            t_initial=recipe.epochs * self.steps,
            lr_min=recipe.min_lr,
            warmup_t=recipe.warmup_epochs * self.steps,
            warmup_lr_init=recipe.warmup_lr,
            t_in_epochs=False,
        )
        scaled = recipe.amp and self.device.type == 'cuda'
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=scaled)
        self.ema = ModelEmaV2(model, decay=recipe.ema) if recipe.ema else None
        self.mix: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None
        self.loss: nn.Module
        if multi_label:
            self.loss = AsymmetricLossMultiLabel(gamma_neg=4, gamma_pos=0, clip=0.05)
        elif recipe.mixup or recipe.cutmix:
            if recipe.batch_size % 2:
                raise ValueError(
                    f'batch_size must be even with mixup or cutmix, got {recipe.batch_size}'
                )
            self.mix = Mixup(
                recipe.mixup,
                recipe.cutmix,
                label_smoothing=recipe.smoothing,
                num_classes=num_classes,
            )
            self.loss = SoftTargetCrossEntropy()
        else:
            self.loss = nn.CrossEntropyLoss(label_smoothing=recipe.smoothing)
        self.epoch = 0
        self.best = -math.inf
        self.ema_best = False

    def run(self, out_dir: Path, args: argparse.Namespace) -> Iterator[Evaluation]:
        """Train the epochs that are left; writes ``last.pth`` and ``best.pth`` to ``out_dir``.

        Args:
            out_dir (Path): Exists.
            args (argparse.Namespace): Kept in the files, as the authors' have theirs.

        Yields:
            Evaluation: One per epoch, of the better of the weights and their average.
        """
        while self.epoch < self.recipe.epochs:
            loss = self._train_epoch()
            found, self.ema_best = self.evaluate(self.model), False
            if self.ema is not None:
                averaged = self.evaluate(self.ema.module)
                if averaged.value > found.value:
                    found, self.ema_best = averaged, True
            self.epoch += 1
            is_best = found.value > self.best
            self.best = max(self.best, found.value)
            if self.rank == 0:
                # last.pth comes last: killed before it, the epoch is trained again.
                if is_best:
                    self._save(out_dir / 'best.pth', args)
                self._save(out_dir / 'last.pth', args)
            self.say(
                f'epoch {self.epoch}/{self.recipe.epochs}  loss {loss:.4f}  '
                f'{found.metric} {found.value:.2f}'
            )
            yield found

    def resume(self, path: Path) -> None:
        """Go on from a file of :meth:`run`.

        Raises:
            CheckpointError: If it is no such file, or of another model.
        """
        state = load_safely(str(path), 'cpu')
        needed = {'model', 'optimizer', 'scaler', 'epoch', 'best'}
        if self.ema is not None:
            needed.add('model_ema')
        if missing := needed - set(state):
            raise CheckpointError(
                f'{path} holds no training with these options: it lacks {sorted(missing)}'
            )
        check_fit(state['model'], self.model.state_dict(), str(path))
        self.model.load_state_dict(state['model'])
        if self.ema is not None:
            self.ema.module.load_state_dict(state['model_ema'])
        self.optimizer.load_state_dict(state['optimizer'])
        self.scaler.load_state_dict(state['scaler'])
        self.epoch, self.best = state['epoch'], state['best']

    def _train_epoch(self) -> float:
        recipe = self.recipe
        # An epoch's order and augmentation do not depend on whether training was interrupted.
        random_seed(recipe.seed + 1000 * self.epoch, self.rank)  # Mixup draws by NumPy
        if hasattr(self.sampler, 'set_epoch'):
            self.sampler.set_epoch(self.epoch)
        else:
            self.generator.manual_seed(recipe.seed + self.epoch)
        self.wrapped.train()
        total, step = 0.0, self.epoch * self.steps
        for index, (images, targets) in enumerate(self.train_loader):
            if index == self.steps * recipe.accumulate:
                break
            images, targets = images.to(self.device), targets.to(self.device)
            if self.mix is not None:
                images, targets = self.mix(images, targets)
            with torch.autocast(self.device.type, enabled=recipe.amp):
                logits = self.wrapped(images)
            loss = self.loss(logits.float(), targets)
            if not loss.isfinite():
                raise NonFiniteError(f'the loss is {loss.item()} in epoch {self.epoch + 1}')
            total += loss.item()
            self.scaler.scale(loss / recipe.accumulate).backward()
            if (index + 1) % recipe.accumulate:
                continue
            self.schedule.step_update(step)
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad()
            step += 1
            if self.ema is not None:
                self.ema.update(self.model)
        return total / (self.steps * recipe.accumulate)

    def evaluate(self, model: nn.Module | None = None) -> Evaluation:
        """Accuracy of ``model``, by default the one that is trained, on the validation data."""
        model = self.model if model is None else model
        return evaluate(model, self.val_loader, self.device, self.multi_label, self.recipe.amp)

    def _save(self, path: Path, args: argparse.Namespace) -> None:
        state: dict[str, Any] = dict(
            model=self.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            scaler=self.scaler.state_dict(),
            epoch=self.epoch,
            best=self.best,
            ema_best=self.ema_best,
            args=argparse.Namespace(
                **{k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()}
            ),
        )
        if self.ema is not None:
            state['model_ema'] = self.ema.module.state_dict()
        with replaced(path) as file:
            torch.save(state, file)
