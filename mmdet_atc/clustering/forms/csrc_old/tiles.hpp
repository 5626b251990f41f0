// Distances between tokens, tile by tile: read from a matrix, or computed from unit vectors and
// never stored.
//
// Each source offers:
//   size()                          tokens
//   Compute(row, column, tile)      kTileRows x kTileColumns distances; what lies beyond is anything
//   Sum(fewer, more, scratch)       of all distances between two lists of tokens, the same ones
//   SumsAreExact(threads)           whether every sum of them is exact in double
//
// `column` is a multiple of kTileColumns.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <vector>

#include "buffer.hpp"
#include "common.hpp"
#include "share_out.hpp"

// As many accumulators as a processor's vector registers hold.
#if defined(__AVX512F__)
constexpr Index kVectorBytes = 64, kTileRows = 8;
#else
constexpr Index kVectorBytes = 32, kTileRows = 4;
#endif
constexpr Index kTileVectors = 3;
template <typename T>
constexpr Index kLanes = kVectorBytes / sizeof(T);
template <typename T>
constexpr Index kTileColumns = kTileVectors * kLanes<T>;

template <typename T>
using Tile = T[kTileRows][kTileColumns<T>];

// 1 - cosine of unit vectors (n rows of `channels` values). Products are added in the order of the
// channels, so that a distance is the same, to the last bit, wherever in a tile it is computed.
template <typename T>
class DirectionTiles {
  public:
    DirectionTiles(const T* directions, Index n, Index channels)
        : rows_(directions), n_(n), channels_(channels),
          panels_((n + kTileColumns<T> - 1) / kTileColumns<T> * kTileColumns<T> * channels, T(0)) {
        for (Index column = 0; column < n; column += kTileColumns<T>) {
            Pack(
                std::min(kTileColumns<T>, n - column), [=](Index c) { return column + c; },
                panels_.data() + column * channels);
        }
    }

    Index size() const { return n_; }

    void Compute(Index row, Index column, Tile<T>& tile) const {
        const auto token = [=](Index r) { return std::min(row + r, n_ - 1); };
        Multiply<kTileVectors>(token, panels_.data() + column * channels_, tile);
    }

    double Sum(
        const Buffer<Index>& fewer, const Buffer<Index>& more, std::vector<T>* scratch) const {
        const Index rows = fewer.size(), columns = more.size();
        // Zeroes, later former tokens, lie beyond the columns: with what memory happens to hold
        // (subnormal numbers) a tile took ten times as long.
        scratch->resize(kTileColumns<T> * channels_);
        T* const panel = scratch->data();
        Tile<T> tile;
        double sum = 0;
        for (Index column = 0; column < columns; column += kTileColumns<T>) {
            const Index width = std::min(kTileColumns<T>, columns - column);
            Pack(width, [&](Index c) { return more[column + c]; }, panel);
            for (Index row = 0; row < rows; row += kTileRows) {
                const auto token = [&](Index r) { return fewer[std::min(row + r, rows - 1)]; };
                if (width <= kLanes<T>) {
                    Multiply<1>(token, panel, tile);
                } else {
                    Multiply<kTileVectors>(token, panel, tile);
                }
                for (Index r = 0; r < std::min(kTileRows, rows - row); ++r) {
                    for (Index c = 0; c < width; ++c) sum += tile[r][c];
                }
            }
        }
        return sum;
    }

    // In float they are multiples of 2^-24 below 4, and two clusters have at most n * n / 4 pairs.
    bool SumsAreExact(Index) const { return sizeof(T) == sizeof(float) && n_ <= (1 << 14); }

  private:
    // Lays columns side by side, channel by channel.
    template <typename Token>
    void Pack(Index columns, Token token, T* panel) const {
        for (Index c = 0; c < columns; ++c) {
            const T* row = rows_ + token(c) * channels_;
            for (Index k = 0; k < channels_; ++k) panel[k * kTileColumns<T> + c] = row[k];
        }
    }

    // The first vectors of a tile.
    template <Index kVectors, typename Token>
    void Multiply(Token token, const T* panel, Tile<T>& tile) const {
        typedef T Vector __attribute__((vector_size(kVectorBytes), aligned(sizeof(T)), may_alias));
        const T* rows[kTileRows];
        for (Index r = 0; r < kTileRows; ++r) rows[r] = rows_ + token(r) * channels_;
        Vector sum[kTileRows][kVectors] = {};
        for (Index k = 0; k < channels_; ++k) {
            const auto* columns = reinterpret_cast<const Vector*>(panel + k * kTileColumns<T>);
            for (Index r = 0; r < kTileRows; ++r) {
                for (Index v = 0; v < kVectors; ++v) sum[r][v] += rows[r][k] * columns[v];
            }
        }
        for (Index r = 0; r < kTileRows; ++r) {
            auto* out = reinterpret_cast<Vector*>(tile[r]);
            for (Index v = 0; v < kVectors; ++v) out[v] = 1 - sum[r][v];
        }
    }

