"""Where NaN or Inf enters a backbone, and which image of the batch brings it there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from mmdet_atc.clustering import NonFiniteError


@torch.no_grad()
def non_finite_error(
    backbone: nn.Module, image: Tensor, names: Sequence[str] | None = None
) -> NonFiniteError | None:
    """Run a backbone again in float32 and watch every module.

    It runs in evaluation mode: batch norms then keep their statistics and do not wait for other
    processes, which do not run again.

    Args:
        backbone (nn.Module): Whose modules are watched.
        image (Tensor): The batch, ``(B, 3, H, W)``.
        names (Sequence[str], optional): What to call the images; their places in the batch
            otherwise.

    Returns:
        NonFiniteError, optional: An error to raise; None if all activations are finite, as when
        only half precision overflowed.
    """
    place, images = 'the input', _images_of(image, len(image))
    if not images:
        place, images = _first_non_finite(backbone, image)
    if not images:
        return None
    broken = [name for name, tensor in _tensors(backbone) if not tensor.isfinite().all()]
    called = [f'{i} of the batch' if names is None else names[i] for i in images]
    reason = (
        f'weights that are not finite: {", ".join(broken[:3])}{" ..." * (len(broken) > 3)}; '
        'the checkpoint is broken'
        if broken
        else 'all weights are finite; too large a learning rate, or not the data of this model?'
    )
    return NonFiniteError(
        f'NaN or Inf first appears in {place}, for image {", ".join(called)} ({reason})'
    )


def _first_non_finite(backbone: nn.Module, image: Tensor) -> tuple[str, list[int]]:
    """Name of the first module with such an output, and the images concerned."""
    found: list[tuple[str, list[int]]] = []

    def watch(name: str) -> Callable:
        def hook(module: nn.Module, args: object, output: object) -> None:
            for tensor in output if isinstance(output, tuple) else (output,):
                if not found and isinstance(tensor, Tensor) and tensor.is_floating_point():
                    images = _images_of(tensor, len(image))
                    if images:
                        found.append((name, images))

        return hook

    handles = [m.register_forward_hook(watch(name)) for name, m in backbone.named_modules() if name]
    training = {module: module.training for module in backbone.modules()}
    backbone.eval()
    try:
        with torch.autocast(image.device.type, enabled=False):
            type(backbone).forward(backbone, image.float())  # not what hooks made of it
    except NonFiniteError:
        # Clustering refuses NaN, after the module that made it was seen.
        pass
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in training.items():
            module.training = mode
    return found[0] if found else ('', [])


def _images_of(tensor: Tensor, batch: int) -> list[int]:
    """Places in the batch with a value that is not finite; windows of an image are neighbours."""
    finite = tensor.isfinite().flatten(1).all(dim=1)
    if len(finite) % batch == 0:
        finite = finite.reshape(batch, -1).all(dim=1)
    return torch.nonzero(~finite).flatten().tolist()


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()
