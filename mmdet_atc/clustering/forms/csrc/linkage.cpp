// Exact agglomerative clustering of a batch of images; see docs/clustering.md.
//
// Images are shared out among threads; threads that are left over share the work within an image.

#include <algorithm>
#include <cmath>
#include <vector>

#include "clusters.hpp"
#include "common.hpp"
#include "directions.hpp"
#include "merging.hpp"
#include "near_pairs.hpp"
#include "share_out.hpp"
#include "with_memory.hpp"

// See LimitRule in cpp.py.
struct LimitRule {
    double power, margin, stretch;
};

// By linkage; tools/misc/tune_near.py measures them.
extern "C" {
LimitRule atc_limit_rules[] = {
    {1.3, 0.05, 1.03},  // single
    {2.5, 0.03, 1.12},  // complete
    {2.0, 0.05, 1.03},  // average
};
}

namespace {

struct Wanted {
    Index num_clusters;
    int linkage;
    Threads threads;
};

// Limits that were tried, pairs of tokens within them, clusters left when these were used up.
struct Report {
    Index limits, pairs, clusters;
};

class Image {
  public:
    Image(const double* features, Index n, Index channels, const Wanted& wanted)
        : directions_(features, n, channels, wanted.threads), wanted_(wanted),
          linkage_(static_cast<Linkage>(wanted.linkage)), count_(n - wanted.num_clusters) {}

    // The first n - num_clusters merges, in order.
    const Pairs& Merge() {
        if (count_ == 0) return merges_;
        // Where different directions are at distance 0 the order of all pairs counts.
        if (!MergeNear(EqualDirections())) MergeNear({});
        if (Index(merges_.size()) < count_) MergeAll();
        return merges_;
    }

    const Report& report() const { return report_; }

  private:
    // Tokens of equal directions: they merge first, each into the first of them.
    Pairs EqualDirections() const {
        Index slots = 1;
        while (slots < 2 * directions_.size()) slots *= 2;
        std::vector<Token> first(slots, -1);  // by hash, or in the next free slot
        Pairs merges;
        for (Token i = 0; i < directions_.size(); ++i) {
            if (directions_.IsZero(i)) continue;
            const std::int64_t* const q = directions_.Row(i);
            std::uint64_t hash = 0;
            for (Index c = 0; c < directions_.channels(); ++c) {
                hash += static_cast<std::uint64_t>(q[c]) * (0x9e3779b97f4a7c15u * (2 * c + 1));
            }
            Index slot = (hash ^ hash >> 29 ^ hash >> 47) & (slots - 1);
            while (first[slot] >= 0 && !directions_.AreEqual(first[slot], i)) {
                slot = (slot + 1) & (slots - 1);
            }
            if (first[slot] < 0) {
                first[slot] = i;
            } else {
                merges.push_back({0, first[slot], i});
            }
        }
        std::sort(merges.begin(), merges.end());
        return merges;
    }

    // By the near pairs of different directions; false if some of them are at distance 0.
    bool MergeNear(const Pairs& equal) {
        std::vector<char> is_gone(directions_.size());
        for (const Pair& pair : equal) is_gone[pair.high] = 1;
        std::vector<Token> kept;
        for (Token i = 0; i < directions_.size(); ++i) {
            if (!is_gone[i]) kept.push_back(i);
        }
        merges_ = equal;
        merges_.resize(std::min<Index>(merges_.size(), count_));
        if (kept.size() < 2) return true;
        NearPairs near(directions_, kept, wanted_.threads);
        const Clusters clusters(directions_.size(), equal);
        std::vector<Distance> nearest = near.NearestOfSample();
        // Nothing is nearer to a zero vector than 1: these merge last.
        nearest.erase(std::lower_bound(nearest.begin(), nearest.end(), kOne), nearest.end());
        if (nearest.empty()) nearest.push_back(0);
        for (int attempt = 0; attempt < 2; ++attempt) {
            const Distance limit = Limit(attempt, near, nearest, kept);
            constexpr double kFew = 0.02;
            if (near.ShareWithin(limit) > kFew) near.ProjectOnAll();
            Pairs pairs = near.Within(limit);
            if (!equal.empty()) {
                for (const Pair& pair : pairs) {
                    if (pair.distance == 0) return false;
                }
            }
            ++report_.limits;
            report_.pairs += pairs.size();
            if (Index(equal.size()) >= count_) break;
            merges_ = equal;
            Run(clusters, kept, std::move(pairs), limit);
            if (Index(merges_.size()) == count_) break;
        }
        report_.clusters = directions_.size() - merges_.size();
        return true;
    }

