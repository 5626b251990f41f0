// Exact agglomerative clustering of one image per thread; see docs/clustering.md.
//
// Complete and average linkage: the closest pair is merged until `num_clusters` are left. Row i
// keeps the distances to the clusters before it (j < i) and a lower bound of its smallest one;
// a bound is made exact only when it is the smallest of all (Müllner 2011, "generic algorithm").
// A cluster lives in the row of its smallest member, so that ties are broken by lowest index pair.
//
// Single linkage: the lowest edges of the minimum spanning tree (Prim).
//
// Matrices are finite and are overwritten. Nothing is allocated per merge.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>
#include <numeric>
#include <thread>
#include <type_traits>
#include <vector>

namespace {

using Index = std::int64_t;

enum Linkage { kSingle = 0, kComplete = 1, kAverage = 2 };

// Stands for "no such cluster any more"; larger than every distance.
template <typename T>
constexpr T kGone = std::numeric_limits<T>::max();

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
void NumberBySmallestMember(const std::vector<Index>& parent, Index* labels) {
    Index next = 0;
    for (std::size_t i = 0; i < parent.size(); ++i) {
        const Index p = parent[i];
        labels[i] = p == static_cast<Index>(i) ? next++ : labels[p];
    }
}

// Distances of complete linkage, in the lower triangle of the square input.
template <typename T>
class CompleteRows {
  public:
    using Height = T;
    CompleteRows(T* square, Index n) : square_(square), n_(n) {}
    T* Row(Index i) { return square_ + i * n_; }
    static T Join(T x, T y) { return x > y ? x : y; }
    void Resize(Index, Index) {}
    Height HeightOf(Index i, Index j) { return Row(i)[j]; }

    void Nearest(Index i, Height* height, Index* neighbour) {
        const T* row = Row(i);
        *height = Smallest(row, i);
        *neighbour = FirstEqual(row, i, *height);
    }

  private:
    T* square_;
    Index n_;
};

// Sums of distances of average linkage, in a packed lower triangle of doubles that takes the place
// of the square input: 4 n^2 bytes, as much as the float square. Sums of float cosine distances
// are exact in double, so the order of merges does not matter.
template <typename T>
class AverageRows {
  public:
    using Height = double;
    AverageRows(T* square, Index n)
        : packed_(reinterpret_cast<double*>(square)), sizes_(n, 1.0), heights_(n) {
        // Packed row i ends before square row i begins, so ascending rows never meet.
        for (Index i = 1; i < n; ++i) {
            const T* from = square + i * n;
            double* to = Row(i);
            for (Index j = 0; j < i; ++j) heights_[j] = from[j];
            std::copy(heights_.begin(), heights_.begin() + i, to);
        }
    }
    double* Row(Index i) { return packed_ + i * (i - 1) / 2; }
    static double Join(double x, double y) { return x + y; }

    void Resize(Index kept, Index gone) {
        sizes_[kept] += sizes_[gone];
        sizes_[gone] = 1.0;
    }
    Height HeightOf(Index i, Index j) { return Row(i)[j] / (sizes_[i] * sizes_[j]); }

    void Nearest(Index i, Height* height, Index* neighbour) {
        const double* row = Row(i);
        const double size = sizes_[i];
        double best = kGone<double>;
        for (Index j = 0; j < i; ++j) {
            const double mean = row[j] / (size * sizes_[j]);
            heights_[j] = mean;
            best = mean < best ? mean : best;
        }
        *height = best;
        *neighbour = FirstEqual(heights_.data(), i, best);
    }

