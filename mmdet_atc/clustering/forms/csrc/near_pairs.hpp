// The pairs of tokens within a limit: float32 arithmetic selects, whole numbers decide.
//
// Tokens are projected on few orthonormal axes, along which the image's directions differ most. That
// can only shorten a difference, so a pair within the limit stays within it; of the others few are
// left, and these are found out by their exact distance. With p = Qu of unit vectors u on w axes, and
// a = |p|², a tile holds float32 sums of w + 2 products,
//     p_i p_j - a_i / 2 - a_j / 2  =  -|p_i - p_j|² / 2.
// Its error: rounding p by 2^-24 of itself, at most 4 * 2^-24 (|p_i - p_j| <= 2); rounding the a / 2,
// 2^-24; the sum, (w + 2) * 2^-24 times the sum of magnitudes, which is at most 2. Together, with the
// exact distance's own 2^-46, at most (2 w + 10) * 2^-24; 2 w + 12 is used.
//
// Tokens are sorted along the first axis. Two of them are at least as far apart as they are on it, so
// that tiles beyond the limit there, half of all, need not be computed.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#if defined(__AVX512F__) || (defined(__AVX2__) && defined(__FMA__))
#include <immintrin.h>
#define ATC_X86
#endif

#include "common.hpp"
#include "directions.hpp"
#include "share_out.hpp"

// As many accumulators as a processor's vector registers hold.
#if defined(__AVX512F__)
constexpr Index kVectorBytes = 64, kTileRows = 8, kTileVectors = 3;
#elif defined(ATC_X86)
constexpr Index kVectorBytes = 32, kTileRows = 4, kTileVectors = 2;
#else
constexpr Index kVectorBytes = 16, kTileRows = 4, kTileVectors = 2;
#endif
constexpr Index kLanes = kVectorBytes / sizeof(float);
constexpr Index kTileColumns = kTileVectors * kLanes;
typedef float Vector __attribute__((vector_size(kVectorBytes)));
using Tile = Vector[kTileRows][kTileVectors];

// The one place where products and sums may be rounded together.
inline Vector MultiplyAdd(float x, Vector y, Vector sum) {
#if defined(__AVX512F__)
    return (Vector)_mm512_fmadd_ps(_mm512_set1_ps(x), (__m512)y, (__m512)sum);
#elif defined(ATC_X86)
    return (Vector)_mm256_fmadd_ps(_mm256_set1_ps(x), (__m256)y, (__m256)sum);
#else
    return sum + x * y;
#endif
}

// Calls visit(column) for each value of a tile's row that is at least `threshold`.
template <typename Visit>
void ForEachAtLeast(float threshold, const Vector (&row)[kTileVectors], Visit visit) {
    std::uint64_t found = 0;  // a bit for each column
    for (Index v = 0; v < kTileVectors; ++v) {
#if defined(__AVX512F__)
        const std::uint64_t bits =
            _mm512_cmp_ps_mask((__m512)row[v], _mm512_set1_ps(threshold), _CMP_GE_OQ);
#elif defined(ATC_X86)
        const std::uint64_t bits = _mm256_movemask_ps(
            _mm256_cmp_ps((__m256)row[v], _mm256_set1_ps(threshold), _CMP_GE_OQ));
#else
        std::uint64_t bits = 0;
        for (Index c = 0; c < kLanes; ++c) bits |= std::uint64_t(row[v][c] >= threshold) << c;
#endif
        found |= bits << (v * kLanes);
    }
    for (; found; found &= found - 1) visit(Index(__builtin_ctzll(found)));
}

class NearPairs {
  public:
    // Among some tokens, in rising order.
    NearPairs(const Directions& directions, const std::vector<Token>& tokens, const Threads& threads)
        : directions_(directions), tokens_(tokens), n_(tokens.size()), threads_(threads) {
        constexpr Index kFew = 20;
        if (directions.channels() > kFew) {
            Project(MainAxes(kFew));
        } else {
            ProjectOnAll();
        }
    }