    const T* rows_;
    Index n_, channels_;
    std::vector<T> panels_;  // kTileColumns tokens each, channel by channel
};

// Of a matrix, the part above the diagonal.
template <typename T>
class SquareTiles {
  public:
    explicit SquareTiles(Square<const T> square) : square_(square) {}

    Index size() const { return square_.n; }

    void Compute(Index row, Index column, Tile<T>& tile) const {
        const Index columns = std::min(kTileColumns<T>, square_.n - column);
        for (Index r = 0; r < std::min(kTileRows, square_.n - row); ++r) {
            std::copy_n(square_.Row(row + r) + column, columns, tile[r]);
        }
    }

    double Sum(const Buffer<Index>& fewer, const Buffer<Index>& more, std::vector<T>*) const {
        double sum = 0;
        for (const Index i : fewer) {
            for (const Index j : more) sum += square_.Row(std::min(i, j))[std::max(i, j)];
        }
        return sum;
    }

    // Looks whether they are multiples of a power of two so large that a sum of n * n / 4 fits.
    bool SumsAreExact(Index threads) const {
        std::atomic<bool> exact{true};
        std::vector<T> largest(square_.n);
        ShareOut(square_.n, threads, [&](Index i) {
            T most = 0;
            const T* row = square_.Row(i);
            for (Index j = i + 1; j < square_.n; ++j) most = std::max(most, std::abs(row[j]));
            largest[i] = most;
        });
        int exponent = 0;
        std::frexp(*std::max_element(largest.begin(), largest.end()), &exponent);
        if (exponent < -500) return false;  // the scale below would not be a number
        const int bits = 55 - 2 * static_cast<int>(std::ceil(std::log2(square_.n)));
        const double scale = std::ldexp(1.0, bits - exponent);
        ShareOut(square_.n, threads, [&](Index i) {
            const T* row = square_.Row(i);
            bool whole = true;
            for (Index j = i + 1; j < square_.n; ++j) {
                const double d = row[j] * scale;
                whole &= std::floor(d) == d;
            }
            if (!whole) exact = false;
        });
        return exact;
    }

  private:
    Square<const T> square_;
};

// Tokens whose rows are one item of work.
constexpr Index kBandRows = 128;

inline Index NumBands(Index n) { return (n + kBandRows - 1) / kBandRows; }

// Calls visit(row, column, tile) for the tiles of a band of rows that reach above the diagonal; in
// them, what is no pair of two tokens in order is kGone.
template <typename T, typename Tiles, typename Visit>
void ForEachTile(const Tiles& tiles, Index band, Visit visit) {
    const Index n = tiles.size();
    const Index begin = band * kBandRows, end = std::min(n, begin + kBandRows);
    Tile<T> tile;
    for (Index column = begin / kTileColumns<T> * kTileColumns<T>; column < n;
         column += kTileColumns<T>) {
        const Index last = std::min(n, column + kTileColumns<T>);
        for (Index row = begin; row < std::min(end, last); row += kTileRows) {
            tiles.Compute(row, column, tile);
            if (row + kTileRows >= column || last < column + kTileColumns<T> ||
                row + kTileRows > n) {
                for (Index r = 0; r < kTileRows; ++r) {
                    for (Index c = 0; c < kTileColumns<T>; ++c) {
                        const bool is_pair = row + r < column + c && column + c < n && row + r < n;
                        if (!is_pair) tile[r][c] = kGone<T>;
                    }
                }
            }
            visit(row, column, tile);
        }
    }
}

template <typename T, typename Tiles>
void FillUpperTriangle(const Tiles& tiles, Square<T> square, Index threads) {
    const Index n = square.n;
    ShareOut(NumBands(n), threads, [&](Index band) {
        ForEachTile<T>(tiles, band, [&](Index row, Index column, const Tile<T>& tile) {
            for (Index r = 0; r < std::min(kTileRows, n - row); ++r) {
                const Index first = std::max<Index>(0, row + r + 1 - column);
                const Index last = std::min(kTileColumns<T>, n - column);
                for (Index c = first; c < last; ++c) square.Row(row + r)[column + c] = tile[r][c];
            }
        });
    });
}
