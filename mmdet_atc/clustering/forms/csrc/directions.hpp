// Directions of an image's features as whole numbers: distances.py says what is computed here.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "common.hpp"
#include "share_out.hpp"

class Directions {
  public:
    // Of features (n x channels).
    Directions(const double* features, Index n, Index channels, const Threads& threads)
        : n_(n), channels_(channels), q_(n * channels), excess_(n), nonzero_(n) {
        constexpr Index kTokens = 64;
        ShareOut((n + kTokens - 1) / kTokens, threads, [&](Index part) {
            std::vector<double> x(channels), squares;
            for (Index i = part * kTokens; i < std::min(n, (part + 1) * kTokens); ++i) {
                std::copy_n(features + i * channels, channels, x.begin());
                Round(&x, &squares, i);
            }
        });
    }

    Index size() const { return n_; }
    Index channels() const { return channels_; }
    const std::int64_t* Row(Index i) const { return q_.data() + i * channels_; }
    std::int64_t Excess(Index i) const { return excess_[i]; }
    bool IsZero(Index i) const { return !nonzero_[i]; }

    bool AreEqual(Index i, Index j) const {
        return nonzero_[i] && nonzero_[j] && std::equal(Row(i), Row(i) + channels_, Row(j));
    }

    Distance Between(Index i, Index j) const {
        if (IsZero(i) || IsZero(j)) return kOne;
        const std::int64_t *x = Row(i), *y = Row(j);
        Wide sum = 0;
        // Sums of so many products of 24 bits each fit into 64.
        constexpr Index kAtOnce = 8192;
        for (Index begin = 0; begin < channels_; begin += kAtOnce) {
            std::uint64_t high = 0, middle = 0, low = 0;
            for (Index c = begin; c < std::min(channels_, begin + kAtOnce); ++c) {
                const auto difference = static_cast<std::uint64_t>(std::abs(x[c] - y[c]));
                const std::uint64_t upper = difference >> 24, lower = difference & 0xffffff;
                high += upper * upper;
                middle += upper * lower;
                low += lower * lower;
            }
            sum += (Wide(high) << 48) + (Wide(middle) << 25) + low;
        }
        return static_cast<Distance>(sum >> kDroppedBits);
    }

  private:
    // Every operation is rounded by itself: compiled with -ffp-contract=off.
    void Round(std::vector<double>* x, std::vector<double>* squares, Index i) {
        double greatest = 0;
        for (const double value : *x) greatest = std::max(greatest, std::abs(value));
        if (greatest == 0) return;
        int exponent;
        std::frexp(greatest, &exponent);
        const double power = std::ldexp(1.0, exponent - 1);
        Index width = 1;
        while (width < channels_) width *= 2;
        squares->assign(width, 0.0);
        for (Index c = 0; c < channels_; ++c) {
            const double value = (*x)[c] /= power;
            (*squares)[c] = value * value;
        }
        double* const sum = squares->data();
        while (width > 1) {
            width /= 2;
            for (Index c = 0; c < width; ++c) sum[c] += sum[c + width];
        }
        const double norm = std::sqrt(sum[0]);
        std::int64_t* const q = q_.data() + i * channels_;
        std::uint64_t length = 0;  // modulo 2^64, which divides the 2^94 that is taken off
        for (Index c = 0; c < channels_; ++c) {
            q[c] = static_cast<std::int64_t>(std::floor((*x)[c] / norm * 0x1p47 + 0.5));
            length += static_cast<std::uint64_t>(q[c]) * static_cast<std::uint64_t>(q[c]);
        }
        excess_[i] = static_cast<std::int64_t>(length);
        nonzero_[i] = 1;
    }

    Index n_, channels_;
    std::vector<std::int64_t> q_, excess_;
    std::vector<char> nonzero_;
};
