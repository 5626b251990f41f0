// One image: from its near pairs if these decide, else from all distances.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "closest_pairs.hpp"
#include "cluster_rows.hpp"
#include "common.hpp"
#include "near_links.hpp"
#include "near_merges.hpp"
#include "near_pairs.hpp"
#include "near_tree.hpp"
#include "spanning_tree.hpp"
#include "square_memory.hpp"
#include "tiles.hpp"

enum Linkage { kSingle = 0, kComplete = 1, kAverage = 2 };

struct Wanted {
    Index num_clusters;
    Linkage linkage;
    double near_share;  // the most near pairs, as a share of all pairs
    Index threads;
};

template <typename T>
T Quantile(std::vector<T>* values, double share) {
    const auto last = static_cast<double>(values->size() - 1);
    const auto at = values->begin() + static_cast<Index>(std::min(1.0, share) * last);
    std::nth_element(values->begin(), at, values->end());
    return *at;
}

// Calls run(pairs, limit) with the pairs within growing limits until it is true; false where the
// pairs become too many. `lonely` of the tokens have no neighbour within the first limit, unless
// there are few pairs: then a larger limit costs little.
template <typename T, typename Tiles, typename Run>
bool WithNearPairs(const Tiles& tiles, double lonely, const Wanted& wanted, Run run) {
    constexpr int kTries = 3;
    const auto n = static_cast<double>(tiles.size());
    double few = 24 / static_cast<double>(wanted.num_clusters);
    Survey<T> survey = SurveyDistances<T>(tiles, wanted.threads);
    for (int i = 0; i < kTries; ++i, lonely /= 3, few *= 2) {
        const T limit =
            std::max(Quantile(&survey.nearest, 1 - lonely), Quantile(&survey.sample, few));
        // As the sample says, and then for certain.
        const auto is_near = [=](T distance) { return distance <= limit; };
        const auto near = std::count_if(survey.sample.begin(), survey.sample.end(), is_near);
        if (near > 1.2 * wanted.near_share * survey.sample.size()) return false;
        const auto most = static_cast<Index>(wanted.near_share * n * (n - 1) / 2);
        const auto pairs = NearPairs(tiles, limit, most, wanted.threads);
        if (pairs.empty()) return false;
        if (run(pairs, limit)) return true;
    }
    return false;
}

template <typename T, typename Tiles, typename Links>
bool MergeNear(const Tiles& tiles, double share, const Wanted& wanted, Index* labels) {
    NearMerges<T, Tiles, Links> merges(tiles, wanted.num_clusters, wanted.threads);
    const bool done = WithNearPairs<T>(tiles, share, wanted, [&](const auto& pairs, T limit) {
        return merges.Run(ByToken(pairs, tiles.size(), wanted.threads), limit);
    });
    if (done) merges.Labels(labels);
    return done;
}

// How near the last merge is was measured on keys and patches of real images: of the tokens, these
// shares have no neighbour within that distance. A wrong guess costs time only.
template <typename T, typename Tiles>
bool ClusterNear(const Tiles& tiles, const Wanted& wanted, Index* labels) {
    const double kept = static_cast<double>(wanted.num_clusters) / tiles.size();
    if (wanted.linkage == kSingle) {
        NearTree<T> tree(tiles.size(), wanted.num_clusters);
        const bool done = WithNearPairs<T>(
            tiles, 0.95 * kept, wanted, [&](const auto& pairs, T) { return tree.Run(pairs); });
        if (done) tree.Labels(labels);
        return done;
    }
    if (wanted.linkage == kComplete) {
        return MergeNear<T, Tiles, CompleteLinks<T>>(tiles, std::pow(kept, 2), wanted, labels);
    }
    return tiles.SumsAreExact(wanted.threads) &&
           MergeNear<T, Tiles, AverageLinks<T>>(tiles, std::pow(kept, 1.75), wanted, labels);
}

template <typename Rows, typename T>
void MergeAll(
    Square<T> square, const std::vector<T>& height, const std::vector<std::int32_t>& nearest,
    Index num_clusters, Index* labels) {
    ClosestPairs<Rows> pairs(Rows(square), square.n);
    pairs.Start(height, nearest);
    pairs.Run(num_clusters, labels);
}

// Copies the upper triangle to the lower one, in tiles that stay in cache, clears the diagonal and
// finds each token's nearest neighbour among those before it on the way.
template <typename T>
void MirrorUpperTriangle(
    Square<T> square, Index threads, std::vector<T>* height, std::vector<std::int32_t>* nearest) {
    constexpr Index kTile = 32;
    const Index n = square.n, tiles = (n + kTile - 1) / kTile;
    ShareOut(tiles, threads, [=](Index item) {
        // The longest rows first, so that threads end together.
        const Index begin = (tiles - 1 - item) * kTile, end = std::min(begin + kTile, n);
        for (Index left = 0; left < end; left += kTile) {
            for (Index i = begin; i < end; ++i) {
                T* row = square.Row(i);
                for (Index j = left; j < std::min(left + kTile, i); ++j) row[j] = square.Row(j)[i];
            }
        }
        for (Index i = begin; i < end; ++i) {
            square.Row(i)[i] = 0;
            (*height)[i] = Smallest(square.Row(i), i);
            (*nearest)[i] = static_cast<std::int32_t>(FirstEqual(square.Row(i), i, (*height)[i]));
        }
    });
}

template <typename T, typename Tiles>
void ClusterAll(const Tiles& tiles, const Wanted& wanted, Index* labels) {
    const SquareMemory<T> memory(tiles.size());
    const Square<T> square = memory.square();
    const Index num_clusters = wanted.num_clusters;
    std::vector<T> height(square.n);
    std::vector<std::int32_t> nearest(square.n);
    FillUpperTriangle(tiles, square, wanted.threads);
    MirrorUpperTriangle(square, wanted.threads, &height, &nearest);
    if (wanted.linkage == kSingle) {
        CutSpanningTree(SpanningTree(square), square.n, num_clusters, labels);
    } else if (wanted.linkage == kComplete) {
        MergeAll<CompleteRows<T>>(square, height, nearest, num_clusters, labels);
    } else {
        MergeAll<AverageRows<T>>(square, height, nearest, num_clusters, labels);
    }
}

template <typename T, typename Tiles>
void ClusterImage(const Tiles& tiles, const Wanted& wanted, Index* labels) {
    if (wanted.num_clusters == tiles.size()) {
        std::iota(labels, labels + tiles.size(), 0);
    } else if (!ClusterNear<T>(tiles, wanted, labels)) {
        ClusterAll<T>(tiles, wanted, labels);
    }
}
