"""The whole merging backbone once more, slow and plain, as the papers write it.

ViT-Adapter (Chen et al., ICLR 2023), deformable attention (Zhu et al., ICLR 2021), ATC (Haurum et
al., ECCV 2024), ToMe's proportional attention (Bolya et al., ICLR 2023). It shares no code with
the package: it reads a checkpoint's tensors by name, one image at a time, in float64.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

GROUPS = ((0, 2), (3, 5), (6, 8), (9, 11))
MERGE_BLOCKS = (3, 6, 9)


class Twin:
    """A backbone of 12 blocks on a state dict with the released keys.

    Args:
        state (dict): Tensors by name, without ``backbone.``.
        heads (int): Heads of the ViT.
        deform_heads (int): Heads of the deformable attention.
        linkage (str, optional): How clusters are merged; None merges no tokens. Default: None.
        keep_rate (float): Share of the tokens that stays at a merge. Default: 1.
        each (bool): Whether each map gets the feature of its interaction, as in ViT-Adapter's
            segmentation, rather than the last. Default: False.
    """

    def __init__(self, state, heads, deform_heads, linkage=None, keep_rate=1.0, each=False):
        self.state = {name: value.double() for name, value in state.items()}
        self.heads, self.deform_heads = heads, deform_heads
        self.linkage, self.keep_rate, self.each = linkage, keep_rate, each

    def __call__(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Image ``(3, H, W)`` to four maps ``(C, h, w)`` and the patches' labels per merge."""
        image = image.double()[None]
        stem, *maps = self.spatial_prior(image)
        shapes = [tuple(c.shape[-2:]) for c in maps]
        levels = [rows(c) + embed for c, embed in zip(maps, self.state['level_embed'])]
        pyramid = torch.cat(levels)
        x = rows(self.conv('patch_embed.proj', image, stride=16))
        grid = image.shape[-2] // 16, image.shape[-1] // 16
        x = x + self.position_embedding(grid)
        partition = torch.arange(len(x))  # cluster of each patch
        partitions = []
        found = []
        for i, (first, last) in enumerate(GROUPS):
            x = self.injector(f'interactions.{i}.injector', x, pyramid, grid, shapes)
            tokens, sizes = means(x, torch.ones(len(x)), partition)
            for block in range(first, last + 1):
                tokens, sizes, labels = self.block(block, tokens, sizes)
                if labels is not None:
                    partition = labels[partition]
                    partitions.append(partition)
            x = tokens[partition]  # each patch takes its cluster's token
            found.append(as_map(x, grid))
            names = ['extractor']
            if i == len(GROUPS) - 1:
                names += ['extra_extractors.0', 'extra_extractors.1']
            for name in names:
                name = f'interactions.{i}.{name}'
                pyramid = self.extractor(name, pyramid, x, shapes, grid)
        c2, c3, c4 = (
            as_map(level, shape)
            for level, shape in zip(pyramid.split([h * w for h, w in shapes]), shapes)
        )
        c1 = self.conv('spm.fc1', stem) + F.conv_transpose2d(
            c2, self.state['up.weight'], self.state['up.bias'], stride=2
        )
        outputs = []
        for level, (c, scale) in enumerate(zip((c1, c2, c3, c4), (4, 2, 1, 0.5)), start=1):
            feature = found[level - 1 if self.each else -1]
            feature = F.interpolate(feature, scale_factor=scale, mode='bilinear')
            outputs.append(self.batch_norm(f'norm{level}', c + feature)[0])
        return outputs, partitions

    def spatial_prior(self, image: Tensor) -> list[Tensor]:
        def stage(x, name, first, stride):
            x = self.conv(f'spm.{name}.{first}', x, stride=stride, padding=1)
            return self.batch_norm(f'spm.{name}.{first + 1}', x).relu()

        x = stage(stage(stage(image, 'stem', 0, 2), 'stem', 3, 1), 'stem', 6, 1)
        stem = F.max_pool2d(x, 3, stride=2, padding=1)
        c2 = stage(stem, 'conv2', 0, 2)
        c3 = stage(c2, 'conv3', 0, 2)
        c4 = stage(c3, 'conv4', 0, 2)
        levels = zip(('fc2', 'fc3', 'fc4'), (c2, c3, c4))
        return [stem, *(self.conv(f'spm.{name}', c) for name, c in levels)]

    def position_embedding(self, grid: tuple[int, int]) -> Tensor:
        embed = self.state['pos_embed'][0, 1:]
        side = int(len(embed) ** 0.5)
        return rows(F.interpolate(as_map(embed, (side, side)), size=grid, mode='bicubic'))

    def block(self, index: int, x: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Attention proportional to sizes; the merge; the MLP."""
        name = f'blocks.{index}'
        qkv = self.linear(f'{name}.attn.qkv', self.layer_norm(f'{name}.norm1', x))
        q, k, v = qkv.unflatten(1, (3, self.heads, -1)).permute(1, 2, 0, 3)
        attention = (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5 + sizes.log()).softmax(-1)
        out = (attention @ v).transpose(0, 1).flatten(1)
        x = x + self.linear(f'{name}.attn.proj', out)
        labels = None
        if self.linkage and index in MERGE_BLOCKS:
            labels = agglomerate(k.mean(0), max(1, int(self.keep_rate * len(x))), self.linkage)
            x, sizes = means(x, sizes, labels)
        hidden = F.gelu(self.linear(f'{name}.mlp.fc1', self.layer_norm(f'{name}.norm2', x)))
        return x + self.linear(f'{name}.mlp.fc2', hidden), sizes, labels

    def injector(self, name, x, pyramid, grid, shapes) -> Tensor:
        query = self.layer_norm(f'{name}.query_norm', x)
        feature = self.layer_norm(f'{name}.feat_norm', pyramid)
        out = self.deformable_attention(f'{name}.attn', query, [grid], feature, shapes)
        return x + self.state[f'{name}.gamma'] * out

    def extractor(self, name, pyramid, x, shapes, grid) -> Tensor:
        query = self.layer_norm(f'{name}.query_norm', pyramid)
        feature = self.layer_norm(f'{name}.feat_norm', x)
        pyramid = pyramid + self.deformable_attention(
            f'{name}.attn', query, shapes, feature, [grid]
        )
        hidden = self.linear(f'{name}.ffn.fc1', self.layer_norm(f'{name}.ffn_norm', pyramid))
        hidden = torch.cat(
            [
                rows(self.conv(f'{name}.ffn.dwconv.dwconv', as_map(part, shape), padding=1))
                for part, shape in zip(hidden.split([h * w for h, w in shapes]), shapes)
            ]
        )
        return pyramid + self.linear(f'{name}.ffn.fc2', F.gelu(hidden))

    def deformable_attention(self, name, query, query_shapes, feature, shapes) -> Tensor:
        """Each query, head and level: a weighted sum of bilinear samples around its place."""
        heads, levels = self.deform_heads, len(shapes)
        value = self.linear(f'{name}.value_proj', feature).unflatten(1, (heads, -1))
        offsets = self.linear(f'{name}.sampling_offsets', query)
        offsets = offsets.unflatten(1, (heads, levels, -1, 2))
        weights = self.linear(f'{name}.attention_weights', query).unflatten(1, (heads, -1))
        weights = weights.softmax(-1).unflatten(2, (levels, -1))
        places = torch.cat([centres(h, w) for h, w in query_shapes])[:, None, None]
        out = torch.zeros(len(query), *value.shape[1:], dtype=value.dtype)
        for level, (part, (h, w)) in enumerate(
            zip(value.split([h * w for h, w in shapes]), shapes)
        ):
            points = places + offsets[:, :, level] / torch.tensor([w, h])
            for head in range(heads):
                samples = F.grid_sample(
                    as_map(part[:, head], (h, w)), 2 * points[None, :, head] - 1,
                    mode='bilinear', padding_mode='zeros', align_corners=False,
                )  # fmt: skip
                out[:, head] += (samples[0] * weights[:, head, level]).sum(-1).t()
        return self.linear(f'{name}.output_proj', out.flatten(1))

    def linear(self, name, x) -> Tensor:
        return x @ self.state[f'{name}.weight'].t() + self.state[f'{name}.bias']

    def conv(self, name, x, **kwargs) -> Tensor:
        weight, bias = self.state[f'{name}.weight'], self.state.get(f'{name}.bias')
        return F.conv2d(x, weight, bias, groups=x.shape[1] // weight.shape[1], **kwargs)

    def layer_norm(self, name, x) -> Tensor:
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-6).sqrt()
        return x * self.state[f'{name}.weight'] + self.state[f'{name}.bias']

    def batch_norm(self, name, x) -> Tensor:
        mean, var, weight, bias = (
            self.state[f'{name}.{key}'][:, None, None]
            for key in ('running_mean', 'running_var', 'weight', 'bias')
        )
        return (x - mean) / (var + 1e-5).sqrt() * weight + bias


def rows(grid: Tensor) -> Tensor:
    return grid[0].flatten(1).t()


def as_map(x: Tensor, shape: tuple[int, int]) -> Tensor:
    return x.t().reshape(1, -1, *shape)


def centres(height: int, width: int) -> Tensor:
    y, x = torch.arange(height) + 0.5, torch.arange(width) + 0.5
    return torch.cartesian_prod(y / height, x / width).flip(1).double()


def means(x: Tensor, sizes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Size-weighted mean of each cluster (ATC, eq. 1), and the clusters' sizes."""
    members = F.one_hot(labels).t().double() * sizes
    totals = members.sum(1)
    return members @ x / totals[:, None], totals


def agglomerate(keys: Tensor, count: int, linkage: str) -> Tensor:
    """Merge the two nearest clusters until ``count`` are left; cosine distance."""
    units = F.normalize(keys, dim=-1)
    distances = 1 - units @ units.t()
    between = dict(single=Tensor.min, complete=Tensor.max, average=Tensor.mean)[linkage]
    clusters = [[token] for token in range(len(keys))]
    apart = distances.clone().fill_diagonal_(torch.inf)  # of clusters; merged ones are infinite
    alive = len(clusters)
    while alive > count:
        a, b = sorted(divmod(int(apart.argmin()), len(apart)))
        clusters[a] += clusters[b]
        clusters[b] = []
        apart[b], apart[:, b] = torch.inf, torch.inf
        for other, members in enumerate(clusters):
            if members and other != a:
                apart[a, other] = apart[other, a] = between(distances[clusters[a]][:, members])
        alive -= 1
    labels = torch.empty(len(keys), dtype=torch.int64)
    for label, members in enumerate(filter(None, clusters)):
        labels[members] = label
    return labels
