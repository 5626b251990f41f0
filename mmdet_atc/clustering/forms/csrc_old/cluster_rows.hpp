// Where the distances of merged clusters live, for complete and for average linkage.
//
// Each class offers, for clusters in slots 0 .. n-1 of a square of distances:
//   Load(slot, out)          the cluster's row, as it was when the cluster was formed
//   At(slot, other)          one entry of a merged cluster's row
//   Join(x, y)               the merged cluster's entry from those of its two parts
//   Store(kept, gone, row)   the merged cluster's row, in memory of its parts
//   Heights(slot, row, out)  the linkage distance of each entry
#pragma once

#include <algorithm>
#include <numeric>
#include <vector>

#include "common.hpp"

template <typename T>
class CompleteRows {
  public:
    using Value = T;
    explicit CompleteRows(Square<T> square) : square_(square) {}

    void Load(Index slot, T* out) const {
        std::copy(square_.Row(slot), square_.Row(slot) + square_.n, out);
    }
    T At(Index slot, Index other) const { return square_.Row(slot)[other]; }
    static T Join(T x, T y) { return x > y ? x : y; }
    void Store(Index kept, Index, const T* row) {
        std::copy(row, row + square_.n, square_.Row(kept));
    }
    void Heights(Index, const T* row, T* out) const { std::copy(row, row + square_.n, out); }

  private:
    Square<T> square_;
};

// Entries are sums of distances in double: sums of float cosine distances are exact there, so that
// the order of merges does not matter. A merged cluster has the rows of two of its tokens: the
// first half of its doubles fills one, the second half the other.
template <typename T>
class AverageRows {
  public:
    using Value = double;
    explicit AverageRows(Square<T> square)
        : square_(square),
          half_(std::min<Index>(square.n, square.stride * sizeof(T) / sizeof(double))),
          first_(square.n),
          second_(square.n),
          sizes_(square.n, 1.0) {
        std::iota(first_.begin(), first_.end(), 0);
    }

    void Load(Index slot, double* out) const {
        if (sizes_[slot] == 1.0) {
            const T* row = square_.Row(slot);
            for (Index j = 0; j < square_.n; ++j) out[j] = row[j];
        } else {
            std::copy(Doubles(first_[slot]), Doubles(first_[slot]) + half_, out);
            const double* rest = Doubles(second_[slot]);
            std::copy(rest, rest + square_.n - half_, out + half_);
        }
    }
    double At(Index slot, Index other) const {
        return other < half_ ? Doubles(first_[slot])[other] : Doubles(second_[slot])[other - half_];
    }
    static double Join(double x, double y) { return x + y; }
    void Store(Index kept, Index gone, const double* row) {
        second_[kept] = first_[gone];
        sizes_[kept] += sizes_[gone];
        std::copy(row, row + half_, Doubles(first_[kept]));
        std::copy(row + half_, row + square_.n, Doubles(second_[kept]));
    }
    void Heights(Index slot, const double* row, double* out) const {
        const double size = sizes_[slot];
        for (Index j = 0; j < square_.n; ++j) out[j] = row[j] / (size * sizes_[j]);
    }

  private:
    double* Doubles(Index row) const { return reinterpret_cast<double*>(square_.Row(row)); }

    Square<T> square_;
    Index half_;
    std::vector<Index> first_, second_;
    std::vector<double> sizes_;
};
