// What the operators of torch and onnxruntime check before they cluster, as api.py does.
#pragma once

#include <algorithm>
#include <cmath>
#include <iterator>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "linkage.cpp"

// Throws std::invalid_argument of the rest, written one after the other.
template <typename... Parts>
void Require(bool is_met, const Parts&... message) {
    if (is_met) return;
    std::ostringstream text;
    text.precision(2);
    (text << ... << message);
    throw std::invalid_argument(text.str());
}

inline Linkage LinkageOf(const std::string& name) {
    const std::string names[] = {"single", "complete", "average"};
    const auto found = std::find(std::begin(names), std::end(names), name);
    Require(found != std::end(names), "linkage must be single, complete or average, got ", name);
    return static_cast<Linkage>(found - names);
}

struct Shape {
    template <typename Sizes>
    explicit Shape(const Sizes& sizes) {
        Require(sizes.size() == 3, "features must be (B, N, C), got ", sizes.size(), " dims");
        batch = sizes[0], n = sizes[1], channels = sizes[2];
        Require(channels > 0, "features must have channels, got (", batch, ", ", n, ", 0)");
        Require(n <= 32767, "features must be of at most 32767 tokens, got ", n);
    }
    Index batch, n, channels;
};

// Labels (batch x n) of features (batch x n x channels), all of which have to be below `limit`.
inline void ClusterChecked(
    const double* features, const Shape& shape, double limit, const Wanted& wanted, Index* labels) {
    Require(1 <= wanted.num_clusters && wanted.num_clusters <= shape.n,
            "num_clusters must be in 1..", shape.n, ", got ", wanted.num_clusters);
    std::string bad;
    for (Index image = 0; image < shape.batch; ++image) {
        const double* const begin = features + image * shape.n * shape.channels;
        const bool is_finite = std::all_of(
            begin, begin + shape.n * shape.channels,
            [&](double value) { return std::abs(value) < limit; });  // NaN is not below anything
        if (!is_finite) bad += (bad.empty() ? "" : ", ") + std::to_string(image);
    }
    Require(bad.empty(), "features must be finite, but image(s) [", bad,
            "] of the batch hold NaN, Inf or numbers of ", limit, " and more");
    const int failed = atc_cluster_features(
        features, shape.batch, shape.n, shape.channels, &wanted, labels, nullptr, nullptr);
    if (failed) {
        throw std::runtime_error("not enough memory to cluster " + std::to_string(shape.n) + " tokens");
    }
}
