// Single linkage: the lowest edges of the minimum spanning tree (Prim).
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "common.hpp"

template <typename T>
struct Edge {
    T height;
    Index low, high;
    bool operator<(const Edge& other) const {
        if (height != other.height) return height < other.height;
        if (low != other.low) return low < other.low;
        return high < other.high;
    }
};

// The edges in the order of Prim's algorithm from token 0; ties go to the lowest pair of tokens.
template <typename T>
std::vector<Edge<T>> SpanningTree(Square<T> square) {
    const Index n = square.n;
    constexpr T kInside = std::numeric_limits<T>::lowest();
    // Of each token outside the tree its lowest edge into it: height, and the end in the tree.
    std::vector<T> height(n, kGone<T>);
    std::vector<std::int32_t> inside(n, std::numeric_limits<std::int32_t>::max());
    std::vector<Edge<T>> edges;
    edges.reserve(n - 1);
    Index newest = 0;
    height[0] = kInside;
    for (Index count = 1; count < n; ++count) {
        const T* row = square.Row(newest);
        const auto me = static_cast<std::int32_t>(newest);
        T lowest = kGone<T>;
        for (Index j = 0; j < n; ++j) {
            const bool take = (row[j] < height[j]) | ((row[j] == height[j]) & (me < inside[j]));
            inside[j] = take ? me : inside[j];
            height[j] = take ? row[j] : height[j];
            const T outside = height[j] == kInside ? kGone<T> : height[j];
            lowest = outside < lowest ? outside : lowest;
        }
        Edge<T> best{kGone<T>, n, n};
        for (Index j = FirstEqual(height.data(), n, lowest); j < n; ++j) {
            if (height[j] != lowest) continue;
            const Index other = inside[j];
            const Edge<T> edge{lowest, std::min(other, j), std::max(other, j)};
            if (edge < best) {
                best = edge;
                newest = j;
            }
        }
        edges.push_back(best);
        height[newest] = kInside;
    }
    return edges;
}

template <typename T>
void CutSpanningTree(std::vector<Edge<T>> edges, Index n, Index num_clusters, Index* labels) {
    const Index count = n - num_clusters;
    std::nth_element(edges.begin(), edges.begin() + count, edges.end());
    std::vector<Index> parent(n);
    std::iota(parent.begin(), parent.end(), 0);
    auto root = [&parent](Index i) {
        while (parent[i] != i) i = parent[i] = parent[parent[i]];
        return i;
    };
    for (Index e = 0; e < count; ++e) {
        const Index x = root(edges[e].low), y = root(edges[e].high);
        parent[std::max(x, y)] = std::min(x, y);
    }
    NumberBySmallestMember(parent, labels);
}
