// Complete and average linkage from the near pairs alone; docs/clustering.md says why that is exact.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "buffer.hpp"
#include "common.hpp"
#include "near_pairs.hpp"
#include "near_stage.hpp"
#include "share_out.hpp"

template <typename T, typename Tiles, typename Links>
class NearMerges {
    using Link = typename Links::Link;

  public:
    NearMerges(const Tiles& tiles, Index num_clusters, Index threads)
        : tiles_(tiles), n_(tiles.size()), left_(n_), num_clusters_(num_clusters),
          threads_(threads), parent_(n_), next_(n_, -1), last_(n_), size_(n_, 1), cluster_(n_) {
        std::iota(parent_.begin(), parent_.end(), 0);
        std::iota(last_.begin(), last_.end(), 0);
    }

    // Merges what is within `limit`, given all pairs of tokens that are. True when `num_clusters`
    // are left; a larger limit goes on from where a smaller one ended.
    bool Run(const NearTokens<T>& near, T limit) {
        for (const T stage : Stages(near, limit)) {
            const std::vector<Index> slots = NumberClusters();
            // As long as no cluster has two tokens, distances above the limit are of no use.
            const Links links(stage, left_ == n_ ? stage : limit);
            NearStage<Links> run(Start(near, slots, links), links);
            left_ -= run.Run(
                left_ - num_clusters_,
                [&](Index x, Index y) { return Sum(slots[x], slots[y]); },
                [&](Index kept, Index gone) { Merge(slots[kept], slots[gone]); });
            if (left_ == num_clusters_) return true;
        }
        return false;
    }

    void Labels(Index* labels) const { NumberBySmallestMember(parent_, labels); }

  private:
    // The limit, and before it those that a third, a ninth .. of the pairs are within. In a
    // crowd of near tokens each has few neighbours if the nearest of all are merged first.
    std::vector<T> Stages(const NearTokens<T>& near, T limit) const {
        constexpr std::size_t kFewest = 16, kGrowth = 3, kStride = 16;
        std::vector<T> sample, stages{limit};
        for (std::size_t p = 0; p < near.tokens.size(); p += kStride) {
            sample.push_back(near.tokens[p].distance);
        }
        while (sample.size() > kGrowth * kFewest * n_ / kStride) {
            const auto at = sample.begin() + sample.size() / kGrowth;
            std::nth_element(sample.begin(), at, sample.end());
            stages.push_back(*at);
            sample.erase(at, sample.end());
        }
        std::reverse(stages.begin(), stages.end());
        return stages;
    }

    // The clusters' slots, in order; tokens are told the number of their cluster.
    std::vector<Index> NumberClusters() {
        std::vector<Index> slots;
        for (Index i = 0; i < n_; ++i) {
            if (parent_[i] != i) continue;
            const auto number = static_cast<std::int32_t>(slots.size());
            for (Index j = i; j >= 0; j = next_[j]) cluster_[j] = number;
            slots.push_back(i);
        }
        return slots;
    }

    Neighbourhood<Link> Start(
        const NearTokens<T>& near, const std::vector<Index>& slots, Links links) const {
        const Index m = slots.size();
        std::vector<Neighbourhood<Link>> parts(threads_);
        ShareOut(threads_, threads_, [&](Index part) {
            const Index from = part * m / threads_, to = (part + 1) * m / threads_;
            AddLinks(near, slots, links, from, to, &parts[part]);
        });
        for (Index part = 1; part < threads_; ++part) parts[0].Append(parts[part]);
        parts[0].begin.push_back(parts[0].neighbours.size());
        return std::move(parts[0]);
    }

    void AddLinks(
        const NearTokens<T>& near, const std::vector<Index>& slots, Links links, Index from,
        Index to, Neighbourhood<Link>* start) const {
        struct Sofar {
            typename Links::Total total = Links::kNothing;
            std::int32_t count = 0;
        };
        std::vector<Sofar> sofar(slots.size());
        std::vector<std::int32_t> others(slots.size() + 1);
        Buffer<Neighbour<Link>> later;
        for (Index c = from; c < to; ++c) {
            Index num_others = 0;
            for (Index i = slots[c]; i >= 0; i = next_[i]) {
                for (Index p = near.begin[i]; p < near.begin[i + 1]; ++p) {
                    const auto [token, distance] = near.tokens[p];
                    if (!links.Counts(distance)) continue;
                    const auto other = cluster_[token];
                    Sofar& both = sofar[other];
                    // No branch: whether a cluster was met before is hard to predict.
                    others[num_others] = other;
                    num_others += both.count == 0;
                    ++both.count;
                    both.total = Links::Add(both.total, distance);
                }
            }
            const Index size = size_[slots[c]];
            start->size.push_back(size);
            start->begin.push_back(start->neighbours.size());
            for (Index k = 0; k < num_others; ++k) {
                const auto other = others[k];
                const Index pairs = size * size_[slots[other]];
                const Link link = links.From(sofar[other].total, pairs - sofar[other].count);
                sofar[other] = Sofar();
                if (other == c || !links.IsNear(link, pairs)) continue;
                (other > c ? later : start->neighbours).push_back({other, link});
            }
            start->later.push_back(start->neighbours.size());
            start->neighbours.Append(later);
            later.Clear();
        }
    }

    // Of all distances between two clusters.
    double Sum(Index x, Index y) {
        if (size_[x] > size_[y]) std::swap(x, y);
        return tiles_.Sum(Tokens(x, &fewer_), Tokens(y, &more_), &scratch_);
    }

    const Buffer<Index>& Tokens(Index slot, Buffer<Index>* tokens) const {
        tokens->Clear();
        for (Index i = slot; i >= 0; i = next_[i]) tokens->push_back(i);
        return *tokens;
    }

    void Merge(Index kept, Index gone) {
        next_[last_[kept]] = gone;
        last_[kept] = last_[gone];
        size_[kept] += size_[gone];
        parent_[gone] = kept;
    }

    const Tiles& tiles_;
    Index n_, left_, num_clusters_, threads_;
    std::vector<Index> parent_;
    // The tokens of a cluster are a list that starts at its slot.
    std::vector<Index> next_, last_, size_;
    std::vector<std::int32_t> cluster_;
    // Tokens of the clusters whose sum is at hand.
    Buffer<Index> fewer_, more_;
    std::vector<T> scratch_;
};
