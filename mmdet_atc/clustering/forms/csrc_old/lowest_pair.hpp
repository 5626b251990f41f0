// The closest pair of clusters, from a lower bound that each has of its nearest distance.
//
// A cluster answers for its distances to clusters *older* than itself (Müllner 2011, "generic
// algorithm", with age in place of position). A merge forms the youngest cluster, so no other gains
// a distance: a bound whose neighbour is gone is stale, but still a lower bound, and is made exact
// only when it is the smallest of all.
//
// A cluster lives in the slot of its smallest member, and ties go to the lowest pair of slots.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "common.hpp"

using Slot = std::int32_t;
using SlotPair = std::pair<Slot, Slot>;

template <typename Value>
class LowestPair {
  public:
    explicit LowestPair(Index n)
        : n_(n), bound_(n, kGone<Value>), lowest_of_block_((n + kBlock - 1) / kBlock, kGone<Value>),
          nearest_(n, -1), stale_(n, 0) {}

    // The distance to the nearest older cluster; kGone if there is none.
    void Set(Index slot, Value distance, Slot nearest) {
        SetBound(slot, distance);
        nearest_[slot] = nearest;
        stale_[slot] = 0;
    }

    // No older cluster is nearer than `bound`, and none before `first` is as near.
    void SetBound(Index slot, Value bound, Slot first) {
        SetBound(slot, bound);
        nearest_[slot] = first - 1;
        stale_[slot] = 1;
    }

    // After `gone` was merged into `kept`, whose new nearest distance is to be set.
    void Forget(Slot kept, Slot gone) {
        SetBound(gone, kGone<Value>);
        const Slot* const nearest = nearest_.data();
        std::int32_t* const stale = stale_.data();
        for (Index j = 0, n = n_; j < n; ++j) {
            stale[j] |= (nearest[j] == kept) | (nearest[j] == gone);
        }
    }

    // The lowest pair among those of the smallest height; {n, n} where no distance is left. The
    // search ends as soon as a slot of the lowest bound is exact; `rescan(slot)` makes it so.
    template <typename Rescan>
    SlotPair Find(Rescan rescan) {
        for (;;) {
            lowest_ = Smallest(lowest_of_block_.data(), lowest_of_block_.size());
            SlotPair best(n_, n_);
            if (lowest_ == kGone<Value>) return best;
            const Index first = NextLowest(0);
            for (Index i = first; i < n_; i = NextLowest(i + 1)) {
                if (!stale_[i]) best = std::min(best, Ordered(i, nearest_[i]));
            }
            // Of a stale slot's clusters at that height those up to `nearest` are gone: what is left
            // comes after it. Where all distances tie, this saves a rescan of all for every merge.
            for (Index i = first; i < n_; i = NextLowest(i + 1)) {
                if (!stale_[i] || best < Ordered(i, nearest_[i] + 1)) continue;
                rescan(i);
                if (bound_[i] == lowest_) best = std::min(best, Ordered(i, nearest_[i]));
            }
            if (best.first < n_) return best;
        }
    }

    // The height of the pair that was found.
    Value Height() const { return lowest_; }

  private:
    static SlotPair Ordered(Index x, Index y) {
        return {static_cast<Slot>(std::min(x, y)), static_cast<Slot>(std::max(x, y))};
    }

    void SetBound(Index slot, Value bound) {
        bound_[slot] = bound;
        const Index block = slot / kBlock, begin = block * kBlock;
        lowest_of_block_[block] = Smallest(bound_.data() + begin, std::min(kBlock, n_ - begin));
    }

    Index NextLowest(Index start) const {
        while (start < n_) {
            const Index block = start / kBlock, end = std::min(n_, (block + 1) * kBlock);
            if (lowest_of_block_[block] == lowest_) {
                start += FirstEqual(bound_.data() + start, end - start, lowest_);
                if (start < end) return start;
            }
            start = end;
        }
        return n_;
    }

    static constexpr Index kBlock = 64;

    Index n_;
    Value lowest_ = kGone<Value>;
    std::vector<Value> bound_, lowest_of_block_;
    std::vector<Slot> nearest_;
    std::vector<std::int32_t> stale_;
};