    // On as many axes as there are channels: for directions that differ along all of them.
    void ProjectOnAll() {
        std::vector<double> axes(directions_.channels() * directions_.channels());
        for (Index c = 0; c < directions_.channels(); ++c) axes[c * (directions_.channels() + 1)] = 1;
        Project(axes);
    }

    // The share of pairs, of those of a sample of tokens, that have to be looked at exactly.
    double ShareWithin(Distance limit) const {
        constexpr Index kSample = 8;
        const float threshold = Threshold(limit);
        Index found = 0;
        Tile tile;
        for (Index group = 0; group < kSample; ++group) {
            for (Index column = 0; column < n_; column += kTileColumns) {
                Compute([&](Index r) { return (group * kTileRows + r) * n_ / (kSample * kTileRows); },
                        column, tile);
                for (const auto& row : tile) {
                    ForEachAtLeast(threshold, row, [&](Index c) { found += column + c < n_; });
                }
            }
        }
        return static_cast<double>(found) / (kSample * kTileRows * n_);
    }

    // Sorted distances of a sample of pairs.
    std::vector<Distance> Sample() const {
        constexpr Index kSample = 4096;
        std::vector<Distance> sample(kSample);
        for (Index s = 0; s < kSample; ++s) {
            const Index i = s * n_ / kSample, apart = 1 + s * 2654435761 % (n_ - 1);
            sample[s] = Between(i, (i + apart) % n_);
        }
        std::sort(sample.begin(), sample.end());
        return sample;
    }

    // Sorted distances of a sample of tokens to a near one: almost always the nearest.
    std::vector<Distance> NearestOfSample() const {
        constexpr Index kSample = 256;
        const Index count = std::min(n_, kSample), groups = (count + kTileRows - 1) / kTileRows;
        std::vector<Distance> nearest(count);
        ShareOut(groups, threads_, [&](Index group) {
            Index at[kTileRows], best[kTileRows];
            float greatest[kTileRows];
            for (Index r = 0; r < kTileRows; ++r) {
                at[r] = place_[std::min(group * kTileRows + r, count - 1) * n_ / count];
                best[r] = at[r] ? 0 : 1;
                greatest[r] = std::numeric_limits<float>::lowest();
            }
            Tile tile;
            for (Index column = 0; column < n_; column += kTileColumns) {
                Compute([&](Index r) { return at[r]; }, column, tile);
                for (Index r = 0; r < kTileRows; ++r) {
                    ForEachAtLeast(greatest[r], tile[r], [&](Index c) {
                        const float value = tile[r][c / kLanes][c % kLanes];
                        const Index j = column + c;
                        if (value <= greatest[r] || j >= n_ || j == at[r]) return;
                        greatest[r] = value;
                        best[r] = j;
                    });
                }
            }
            for (Index r = 0; r < kTileRows && group * kTileRows + r < count; ++r) {
                nearest[group * kTileRows + r] = Between(at[r], best[r]);
            }
        });
        std::sort(nearest.begin(), nearest.end());
        return nearest;
    }

    // All pairs within a limit below 1, by the tokens' positions in the list, in no order.
    Pairs Within(Distance limit) const {
        const float threshold = Threshold(limit);
        const auto reach = static_cast<float>(std::sqrt(limit * 0x1p-60) + 8 * 0x1p-24);
        const auto along = [&](Index i) { return rows_[i * width_]; };
        constexpr Index kBand = 128;
        const Index bands = (n_ + kBand - 1) / kBand;
        std::vector<Pairs> found(bands);
        ShareOut(bands, threads_, [&](Index band) {
            const Index begin = band * kBand, end = std::min(n_, begin + kBand);
            Tile tile;
            for (Index column = begin / kTileColumns * kTileColumns; column < n_;
                 column += kTileColumns) {
                if (along(column) - along(end - 1) > reach) break;
                const Index last = std::min(end, column + kTileColumns);
                for (Index row = begin; row < last; row += kTileRows) {
                    if (along(column) - along(std::min(row + kTileRows, end) - 1) > reach) continue;
                    Compute([&](Index r) { return std::min(row + r, n_ - 1); }, column, tile);
                    for (Index r = 0; r < std::min(kTileRows, end - row); ++r) {
                        ForEachAtLeast(threshold, tile[r], [&](Index c) {
                            const Index i = row + r, j = column + c;
                            if (j <= i || j >= n_) return;
                            const Distance distance = Between(i, j);
                            if (distance <= limit) {
                                const auto [low, high] = std::minmax(sorted_[i], sorted_[j]);
                                found[band].push_back({distance, low, high});
                            }
                        });
                    }
                }
            }
        });
        Pairs pairs;
        for (const Pairs& part : found) pairs.insert(pairs.end(), part.begin(), part.end());
        return pairs;
    }