    // Pairs by position in `kept`.
    void Run(const Clusters& clusters, const std::vector<Token>& kept, Pairs pairs, Distance limit) {
        if (linkage_ == kSingle) {
            for (Pair& pair : pairs) pair = {pair.distance, kept[pair.low], kept[pair.high]};
            MergeLowestEdges(clusters, std::move(pairs), count_, &merges_);
        } else {
            ClosestPairs(directions_, clusters, linkage_, pairs, limit).Run(count_, &merges_);
        }
    }

    void MergeAll() {
        const Clusters clusters(directions_.size(), merges_);
        Pairs pairs = AllPairs(directions_, clusters, linkage_, wanted_.threads);
        if (linkage_ == kSingle) {
            MergeLowestEdges(clusters, std::move(pairs), count_, &merges_);
        } else {
            ClosestPairs(directions_, clusters, linkage_, pairs, kGone).Run(count_, &merges_);
        }
    }

    // A guess of the last merge's height, and a second one where the first was too low. Wrong ones
    // cost time only.
    Distance Limit(
        int attempt, const NearPairs& near, const std::vector<Distance>& nearest,
        const std::vector<Token>& kept) const {
        const auto at = [](const std::vector<Distance>& sorted, double quantile) {
            return static_cast<double>(sorted[static_cast<Index>(quantile * (sorted.size() - 1))]);
        };
        const Index zeros = std::count_if(
            kept.begin(), kept.end(), [&](Token token) { return directions_.IsZero(token); });
        const auto left = static_cast<double>(std::max<Index>(wanted_.num_clusters - zeros, 0));
        const double rate = left / (kept.size() - zeros);
        const LimitRule& rule = atc_limit_rules[linkage_];
        const double quantile = std::clamp(1 - std::pow(rate, rule.power) + rule.margin, 0.0, 1.0);
        double limit = rule.stretch * at(nearest, quantile);
        if (attempt) {
            // Few clusters are far apart; where a tenth of the pairs would not do, all are taken.
            const double share = 24 / std::max(left, 1.0);
            limit = 1.3 * rule.stretch * at(nearest, (1 + quantile) / 2);
            if (share < 0.1) limit = std::max(limit, at(near.Sample(), share));
        }
        return static_cast<Distance>(std::min(limit, 0.99 * kOne));
    }

    Directions directions_;
    Wanted wanted_;
    Linkage linkage_;
    Index count_;
    Pairs merges_;
    Report report_{};
};

}  // namespace

// Clusters features (batch x n x channels): labels (batch x n), and unless null the first merges in
// order (batch x (n - num_clusters)) and a report for each image. 0, or 1 where there is not enough
// memory.
extern "C" int atc_cluster_features(
    const double* features, Index batch, Index n, Index channels, const Wanted* wanted,
    Index* labels, Pair* merges, Report* reports) {
    return WithMemory([&] {
        Wanted mine = *wanted;
        if (batch > 1) {
            // Whoever lends threads need not lend them to each other.
            const Threads& all = wanted->threads;
            mine.threads = all.lender ? 1 : std::max<Index>(1, all.count / batch);
        }
        ShareOut(batch, wanted->threads, [&](Index image) {
            Image work(features + image * n * channels, n, channels, mine);
            const Pairs& found = work.Merge();
            const Clusters clusters(n, found);
            for (Token i = 0; i < n; ++i) labels[image * n + i] = clusters.Number(i);
            if (merges) std::copy(found.begin(), found.end(), merges + image * found.size());
            if (reports) reports[image] = work.report();
        });
    });
}
