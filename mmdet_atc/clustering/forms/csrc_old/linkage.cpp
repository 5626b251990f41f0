// Exact agglomerative clustering of a batch of images; see docs/clustering.md.
//
// Images are shared out among threads; threads that are left over share the work within an image.
// Values are finite. Functions return 0, or 1 where there is not enough memory.

#include <algorithm>

#include "cluster_image.hpp"
#include "common.hpp"
#include "share_out.hpp"
#include "tiles.hpp"
#include "with_memory.hpp"

namespace {

// `tiles_of(image)` makes an image's source of distances; `wanted` is for all threads.
template <typename T, typename TilesOf>
int ClusterBatch(TilesOf tiles_of, Index batch, Index n, Wanted wanted, Index* labels) {
    return WithMemory([&] {
        const Index threads = wanted.threads;
        wanted.threads = std::max<Index>(1, threads / std::max<Index>(1, batch));
        ShareOut(batch, threads, [&](Index image) {
            ClusterImage<T>(tiles_of(image), wanted, labels + image * n);
        });
    });
}

template <typename T>
int ClusterDirections(
    const T* directions, Index batch, Index n, Index channels, Wanted wanted, Index* labels) {
    const auto tiles_of = [=](Index image) {
        return DirectionTiles<T>(directions + image * n * channels, n, channels);
    };
    return ClusterBatch<T>(tiles_of, batch, n, wanted, labels);
}

template <typename T>
int ClusterSquares(const T* squares, Index batch, Index n, Wanted wanted, Index* labels) {
    const auto tiles_of = [=](Index image) {
        return SquareTiles<T>({squares + image * n * n, n, n});
    };
    return ClusterBatch<T>(tiles_of, batch, n, wanted, labels);
}

template <typename T>
int CosineDistances(
    const T* directions, Index batch, Index n, Index channels, Index threads, T* squares) {
    return WithMemory([&] {
        for (Index image = 0; image < batch; ++image) {
            const DirectionTiles<T> tiles(directions + image * n * channels, n, channels);
            FillUpperTriangle(tiles, Square<T>{squares + image * n * n, n, n}, threads);
        }
    });
}

}  // namespace

#define ATC_FUNCTIONS(T)                                                                          \
    /* Clusters unit vectors (batch x n x channels) by 1 - cosine into `labels` (batch x n). */   \
    extern "C" int atc_cluster_directions_##T(                                                    \
        const T* directions, Index batch, Index n, Index channels, const Wanted* wanted,          \
        Index* labels) {                                                                          \
        return ClusterDirections(directions, batch, n, channels, *wanted, labels);                \
    }                                                                                             \
    /* Clusters by given distances (batch x n x n), of which the upper triangle is read. */       \
    extern "C" int atc_cluster_squares_##T(                                                       \
        const T* squares, Index batch, Index n, const Wanted* wanted, Index* labels) {            \
        return ClusterSquares(squares, batch, n, *wanted, labels);                                \
    }                                                                                             \
    /* Writes the distances that unit vectors are clustered by, above the diagonals. */           \
    extern "C" int atc_cosine_distances_##T(                                                      \
        const T* directions, Index batch, Index n, Index channels, Index threads, T* squares) {   \
        return CosineDistances(directions, batch, n, channels, threads, squares);                 \
    }

ATC_FUNCTIONS(float)
ATC_FUNCTIONS(double)