  private:
    // What tiles hold, at least, for pairs within a limit.
    float Threshold(Distance limit) const {
        const double slack = (2 * axes_ + 12) * 0x1p-24;
        return std::nextafter(static_cast<float>(-(limit * 0x1p-61 + slack)), -4.0f);
    }

    Distance Between(Index i, Index j) const {
        return directions_.Between(tokens_[sorted_[i]], tokens_[sorted_[j]]);
    }

    // Orthonormal or zero rows (w x channels): about the main axes of a sample of tokens, by two
    // steps of subspace iteration. Any axes would do; these leave few pairs.
    std::vector<double> MainAxes(Index w) const {
        constexpr Index kSample = 192, kSteps = 2;
        const Index channels = directions_.channels(), count = std::min(n_, kSample);
        std::vector<double> sample(count * channels), mean(channels), axes(w * channels);
        for (Index s = 0; s < count; ++s) {
            const std::int64_t* const q = directions_.Row(tokens_[s * n_ / count]);
            for (Index c = 0; c < channels; ++c) {
                sample[s * channels + c] = q[c] * 0x1p-47;
                mean[c] += sample[s * channels + c] / count;
            }
        }
        for (Index s = 0; s < count; ++s) {
            for (Index c = 0; c < channels; ++c) sample[s * channels + c] -= mean[c];
        }
        const Index first = std::min(w, count) * channels;
        std::copy_n(sample.begin(), first, axes.begin());
        Orthonormalize(&axes);
        for (Index step = 0; step < kSteps; ++step) {
            std::vector<double> next(w * channels);
            for (Index s = 0; s < count; ++s) {
                const double* const x = sample.data() + s * channels;
                for (Index k = 0; k < w; ++k) {
                    const double along = Dot(x, axes.data() + k * channels, channels);
                    for (Index c = 0; c < channels; ++c) next[k * channels + c] += along * x[c];
                }
            }
            axes.swap(next);
            Orthonormalize(&axes);
        }
        return axes;
    }

    // Gram and Schmidt, each row twice; a row that depends on those before it becomes zero.
    void Orthonormalize(std::vector<double>* axes) const {
        const Index channels = directions_.channels(), w = axes->size() / channels;
        for (Index k = 0; k < w; ++k) {
            double* const x = axes->data() + k * channels;
            const double before = std::sqrt(Dot(x, x, channels));
            for (int twice = 0; twice < 2; ++twice) {
                for (Index other = 0; other < k; ++other) {
                    const double* const y = axes->data() + other * channels;
                    const double along = Dot(x, y, channels);
                    for (Index c = 0; c < channels; ++c) x[c] -= along * y[c];
                }
            }
            const double norm = std::sqrt(Dot(x, x, channels));
            const double scale = norm > 1e-6 * before && norm > 1e-100 ? 1 / norm : 0;
            for (Index c = 0; c < channels; ++c) x[c] *= scale;
        }
    }

    static double Dot(const double* x, const double* y, Index count) {
        double sums[8] = {};
        Index c = 0;
        for (; c + 8 <= count; c += 8) {
            for (Index lane = 0; lane < 8; ++lane) sums[lane] += x[c + lane] * y[c + lane];
        }
        for (; c < count; ++c) sums[0] += x[c] * y[c];
        return std::accumulate(sums, sums + 8, 0.0);
    }

