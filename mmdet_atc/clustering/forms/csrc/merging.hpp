// Merging by a list of pairs: the closest first, in the order of the specification.
#pragma once

#include <algorithm>
#include <memory_resource>
#include <numeric>
#include <queue>
#include <vector>

#include "clusters.hpp"
#include "common.hpp"

// Single linkage: Kruskal's algorithm, by pairs of tokens. Few of the pairs are edges of the tree:
// those that turn out to lie within a cluster are dropped before they are sorted (Osipov et al.
// 2009, "Filter-Kruskal"). Ends when there are `count` merges in all.
inline void MergeLowestEdges(const Clusters& clusters, Pairs pairs, Index count, Pairs* merges) {
    std::vector<Token> parent(clusters.size());
    std::iota(parent.begin(), parent.end(), 0);
    const auto root = [&](Token token) {
        Token i = clusters.Number(token);
        while (parent[i] != i) i = parent[i] = parent[parent[i]];
        return i;
    };
    auto rest = pairs.begin();
    while (rest != pairs.end()) {
        const auto chunk = rest + std::min<Index>(2 * clusters.size(), pairs.end() - rest);
        if (chunk != pairs.end()) std::nth_element(rest, chunk, pairs.end());
        std::sort(rest, chunk);
        for (; rest != chunk; ++rest) {
            if (Index(merges->size()) == count) return;
            const Token x = root(rest->low), y = root(rest->high);
            if (x == y) continue;
            parent[std::max(x, y)] = std::min(x, y);
            merges->push_back(*rest);
        }
        pairs.erase(std::remove_if(rest, pairs.end(), [&](const Pair& pair) {
            return root(pair.low) == root(pair.high);
        }), pairs.end());
    }
}

// Complete and average linkage. Each cluster knows its neighbours, those within the limit, and
// answers for the *older* ones: clusters to begin with are born in the order of their number, a merged
// one when it is formed. The closest of the answers is the next merge. An answer whose neighbour is
// gone is still a lower bound, and is looked up anew when its turn comes (Müllner 2011, "generic
// algorithm", with age in place of position).
class ClosestPairs {
  public:
    // `pairs` are all pairs of clusters, by number, up to `limit`.
    ClosestPairs(
        const Directions& directions, const Clusters& clusters, Linkage linkage, const Pairs& pairs,
        Distance limit)
        : linkage_(linkage), limit_(limit), clusters_(clusters), sums_(directions, clusters),
          seen_(2 * clusters.size(), -1), distance_(2 * clusters.size()) {
        std::vector<Index> degree(clusters.size());
        for (const Pair& pair : pairs) ++degree[pair.low], ++degree[pair.high];
        nodes_.reserve(2 * clusters.size());
        for (Token i = 0; i < clusters.size(); ++i) {
            nodes_.emplace_back(i, &memory_).neighbours.reserve(degree[i] + 2);
        }
        for (const Pair& pair : pairs) Link(pair.low, pair.high, pair.distance);
        for (Token i = 0; i < clusters.size(); ++i) Answer(i);
    }

    // Ends when there are `count` merges in all, or no pair is left within the limit.
    void Run(Index count, Pairs* merges) {
        while (Index(merges->size()) < count && !answers_.empty()) {
            const Closest closest = answers_.top();
            answers_.pop();
            if (nodes_[closest.node].is_gone) continue;
            if (nodes_[closest.neighbour].is_gone) {
                Answer(closest.node);
                continue;
            }
            merges->push_back({closest.pair.distance, clusters_.Smallest(closest.pair.low),
                               clusters_.Smallest(closest.pair.high)});
            Merge(closest.node, closest.neighbour);
        }
    }

  private:
    struct Neighbour {
        Distance distance;
        Token node;
    };
    struct Node {
        Node(Token slot, std::pmr::memory_resource* memory) : slot(slot), neighbours(memory) {}
        Token slot;  // number of the first cluster in it
        bool is_gone = false;
        std::pmr::vector<Neighbour> neighbours;
    };
    struct Closest {
        Pair pair;  // by slots
        Token node, neighbour;
        bool operator<(const Closest& other) const { return other.pair < pair; }  // lowest on top
    };

    void Link(Token x, Token y, Distance distance) {
        nodes_[x].neighbours.push_back({distance, y});
        nodes_[y].neighbours.push_back({distance, x});
    }

    // Puts forward the closest of a cluster's older neighbours, and forgets those that are gone.
    void Answer(Token node) {
        std::pmr::vector<Neighbour>& neighbours = nodes_[node].neighbours;
        const Token slot = nodes_[node].slot;
        Closest best{{kGone, 0, 0}, node, -1};
        std::size_t kept = 0;
        for (const Neighbour neighbour : neighbours) {
            const Node& other = nodes_[neighbour.node];
            if (other.is_gone) continue;
            neighbours[kept++] = neighbour;
            if (neighbour.node > node || neighbour.distance > best.pair.distance) continue;
            const Pair pair{
                neighbour.distance, std::min(slot, other.slot), std::max(slot, other.slot)};
            if (pair < best.pair || best.neighbour < 0) best = {pair, node, neighbour.node};
        }
        neighbours.resize(kept);
        if (best.neighbour >= 0) answers_.push(best);
    }

    void Merge(Token x, Token y) {
        const auto merged = static_cast<Token>(nodes_.size());
        if (nodes_[x].slot > nodes_[y].slot) std::swap(x, y);
        const Token slot = nodes_[x].slot;
        nodes_.emplace_back(slot, &memory_);
        nodes_[x].is_gone = nodes_[y].is_gone = true;
        if (linkage_ == kAverage) sums_.Merge(slot, nodes_[y].slot);
        for (const Neighbour neighbour : nodes_[x].neighbours) {
            if (nodes_[neighbour.node].is_gone) continue;
            seen_[neighbour.node] = merged;
            distance_[neighbour.node] = neighbour.distance;
            if (linkage_ == kAverage) LinkMean(merged, neighbour.node);
        }
        for (const Neighbour neighbour : nodes_[y].neighbours) {
            if (nodes_[neighbour.node].is_gone) continue;
            const bool is_of_both = seen_[neighbour.node] == merged;
            if (linkage_ == kAverage && !is_of_both) LinkMean(merged, neighbour.node);
            if (linkage_ == kComplete && is_of_both) {
                Link(merged, neighbour.node,
                     std::max(neighbour.distance, distance_[neighbour.node]));
            }
        }
        nodes_[x].neighbours.clear();
        nodes_[x].neighbours.shrink_to_fit();
        nodes_[y].neighbours.clear();
        nodes_[y].neighbours.shrink_to_fit();
        Answer(merged);
    }

    // A mean is within the limit only if that of one of the parts was.
    void LinkMean(Token merged, Token other) {
        const Distance distance = sums_.Mean(nodes_[merged].slot, nodes_[other].slot);
        if (distance <= limit_) Link(merged, other, distance);
    }

    Linkage linkage_;
    Distance limit_;
    const Clusters& clusters_;
    Sums sums_;  // by slot
    std::pmr::unsynchronized_pool_resource memory_;  // of the many short lists in nodes
    std::vector<Node> nodes_;
    std::priority_queue<Closest> answers_;
    // Of the merge at hand, by node: whether the first part has it as a neighbour, and how far.
    std::vector<Token> seen_;
    std::vector<Distance> distance_;
};
