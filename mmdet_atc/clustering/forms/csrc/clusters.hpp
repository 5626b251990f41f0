// The clusters reached so far, and their exact distances without a limit.
#pragma once

#include <algorithm>
#include <numeric>
#include <vector>

#include "common.hpp"
#include "directions.hpp"
#include "share_out.hpp"

// Clusters of tokens by their number, in the order of their smallest members.
class Clusters {
  public:
    // Of the merges so far, in any order.
    Clusters(Index n, const Pairs& merges) : number_(n), members_(n) {
        std::vector<Token> parent(n);
        std::iota(parent.begin(), parent.end(), 0);
        const auto root = [&](Token i) {
            while (parent[i] != i) i = parent[i] = parent[parent[i]];
            return i;
        };
        for (const Pair& pair : merges) {
            const Token x = root(pair.low), y = root(pair.high);
            parent[std::max(x, y)] = std::min(x, y);
        }
        std::vector<Index> sizes;
        for (Token i = 0; i < n; ++i) {
            const Token smallest = root(i);
            if (smallest == i) {
                number_[i] = sizes.size();
                sizes.push_back(0);
            } else {
                number_[i] = number_[smallest];
            }
            ++sizes[number_[i]];
        }
        begins_.resize(sizes.size() + 1);
        std::partial_sum(sizes.begin(), sizes.end(), begins_.begin() + 1);
        std::vector<Index> ends(begins_.begin(), begins_.end() - 1);
        for (Token i = 0; i < n; ++i) members_[ends[number_[i]]++] = i;
    }

    // The members of a cluster, in rising order.
    struct Range {
        const Token *first, *last;
        const Token* begin() const { return first; }
        const Token* end() const { return last; }
    };

    Index size() const { return begins_.size() - 1; }
    Token Number(Token token) const { return number_[token]; }
    Token Smallest(Index cluster) const { return members_[begins_[cluster]]; }
    Range Members(Index cluster) const {
        return {members_.data() + begins_[cluster], members_.data() + begins_[cluster + 1]};
    }

  private:
    std::vector<Token> number_, members_;  // members cluster by cluster
    std::vector<Index> begins_;            // where each begins, and the end
};

// What the exact mean distance of clusters is computed from.
struct Sums {
    Sums(const Directions& directions, const Clusters& clusters)
        : channels(directions.channels()), q(clusters.size() * channels), excess(clusters.size()),
          size(clusters.size()), nonzero(clusters.size()) {
        for (Index cluster = 0; cluster < clusters.size(); ++cluster) {
            std::int64_t* const sum = q.data() + cluster * channels;
            for (const Token token : clusters.Members(cluster)) {
                const std::int64_t* const row = directions.Row(token);
                for (Index c = 0; c < channels; ++c) sum[c] += row[c];
                excess[cluster] += directions.Excess(token);
                nonzero[cluster] += !directions.IsZero(token);
                ++size[cluster];
            }
        }
    }

    void Merge(Index into, Index gone) {
        for (Index c = 0; c < channels; ++c) q[into * channels + c] += q[gone * channels + c];
        excess[into] += excess[gone];
        size[into] += size[gone];
        nonzero[into] += nonzero[gone];
    }

    Distance Mean(Index i, Index j) const {
        const std::int64_t *x = q.data() + i * channels, *y = q.data() + j * channels;
        Wide product = 0;
        for (Index c = 0; c < channels; ++c) product += Wide(x[c]) * y[c];
        const std::int64_t pairs = size[i] * size[j];
        const Wide sum = (Wide(pairs) << 95) + nonzero[j] * excess[i] + nonzero[i] * excess[j] -
                         2 * product;
        return pairs == 1 ? static_cast<Distance>(sum >> kDroppedBits)
                          : static_cast<Distance>((sum >> kDroppedBits) / pairs);
    }

    Index channels;
    std::vector<std::int64_t> q;  // clusters x channels
    std::vector<Wide> excess;
    std::vector<std::int64_t> size, nonzero;
};

// All pairs of clusters, by number; for single linkage by the tokens of their lowest edge.
inline Pairs AllPairs(
    const Directions& directions, const Clusters& clusters, Linkage linkage, const Threads& threads) {
    const Index count = clusters.size(), n = directions.size();
    const Sums sums(directions, clusters);
    std::vector<Pairs> found(count);
    ShareOut(count, threads, [&](Index item) {
        const Index high = count - 1 - item;  // the longest rows first, so that threads end together
        Pairs& row = found[high];
        if (linkage == kAverage) {
            for (Token low = 0; low < high; ++low) row.push_back({sums.Mean(low, high), low, Token(high)});
            return;
        }
        row.assign(high, Pair{linkage == kSingle ? kGone : 0, 0, 0});
        for (const Token token : clusters.Members(high)) {
            for (Token other = 0; other < n; ++other) {
                const Token low = clusters.Number(other);
                if (low >= high) continue;
                const Distance distance = directions.Between(token, other);
                Pair& best = row[low];
                if (linkage == kSingle) {
                    best = std::min(
                        best, {distance, std::min(token, other), std::max(token, other)});
                } else {
                    best = {std::max(best.distance, distance), low, Token(high)};
                }
            }
        }
    });
    Pairs pairs;
    pairs.reserve(count * (count - 1) / 2);
    for (Pairs& part : found) {
        pairs.insert(pairs.end(), part.begin(), part.end());
        Pairs().swap(part);
    }
    return pairs;
}