    void Project(const std::vector<double>& axes) {
        axes_ = axes.size() / directions_.channels();
        width_ = axes_ + 2;
        rows_.assign(n_ * width_, 0);
        panels_.assign((n_ + kTileColumns - 1) / kTileColumns * kTileColumns * width_, 0);
        std::vector<double> along(n_);
        ForEachDirection([&](Index i) { return Token(i); }, [&](Index i, const double* u) {
            along[i] = Dot(u, axes.data(), directions_.channels());
        });
        sorted_.resize(n_);
        std::iota(sorted_.begin(), sorted_.end(), 0);
        std::sort(sorted_.begin(), sorted_.end(), [&](Token i, Token j) { return along[i] < along[j]; });
        place_.resize(n_);
        for (Index i = 0; i < n_; ++i) place_[sorted_[i]] = i;
        ForEachDirection([&](Index i) { return sorted_[i]; },
                         [&](Index i, const double* u) { Project(axes, i, u); });
    }

    // Calls visit(i, direction) for the token at position at(i) of the list, several at a time.
    template <typename At, typename Visit>
    void ForEachDirection(At at, Visit visit) const {
        constexpr Index kPart = 2 * kTileColumns;  // whole panels
        ShareOut((n_ + kPart - 1) / kPart, threads_, [&](Index part) {
            std::vector<double> u(directions_.channels());
            for (Index i = part * kPart; i < std::min(n_, (part + 1) * kPart); ++i) {
                const std::int64_t* const q = directions_.Row(tokens_[at(i)]);
                for (Index c = 0; c < directions_.channels(); ++c) u[c] = q[c] * 0x1p-47;
                visit(i, u.data());
            }
        });
    }

    // A row holds p, -a / 2, 1; a column p, 1, -a / 2. Zero vectors are out of reach of any limit.
    void Project(const std::vector<double>& axes, Index i, const double* u) {
        const Index channels = directions_.channels();
        float* const row = rows_.data() + i * width_;
        double square = 0;
        for (Index k = 0; k < axes_; ++k) {
            row[k] = static_cast<float>(Dot(u, axes.data() + k * channels, channels));
            square += double(row[k]) * row[k];
        }
        const bool is_zero = directions_.IsZero(tokens_[sorted_[i]]);
        row[axes_] = is_zero ? -8.0f : static_cast<float>(-square / 2);
        row[axes_ + 1] = 1;
        float* const column =
            panels_.data() + i / kTileColumns * kTileColumns * width_ + i % kTileColumns;
        for (Index k = 0; k < axes_; ++k) column[k * kTileColumns] = row[k];
        column[axes_ * kTileColumns] = 1;
        column[(axes_ + 1) * kTileColumns] = row[axes_];
    }

    template <typename At>
    void Compute(At at, Index column, Tile& tile) const {
        const float* rows[kTileRows];
        for (Index r = 0; r < kTileRows; ++r) rows[r] = rows_.data() + at(r) * width_;
        const float* const panel = panels_.data() + column * width_;
        Vector sums[kTileRows][kTileVectors] = {};
        for (Index k = 0; k < width_; ++k) {
            Vector columns[kTileVectors];
            for (Index v = 0; v < kTileVectors; ++v) {
                std::memcpy(&columns[v], panel + k * kTileColumns + v * kLanes, sizeof(Vector));
            }
            for (Index r = 0; r < kTileRows; ++r) {
                for (Index v = 0; v < kTileVectors; ++v) {
                    sums[r][v] = MultiplyAdd(rows[r][k], columns[v], sums[r][v]);
                }
            }
        }
        for (Index r = 0; r < kTileRows; ++r) {
            for (Index v = 0; v < kTileVectors; ++v) tile[r][v] = sums[r][v];
        }
    }

    const Directions& directions_;
    const std::vector<Token>& tokens_;
    Index n_;
    Threads threads_;
    Index axes_ = 0, width_ = 0;
    std::vector<Token> sorted_;  // along the first axis: positions in the list
    std::vector<Token> place_;   // of the list's positions among the sorted
    std::vector<float> rows_;    // n x width_, sorted, as are panels
    std::vector<float> panels_;  // kTileColumns tokens each, axis by axis
};
