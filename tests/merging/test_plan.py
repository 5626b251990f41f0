"""Plans against the numbers that the authors' code uses, and against ToMe's limits."""

from __future__ import annotations

import pytest

from mmdet_atc.merging import (
    AgglomerativeMerging,
    BipartiteMerging,
    constant_plan,
    keep_rate_plan,
    linear_plan,
)

TOME = BipartiteMerging(class_token=True)
ATC = AgglomerativeMerging()


def left(plan, depth=12, patches=196, merger=ATC) -> list[int]:
    return [count for count in plan(depth, patches, merger) if count is not None]


@pytest.mark.parametrize(
    ('rate', 'initial', 'current'),
    [
        (0.25, [49, 12, 3], [49, 12, 3]),
        (0.5, [98, 49, 24], [98, 49, 24]),
        (0.7, [137, 96, 67], [137, 95, 66]),
        (0.9, [176, 158, 142], [176, 158, 142]),
    ],
)
def test_keep_rates_of_initial_and_of_current_tokens(rate, initial, current):
    assert left(keep_rate_plan(rate, of='initial')) == initial
    assert left(keep_rate_plan(rate)) == current


def test_only_the_plans_blocks_merge():
    assert keep_rate_plan(0.5, (1, 3))(5, 16) == (None, 8, None, 4, None)
    assert keep_rate_plan((0.5, 1), (1, 3))(5, 16) == (None, 8, None, 8, None)
    assert keep_rate_plan((0.5, 0.25), (0, 1), of='initial')(2, 16) == (8, 4)


@pytest.mark.parametrize(('rate', 'counts'), [(0.5, [98, 49, 25]), (0.25, [98, 61, 52])])
def test_tome_removes_the_intended_number_but_at_most_half(rate, counts):
    assert left(keep_rate_plan(rate, of='initial'), merger=TOME) == counts


def test_a_block_without_a_cluster_of_its_own_does_not_merge():
    assert keep_rate_plan(0.25, of='initial')(12, 16)[9] is None
    assert keep_rate_plan(0.25)(12, 16)[9] == 1


def test_linear_schedule_is_the_authors():
    plan = linear_plan(16)
    assert plan.removed(12) == (32, 29, 26, 23, 20, 17, 14, 11, 8, 5, 2, 0)
    assert sum(linear_plan(8).removed(24)) == 181
    assert sum(linear_plan(7).removed(32)) == 209
    assert linear_plan(8).removed(12) == (16, 14, 13, 11, 10, 8, 7, 5, 4, 2, 1, 0)


@pytest.mark.parametrize(
    ('plan', 't', 'depth', 'patches', 'tome', 'released'),
    [
        (constant_plan, 16, 12, 196, 10, 16),
        (linear_plan, 16, 12, 196, 9, 20),
        (constant_plan, 8, 24, 196, 6, 28),
        (linear_plan, 8, 24, 196, 15, 37),
        (constant_plan, 7, 32, 256, 32, 64),
        (linear_plan, 7, 32, 256, 47, 76),
    ],
)
def test_patches_left_at_the_end(plan, t, depth, patches, tome, released):
    assert left(plan(t), depth, patches, TOME)[-1] == tome
    assert left(plan(t, count='released'), depth, patches, TOME)[-1] == tome
    assert left(plan(t, count='released'), depth, patches)[-1] == released


def test_exact_schedules_remove_what_they_say_down_to_one_token():
    assert constant_plan(5)(4, 18) == (13, 8, 3, 1)
    assert constant_plan(5)(4, 18, TOME) == (13, 8, 4, 2)
    assert constant_plan(0)(4, 18) == (None,) * 4
    assert linear_plan(3)(1, 18) == (15,)


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: keep_rate_plan(0), 'keep_rate'),
        (lambda: keep_rate_plan(1.5), 'keep_rate'),
        (lambda: keep_rate_plan((0.5, 0.5)), 'keep_rate'),
        (lambda: keep_rate_plan(0.5, ()), 'blocks'),
        (lambda: keep_rate_plan(0.5, (6, 3)), 'blocks'),
        (lambda: keep_rate_plan(0.5, (3.0,)), 'blocks must be block indices from 0 on, got 3.0'),
        (lambda: keep_rate_plan(0.5, (-1,)), 'blocks'),
        (lambda: keep_rate_plan(0.5, of='first'), 'of must be'),
        (lambda: keep_rate_plan(0.5)(6, 196), 'blocks'),
        (lambda: constant_plan(-1), 't must be'),
        (lambda: linear_plan(2.5), 't must be'),
        (lambda: constant_plan(8, count='about'), 'count must be'),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
