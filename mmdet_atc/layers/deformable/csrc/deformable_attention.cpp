// Multi-scale deformable attention on the CPU (Zhu et al., ICLR 2021, equation 3).
//
// Shapes: value (B, S, H, D), projections (B, Q, H * L * P * 3), reference (Q, 2) as (x, y) in [0, 1],
// output (B, Q, H, D). A query's projections are offsets (H, L, P, 2) in cells of a level, then logits
// (H, L * P). A value's channels lie side by side, so that a sample is four weighted sums of D adjacent
// numbers. Samples outside of a level are zero.
//
// Functions return 0, or 1 where there is not enough memory.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "share_out.hpp"
#include "with_memory.hpp"

namespace {

using Index = std::int64_t;

struct Sizes {
    Index batch, values, heads, channels, levels, queries, points;
    const Index* shapes;  // Height and width of each level.

    Index Count() const { return levels * points; }
    // Where the offsets and the logits of a head of a query lie; `item` counts both.
    Index Offsets(Index item) const {
        return (item / heads * heads * 3 + item % heads * 2) * Count();
    }
    Index Logits(Index item) const {
        return (item / heads * heads * 3 + heads * 2 + item % heads) * Count();
    }
    Index Height(Index level) const { return shapes[2 * level]; }
    Index Width(Index level) const { return shapes[2 * level + 1]; }
};

// The four cells around a location: index within the level or -1 outside, and bilinear weight.
template <typename T>
struct Corners {
    Index cell[4];
    T share[4];
    T left, top;  // Distance to the cell to the left, and to the one above, in cells.

    bool Find(T x, T y, Index height, Index width) {
        x = x * width - T(0.5);
        y = y * height - T(0.5);
        if (!(x > -1 && y > -1 && x < width && y < height)) return false;
        const Index column = static_cast<Index>(std::floor(x)), row = static_cast<Index>(std::floor(y));
        left = x - column;
        top = y - row;
        for (int corner = 0; corner < 4; ++corner) {
            const Index r = row + corner / 2, c = column + corner % 2;
            const bool inside = r >= 0 && r < height && c >= 0 && c < width;
            cell[corner] = inside ? r * width + c : -1;
            share[corner] = (corner / 2 ? top : 1 - top) * (corner % 2 ? left : 1 - left);
        }
        return true;
    }
};

// Where one head of one query looks, and how much each sample weighs.
template <typename T>
struct Samples {
    std::vector<T> weights, x, y;

    explicit Samples(const Sizes& s) : weights(s.Count()), x(s.Count()), y(s.Count()) {}