  private:
    double* packed_;
    std::vector<double> sizes_;
    std::vector<double> heights_;
};

template <typename Rows>
void MergeClosestPairs(Rows rows, Index n, Index num_clusters, Index* labels) {
    using Height = typename Rows::Height;
    using Value = std::remove_pointer_t<decltype(rows.Row(0))>;
    std::vector<Height> bound(n, kGone<Height>);
    std::vector<Index> nearest(n, 0);
    std::vector<char> stale(n, 0);
    std::vector<Index> parent(n), active(n);
    std::iota(parent.begin(), parent.end(), 0);
    std::iota(active.begin(), active.end(), 0);
    for (Index i = 1; i < n; ++i) rows.Nearest(i, &bound[i], &nearest[i]);

    for (Index left = n; left > num_clusters; --left) {
        // The lowest pair (nearest[b], b) among those of the smallest height. Bounds only grow, so
        // the search ends as soon as a row of the lowest bound is exact.
        Index a = n, b = n;
        while (b == n) {
            const Height lowest = Smallest(bound.data(), n);
            for (Index i = FirstEqual(bound.data(), n, lowest); i < n; ++i) {
                if (bound[i] != lowest) continue;
                if (stale[i]) rows.Nearest(i, &bound[i], &nearest[i]);
                stale[i] = 0;
                if (bound[i] == lowest && nearest[i] < a) {
                    a = nearest[i];
                    b = i;
                }
            }
        }

        Value* row_a = rows.Row(a);
        Value* row_b = rows.Row(b);
        rows.Resize(a, b);
        // Clusters before a, between a and b, after b: each pair is kept in its later row.
        for (Index c = 0; c < a; ++c) {
            row_a[c] = row_a[c] == kGone<Value> ? row_a[c] : Rows::Join(row_a[c], row_b[c]);
        }
        const auto end = active.begin() + left;
        auto at = std::upper_bound(active.begin(), end, a);
        for (; *at < b; ++at) {
            const Index c = *at;
            Value* row = rows.Row(c);
            row[a] = Rows::Join(row[a], row_b[c]);
            // Row c did not know its distance to b: the merged one can be below its bound.
            const Height height = rows.HeightOf(c, a);
            if (height < bound[c]) {
                bound[c] = height;
                nearest[c] = a;
                stale[c] = 0;
            } else if (height == bound[c] && !stale[c]) {
                nearest[c] = std::min(nearest[c], a);
            } else if (nearest[c] == a) {
                stale[c] = 1;
            }
        }
        const auto place_of_b = at;
        for (++at; at != end; ++at) {
            const Index c = *at;
            Value* row = rows.Row(c);
            row[a] = Rows::Join(row[a], row[b]);
            row[b] = kGone<Value>;
            if (nearest[c] == a || nearest[c] == b) stale[c] = 1;
        }
        if (a > 0) rows.Nearest(a, &bound[a], &nearest[a]);
        stale[a] = 0;
        bound[b] = kGone<Height>;
        stale[b] = 0;
        parent[b] = a;
        std::copy(place_of_b + 1, end, place_of_b);
    }
    NumberBySmallestMember(parent, labels);
}

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

template <typename T>
void SpanningTree(const T* square, Index n, Index num_clusters, Index* labels) {
    // Vertices outside the tree, each with its lowest edge into it: height and tree end.
    std::vector<T> height(n, kGone<T>);
    std::vector<std::int32_t> inside(n, std::numeric_limits<std::int32_t>::max());
    std::vector<char> done(n, 0);
    std::vector<Edge<T>> edges;
    edges.reserve(n - 1);
    Index newest = 0;
    done[0] = 1;
    while (static_cast<Index>(edges.size()) < n - 1) {
        const T* row = square + newest * n;
        const auto me = static_cast<std::int32_t>(newest);
        T lowest = kGone<T>;
        for (Index j = 0; j < n; ++j) {
            const bool better = (row[j] < height[j]) | ((row[j] == height[j]) & (me < inside[j]));
            const bool take = better & !done[j];
            height[j] = take ? row[j] : height[j];
            inside[j] = take ? me : inside[j];
            lowest = height[j] < lowest ? height[j] : lowest;
        }
        Edge<T> best{kGone<T>, n, n};
        for (Index j = FirstEqual(height.data(), n, lowest); j < n; ++j) {
            if (height[j] != lowest || done[j]) continue;
            const Index other = inside[j];
            const Edge<T> edge{lowest, std::min(other, j), std::max(other, j)};
            if (edge < best) {
                best = edge;
                newest = j;
            }
        }
        edges.push_back(best);
        done[newest] = 1;
        height[newest] = kGone<T>;
    }

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

template <typename T>
void ClusterOne(T* square, Index n, Index num_clusters, int linkage, Index* labels) {
    if (num_clusters == n) {
        std::iota(labels, labels + n, 0);
    } else if (linkage == kSingle) {
        SpanningTree(square, n, num_clusters, labels);
    } else if (linkage == kComplete) {
        MergeClosestPairs(CompleteRows<T>(square, n), n, num_clusters, labels);
    } else {
        MergeClosestPairs(AverageRows<T>(square, n), n, num_clusters, labels);
    }
}

template <typename T>
void ClusterBatch(
    T* squares, Index batch, Index n, Index num_clusters, int linkage, int threads, Index* labels) {
    std::atomic<Index> next{0};
    auto work = [&] {
        for (Index image = next++; image < batch; image = next++) {
            ClusterOne(squares + image * n * n, n, num_clusters, linkage, labels + image * n);
        }
    };
    std::vector<std::thread> others;
    for (Index t = 1; t < std::min<Index>(threads, batch); ++t) others.emplace_back(work);
    work();
    for (auto& thread : others) thread.join();
}

}  // namespace

// Clusters `batch` matrices (n x n, symmetric, finite, overwritten) into `labels` (batch x n).
extern "C" void atc_linkage_float(
    float* squares, Index batch, Index n, Index k, int linkage, int threads, Index* labels) {
    ClusterBatch(squares, batch, n, k, linkage, threads, labels);
}

extern "C" void atc_linkage_double(
    double* squares, Index batch, Index n, Index k, int linkage, int threads, Index* labels) {
    ClusterBatch(squares, batch, n, k, linkage, threads, labels);
}
