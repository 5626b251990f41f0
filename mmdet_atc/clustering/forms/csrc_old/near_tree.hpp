// Single linkage from the near pairs alone: Kruskal's algorithm, the lowest edges first.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <tuple>
#include <vector>

#include "buffer.hpp"
#include "common.hpp"
#include "near_pairs.hpp"

template <typename T>
class NearTree {
  public:
    NearTree(Index n, Index num_clusters) : n_(n), left_(n), num_clusters_(num_clusters), parent_(n) {
        std::iota(parent_.begin(), parent_.end(), 0);
    }

    // Merges along the pairs, which must be all up to a limit. True when `num_clusters` are left.
    bool Run(const std::vector<Buffer<NearPair<T>>>& bands) {
        std::vector<NearPair<T>> pairs;
        for (const auto& band : bands) pairs.insert(pairs.end(), band.begin(), band.end());
        // Few of the pairs are edges of the tree: those that later turn out to lie within a cluster
        // are dropped before they are sorted (Osipov et al. 2009, "Filter-Kruskal").
        auto rest = pairs.begin();
        while (rest != pairs.end()) {
            const auto chunk = rest + std::min<Index>(2 * n_, pairs.end() - rest);
            if (chunk != pairs.end()) std::nth_element(rest, chunk, pairs.end(), Before);
            std::sort(rest, chunk, Before);
            for (; rest != chunk; ++rest) {
                Join(Root(rest->low), Root(rest->high));
                if (left_ == num_clusters_) return true;
            }
            pairs.erase(std::remove_if(rest, pairs.end(), [this](const NearPair<T>& pair) {
                return Root(pair.low) == Root(pair.high);
            }), pairs.end());
        }
        return false;
    }

    void Labels(Index* labels) const { NumberBySmallestMember(parent_, labels); }

  private:
    static bool Before(const NearPair<T>& x, const NearPair<T>& y) {
        return std::tie(x.distance, x.low, x.high) < std::tie(y.distance, y.low, y.high);
    }

    Index Root(Index i) {
        while (parent_[i] != i) i = parent_[i] = parent_[parent_[i]];
        return i;
    }

    void Join(Index x, Index y) {
        if (x == y) return;
        parent_[std::max(x, y)] = std::min(x, y);
        --left_;
    }

    Index n_, left_, num_clusters_;
    std::vector<Index> parent_;
};