    void Set(const Sizes& s, const T* reference, const T* offsets, const T* logits) {
        const Index count = s.Count();
        const T largest = *std::max_element(logits, logits + count);
        T total = 0;
        for (Index i = 0; i < count; ++i) total += weights[i] = std::exp(logits[i] - largest);
        for (Index i = 0; i < count; ++i) {
            weights[i] /= total;
            x[i] = reference[0] + offsets[2 * i] / s.Width(i / s.points);
            y[i] = reference[1] + offsets[2 * i + 1] / s.Height(i / s.points);
        }
    }
};

// Calls visit(corners, sample) for each sample that touches its level; `corners.cell` then counts
// from the first value of the first level.
template <typename T, typename Visit>
void ForSamples(const Sizes& s, const Samples<T>& samples, Visit visit) {
    Index start = 0;
    for (Index level = 0; level < s.levels; ++level) {
        for (Index point = 0; point < s.points; ++point) {
            const Index i = level * s.points + point;
            Corners<T> corners;
            if (!corners.Find(samples.x[i], samples.y[i], s.Height(level), s.Width(level))) continue;
            for (Index& cell : corners.cell) cell = cell < 0 ? -1 : cell + start;
            visit(corners, i);
        }
        start += s.Height(level) * s.Width(level);
    }
}

// D is the number of channels, or 0 where it is not known to the compiler.
template <typename T, Index D>
void Forward(
    const Sizes& s, const T* value, const T* projections, const T* reference, T* out,
    Index threads) {
    const Index channels = D ? D : s.channels, step = s.heads * channels;
    constexpr Index kQueries = 64;
    const Index blocks = (s.queries + kQueries - 1) / kQueries;
    ShareOut(s.batch * blocks, threads, [=](Index block) {
        const Index image = block / blocks, first = block % blocks * kQueries;
        const T* from = value + image * s.values * step;
        const Index begin = (image * s.queries + first) * s.heads;
        const Index end = (image * s.queries + std::min(first + kQueries, s.queries)) * s.heads;
        Samples<T> samples(s);
        for (Index item = begin; item < end; ++item) {
            const T* head = from + item % s.heads * channels;
            const T* centre = reference + item / s.heads % s.queries * 2;
            samples.Set(s, centre, projections + s.Offsets(item), projections + s.Logits(item));
            // A sum of known length stays in registers.
            T sums[D ? D : 1] = {};
            T* to = D ? sums : out + item * channels;
            if (!D) std::fill(to, to + channels, T(0));
            ForSamples(s, samples, [&](const Corners<T>& c, Index sample) {
                for (int corner = 0; corner < 4; ++corner) {
                    if (c.cell[corner] < 0) continue;
                    const T share = c.share[corner] * samples.weights[sample];
                    const T* cell = head + c.cell[corner] * step;
                    for (Index d = 0; d < channels; ++d) to[d] += share * cell[d];
                }
            });
            if (D) std::copy(sums, sums + D, out + item * channels);
        }
    });
}

// `grad_value` starts as zeros. A thread has an image's head to itself, so that no two add to the
// same number.
template <typename T, Index D>
void Backward(
    const Sizes& s, const T* value, const T* projections, const T* reference, const T* grad,
    T* grad_value, T* grad_projections, Index threads) {
    const Index channels = D ? D : s.channels, step = s.heads * channels, count = s.Count();
    ShareOut(s.batch * s.heads, threads, [=](Index pair) {
        const Index image = pair / s.heads, head = pair % s.heads;
        const Index start = image * s.values * step + head * channels;
        Samples<T> samples(s);
        std::vector<T> along_weight(count);
        for (Index query = 0; query < s.queries; ++query) {
            const Index item = (image * s.queries + query) * s.heads + head;
            const T* g = grad + item * channels;
            T* to_offsets = grad_projections + s.Offsets(item);
            T* to_logits = grad_projections + s.Logits(item);
            const T* centre = reference + query * 2;
            samples.Set(s, centre, projections + s.Offsets(item), projections + s.Logits(item));
            std::fill(along_weight.begin(), along_weight.end(), T(0));
            std::fill(to_offsets, to_offsets + count * 2, T(0));
            ForSamples(s, samples, [&](const Corners<T>& c, Index sample) {
                T dots[4] = {0, 0, 0, 0};  // Of the gradient with each corner's value.
                const T weight = samples.weights[sample];
                for (int corner = 0; corner < 4; ++corner) {
                    if (c.cell[corner] < 0) continue;
                    const Index at = start + c.cell[corner] * step;
                    const T share = c.share[corner] * weight;
                    T dot = 0;
                    for (Index d = 0; d < channels; ++d) {
                        dot += g[d] * value[at + d];
                        grad_value[at + d] += share * g[d];
                    }
                    dots[corner] = dot;
                    along_weight[sample] += c.share[corner] * dot;
                }
                // An offset counts in cells, as the corners do.
                to_offsets[2 * sample] =
                    weight * ((1 - c.top) * (dots[1] - dots[0]) + c.top * (dots[3] - dots[2]));
                to_offsets[2 * sample + 1] =
                    weight * ((1 - c.left) * (dots[2] - dots[0]) + c.left * (dots[3] - dots[1]));
            });
            T mean = 0;
            for (Index i = 0; i < count; ++i) mean += samples.weights[i] * along_weight[i];
            for (Index i = 0; i < count; ++i) {
                to_logits[i] = samples.weights[i] * (along_weight[i] - mean);
            }
        }
    });
}

}  // namespace

#define ATC_EACH_TYPE(MACRO) MACRO(float) MACRO(double)

#define ATC_DEFINE(T)                                                                              \
    extern "C" int atc_deformable_##T(                                                             \
        const T* value, const T* projections, const T* reference, T* out, Index batch,             \
        Index values, Index heads, Index channels, Index levels, Index queries, Index points,      \
        const Index* shapes, Index threads) {                                                      \
        const Sizes s{batch, values, heads, channels, levels, queries, points, shapes};            \
        auto run = channels == 64   ? Forward<T, 64>                                               \
                   : channels == 32 ? Forward<T, 32>                                               \
                                    : Forward<T, 0>;                                               \
        return WithMemory([&] { run(s, value, projections, reference, out, threads); });           \
    }                                                                                              \
    extern "C" int atc_deformable_backward_##T(                                                    \
        const T* value, const T* projections, const T* reference, const T* grad, T* grad_value,    \
        T* grad_projections, Index batch, Index values, Index heads, Index channels, Index levels, \
        Index queries, Index points, const Index* shapes, Index threads) {                         \
        const Sizes s{batch, values, heads, channels, levels, queries, points, shapes};            \
        auto run = channels == 64   ? Backward<T, 64>                                              \
                   : channels == 32 ? Backward<T, 32>                                              \
                                    : Backward<T, 0>;                                              \
        return WithMemory([&] {                                                                    \
            run(s, value, projections, reference, grad, grad_value, grad_projections, threads);    \
        });                                                                                        \
    }

ATC_EACH_TYPE(ATC_DEFINE)
