// What all files share; see docs/clustering.md.
#pragma once

#include <cstdint>
#include <limits>
#include <tuple>
#include <vector>

using Index = std::int64_t;
using Token = std::int32_t;
// Distances are whole numbers: multiples of 2^-61.
using Distance = std::int64_t;
using Wide = __int128;

constexpr Distance kOne = Distance(1) << 61;
constexpr Distance kGone = std::numeric_limits<Distance>::max();
// What lies below a distance's last bit in a sum of squares.
constexpr int kDroppedBits = 34;

enum Linkage { kSingle = 0, kComplete = 1, kAverage = 2 };

// Two tokens, or two clusters by their smallest members. Pairs merge in this order.
struct Pair {
    Distance distance;
    Token low, high;
    bool operator<(const Pair& other) const {
        return std::tie(distance, low, high) < std::tie(other.distance, other.low, other.high);
    }
};

using Pairs = std::vector<Pair>;
