// What the algorithms share: the square of distances, minima, the numbering of clusters.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

using Index = std::int64_t;

// Stands for "no such cluster"; larger than every distance.
template <typename T>
constexpr T kGone = std::numeric_limits<T>::max();

// n rows of `stride` values, of which the first n are distances; `stride` is even.
template <typename T>
struct Square {
    T* data;
    Index n, stride;
    T* Row(Index i) const { return data + i * stride; }
};

template <typename T>
T Smallest(const T* values, Index count) {
    T best = kGone<T>;
    for (Index j = 0; j < count; ++j) best = values[j] < best ? values[j] : best;
    return best;
}

template <typename T>
Index FirstEqual(const T* values, Index count, T wanted) {
    constexpr Index kBlock = 64;
    Index start = 0;
    for (; start + kBlock <= count; start += kBlock) {
        int found = 0;
        for (Index j = 0; j < kBlock; ++j) found |= values[start + j] == wanted;
        if (found) break;
    }
    while (start < count && values[start] != wanted) ++start;
    return start;
}

// Numbers the clusters by their smallest member, given each token's parent (itself or a smaller).
inline void NumberBySmallestMember(const std::vector<Index>& parent, Index* labels) {
    Index next = 0;
    for (std::size_t i = 0; i < parent.size(); ++i) {
        const Index p = parent[i];
        labels[i] = p == static_cast<Index>(i) ? next++ : labels[p];
    }
}
