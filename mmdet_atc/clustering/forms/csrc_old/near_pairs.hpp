// The pairs of tokens no further apart than a limit.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <vector>

#include "buffer.hpp"
#include "common.hpp"
#include "share_out.hpp"
#include "tiles.hpp"

// What one pass over all distances tells.
template <typename T>
struct Survey {
    std::vector<T> nearest;  // of each token, the distance to its nearest
    std::vector<T> sample;   // the distances of some tokens to all later ones
};

template <typename T, typename Tiles>
Survey<T> SurveyDistances(const Tiles& tiles, Index threads) {
    const Index n = tiles.size(), bands = NumBands(n);
    const Index width = n + kTileColumns<T>;
    std::vector<std::vector<T>> minima(bands), samples(bands);
    ShareOut(bands, threads, [&](Index band) {
        std::vector<T>& columns = minima[band];
        columns.assign(width, kGone<T>);
        std::vector<T> rows(kBandRows * kTileColumns<T>, kGone<T>);
        const Index begin = band * kBandRows;
        ForEachTile<T>(tiles, band, [&](Index row, Index column, const Tile<T>& tile) {
            T* const across = columns.data() + column;
            for (Index r = 0; r < kTileRows; ++r) {
                T* const along = rows.data() + (row - begin + r) * kTileColumns<T>;
                for (Index c = 0; c < kTileColumns<T>; ++c) {
                    const T d = tile[r][c];
                    across[c] = d < across[c] ? d : across[c];
                    along[c] = d < along[c] ? d : along[c];
                }
            }
            if (row != begin) return;
            for (const T d : tile[0]) {
                if (d != kGone<T>) samples[band].push_back(d);
            }
        });
        for (Index i = begin; i < std::min(n, begin + kBandRows); ++i) {
            const T* along = rows.data() + (i - begin) * kTileColumns<T>;
            columns[i] = std::min(columns[i], Smallest(along, kTileColumns<T>));
        }
    });
    Survey<T> survey{std::vector<T>(n, kGone<T>), {}};
    for (const auto& columns : minima) {
        for (Index j = 0; j < n; ++j) survey.nearest[j] = std::min(survey.nearest[j], columns[j]);
    }
    for (const auto& part : samples) {
        survey.sample.insert(survey.sample.end(), part.begin(), part.end());
    }
    return survey;
}

template <typename T>
struct NearPair {
    std::int32_t low, high;
    T distance;
};

// The pairs, band by band of their lower token; empty if there are more than `most`.
template <typename T, typename Tiles>
std::vector<Buffer<NearPair<T>>> NearPairs(
    const Tiles& tiles, T limit, Index most, Index threads) {
    const Index bands = NumBands(tiles.size());
    std::vector<Buffer<NearPair<T>>> pairs(bands);
    std::atomic<Index> total{0};
    ShareOut(bands, threads, [&](Index band) {
        if (total > most) return;
        Buffer<NearPair<T>>& found = pairs[band];
        ForEachTile<T>(tiles, band, [&](Index row, Index column, const Tile<T>& tile) {
            for (Index r = 0; r < kTileRows; ++r) {
                for (Index first = 0; first < kTileColumns<T>; first += kLanes<T>) {
                    bool any = false;
                    for (Index c = first; c < first + kLanes<T>; ++c) any |= tile[r][c] <= limit;
                    if (!any) continue;
                    // Written to where the next pair goes, whether it is one or not: no branch.
                    NearPair<T>* const out = found.Room(kLanes<T>);
                    Index count = 0;
                    for (Index c = first; c < first + kLanes<T>; ++c) {
                        out[count] = {static_cast<std::int32_t>(row + r),
                                      static_cast<std::int32_t>(column + c), tile[r][c]};
                        count += tile[r][c] <= limit;
                    }
                    found.Take(count);
                }
            }
        });
        total += found.size();
    });
    if (total > most) pairs.clear();
    return pairs;
}

template <typename T>
struct NearToken {
    std::int32_t other;
    T distance;
};

// The near tokens of token i are at begin[i] .. begin[i + 1].
template <typename T>
struct NearTokens {
    std::vector<Index> begin;
    Buffer<NearToken<T>> tokens;
};

template <typename T>
NearTokens<T> ByToken(const std::vector<Buffer<NearPair<T>>>& pairs, Index n, Index threads) {
    NearTokens<T> near;
    near.begin.assign(n + 1, 0);
    // Where each token's pairs with earlier ones begin, and those with later ones.
    std::vector<Index> earlier(n, 0), later(n, 0);
    const auto for_both = [&](auto visit_high, auto visit_low) {
        ShareOut(2, threads, [&](Index which) {
            for (const auto& band : pairs) {
                if (which == 0) {
                    for (const auto& pair : band) visit_high(pair);
                } else {
                    for (const auto& pair : band) visit_low(pair);
                }
            }
        });
    };
    using Pair = NearPair<T>;
    for_both([&](const Pair& pair) { ++earlier[pair.high]; }, [&](const Pair& pair) { ++later[pair.low]; });
    for (Index i = 0; i < n; ++i) {
        const Index first = near.begin[i];
        near.begin[i + 1] = first + earlier[i] + later[i];
        later[i] = first + earlier[i];
        earlier[i] = first;
    }
    NearToken<T>* const tokens = near.tokens.Room(near.begin[n]);
    near.tokens.Take(near.begin[n]);
    for_both([&](const Pair& pair) { tokens[earlier[pair.high]++] = {pair.low, pair.distance}; },
             [&](const Pair& pair) { tokens[later[pair.low]++] = {pair.high, pair.distance}; });
    return near;
}
