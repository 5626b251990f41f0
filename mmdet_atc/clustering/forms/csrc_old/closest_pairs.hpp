// Complete and average linkage from all distances: the closest pair is merged until `num_clusters`
// are left.
//
// Each cluster has a row of its distances to the clusters older than itself, see `LowestPair`: a
// merge writes one row and touches no other. Tokens are born in the order of their position.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "common.hpp"
#include "lowest_pair.hpp"

template <typename Rows>
class ClosestPairs {
    using Value = typename Rows::Value;

  public:
    ClosestPairs(Rows rows, Index n)
        : rows_(std::move(rows)), n_(n), lowest_(n), birth_(n), parent_(n), row_(n), other_row_(n),
          heights_(n) {
        std::iota(birth_.begin(), birth_.end(), 0.0f);
        std::iota(parent_.begin(), parent_.end(), 0);
        merged_.reserve(n);
    }

    // `bound` and `nearest` of each token among those before it.
    template <typename T>
    void Start(const std::vector<T>& bound, const std::vector<Slot>& nearest) {
        for (Index slot = 1; slot < n_; ++slot) lowest_.Set(slot, bound[slot], nearest[slot]);
    }

    void Run(Index num_clusters, Index* labels) {
        for (Index left = n_; left > num_clusters; --left) {
            const auto [kept, gone] = lowest_.Find([this](Index slot) {
                rows_.Load(slot, row_.data());
                FindNearest(slot, row_.data());
            });
            Merge(kept, gone, static_cast<float>(2 * n_ - left));
        }
        NumberBySmallestMember(parent_, labels);
    }

  private:
    static constexpr float kDead = std::numeric_limits<float>::max();

    void FindNearest(Index slot, const Value* row) {
        const float born = birth_[slot];
        rows_.Heights(slot, row, heights_.data());
        Value best = kGone<Value>;
        for (Index j = 0; j < n_; ++j) {
            const Value height = birth_[j] < born ? heights_[j] : kGone<Value>;
            heights_[j] = height;
            best = height < best ? height : best;
        }
        const Index nearest = best == kGone<Value> ? -1 : FirstEqual(heights_.data(), n_, best);
        lowest_.Set(slot, best, static_cast<Slot>(nearest));
    }

    // The distances of a cluster to all others: those to younger ones are in their rows.
    void LoadAll(Slot slot, Value* out) const {
        rows_.Load(slot, out);
        const float born = birth_[slot];
        for (const Slot other : merged_) {
            if (birth_[other] > born) out[other] = rows_.At(other, slot);
        }
    }

    void Merge(Slot kept, Slot gone, float now) {
        LoadAll(kept, row_.data());
        LoadAll(gone, other_row_.data());
        for (Index j = 0; j < n_; ++j) row_[j] = Rows::Join(row_[j], other_row_[j]);
        rows_.Store(kept, gone, row_.data());

        const auto is_part = [=](Slot slot) { return slot == kept || slot == gone; };
        merged_.erase(std::remove_if(merged_.begin(), merged_.end(), is_part), merged_.end());
        merged_.push_back(kept);
        lowest_.Forget(kept, gone);
        parent_[gone] = kept;
        birth_[gone] = kDead;
        birth_[kept] = now;
        FindNearest(kept, row_.data());
    }

    Rows rows_;
    Index n_;
    LowestPair<Value> lowest_;
    std::vector<float> birth_;
    std::vector<Index> parent_;
    std::vector<Slot> merged_;  // Slots of clusters of two tokens or more.
    std::vector<Value> row_, other_row_, heights_;
};
