// Merges the closest clusters for as long as they are within a limit, given all links within it.
//
// Clusters are numbered by age: those of the start 0 .. m-1, in the order of their smallest member
// and in slots of the same numbers, then the merged ones.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

#include "buffer.hpp"
#include "common.hpp"
#include "lowest_pair.hpp"

template <typename Link>
struct Neighbour {
    std::int32_t other;
    Link link;
};

// Clusters at the start of a stage: their sizes, and the neighbours of c at begin[c] ..
// begin[c + 1], those before c up to later[c].
template <typename Link>
struct Neighbourhood {
    std::vector<Index> size, begin, later;
    Buffer<Neighbour<Link>> neighbours;

    void Append(const Neighbourhood& next) {
        const Index offset = neighbours.size();
        size.insert(size.end(), next.size.begin(), next.size.end());
        for (const Index at : next.begin) begin.push_back(offset + at);
        for (const Index at : next.later) later.push_back(offset + at);
        neighbours.Append(next.neighbours);
    }
};

template <typename Links>
class NearStage {
    using Value = typename Links::Value;
    using Link = typename Links::Link;
    using Id = std::int32_t;

  public:
    NearStage(Neighbourhood<Link> start, Links links)
        : start_(std::move(start)), links_(links), m_(start_.size.size()), lowest_(m_), id_(m_),
          slot_(2 * m_), size_(2 * m_), alive_(2 * m_, 0), own_(2 * m_ + 1, 0),
          newest_(2 * m_, -1), link_(2 * m_), seen_(2 * m_, -1) {
        std::iota(id_.begin(), id_.end(), 0);
        std::iota(slot_.begin(), slot_.begin() + m_, 0);
        std::copy(start_.size.begin(), start_.size.end(), size_.begin());
        std::fill(alive_.begin(), alive_.begin() + m_, 1);
    }

    // Merges up to `most` times and returns how often. `merged(kept, gone)` is told of each merge;
    // `sum(x, y)` gives that of all distances between the clusters of two slots.
    template <typename Sum, typename Merged>
    Index Run(Index most, Sum sum, Merged merged) {
        for (Index slot = 0; slot < m_; ++slot) SetNearest(slot, FindNearest(id_[slot]));
        for (Index count = 0; count < most; ++count) {
            const auto [kept, gone] = lowest_.Find([&](Index slot) { Rescan(slot, sum); });
            if (kept == m_ || lowest_.Height() > links_.Limit()) return count;
            Merge(kept, gone, static_cast<Id>(m_ + count));
            merged(kept, gone);
        }
        return most;
    }

  private:
    struct Edge {
        Id older, younger;
        std::int32_t next;  // the edge before it from the older cluster to a younger one
        Link link;
    };

    struct Nearest {
        Value height = kGone<Value>;
        Slot slot = std::numeric_limits<Slot>::max();
        Link* link = nullptr;
    };

    void Offer(Nearest* best, Id id, Id other, Link* link) const {
        const Value height = links_.Height(*link, size_[id] * size_[other]);
        const Slot slot = slot_[other];
        if (height < best->height || (height == best->height && slot < best->slot)) {
            *best = {height, slot, link};
        }
    }

    Nearest FindNearest(Id id) {
        Nearest best;
        ForEachOlder(id, [&](Id other, Link& link) { Offer(&best, id, other, &link); });
        return best;
    }

    void SetNearest(Index slot, const Nearest& best) {
        if (best.link && !Links::IsExact(*best.link)) {
            lowest_.SetBound(slot, best.height, best.slot);
        } else {
            lowest_.Set(slot, best.height, best.slot);
        }
    }

    // Sums are completed as far as the nearest cluster depends on them.
    template <typename Sum>
    void Rescan(Index slot, Sum sum) {
        Nearest best = FindNearest(id_[slot]);
        while (best.link && !Links::IsExact(*best.link)) {
            *best.link = Links::FromSum(sum(best.slot, slot));
            best = FindNearest(id_[slot]);
        }
        SetNearest(slot, best);
    }

    template <typename Visit>
    void ForEachOlder(Id id, Visit visit) {
        if (id < m_) VisitStart(start_.begin[id], start_.later[id], visit);
        for (Index e = own_[id]; e < own_[id + 1]; ++e) {
            if (alive_[edges_[e].older]) visit(edges_[e].older, edges_[e].link);
        }
    }

    template <typename Visit>
    void ForEach(Id id, Visit visit) {
        ForEachOlder(id, visit);
        if (id < m_) VisitStart(start_.later[id], start_.begin[id + 1], visit);
        for (std::int32_t e = newest_[id]; e >= 0; e = edges_[e].next) {
            if (alive_[edges_[e].younger]) visit(edges_[e].younger, edges_[e].link);
        }
    }

    template <typename Visit>
    void VisitStart(Index begin, Index end, Visit visit) {
        for (Index p = begin; p < end; ++p) {
            auto& [other, link] = start_.neighbours[p];
            if (alive_[other]) visit(other, link);
        }
    }

    void Merge(Slot kept, Slot gone, Id merged) {
        const Id x = id_[kept], y = id_[gone];
        alive_[x] = alive_[y] = 0;
        alive_[merged] = 1;
        size_[merged] = size_[x] + size_[y];
        slot_[merged] = kept;
        id_[kept] = merged;
        Join(x, y, merged);
        own_[merged] = edges_.size();
        for (const Id other : joined_) {
            const auto edge = static_cast<std::int32_t>(edges_.size());
            edges_.push_back({other, merged, newest_[other], link_[other]});
            newest_[other] = edge;
        }
        own_[merged + 1] = edges_.size();
        lowest_.Forget(kept, gone);
        SetNearest(kept, FindNearest(merged));
    }

    // Finds out to whom the merged cluster has links, and which.
    void Join(Id x, Id y, Id merged) {
        joined_.Clear();
        ForEach(x, [&](Id other, Link link) {
            if (Links::kOneIsEnough) joined_.push_back(other);
            seen_[other] = merged;
            link_[other] = link;
        });
        const std::size_t of_x = joined_.size();
        ForEach(y, [&](Id other, Link link) {
            if (seen_[other] == merged) {
                if (!Links::kOneIsEnough) joined_.push_back(other);
                seen_[other] = -1;
                link_[other] = Links::Both(link_[other], link);
            } else if (Links::kOneIsEnough) {
                joined_.push_back(other);
                link_[other] = links_.One(link, size_[x] * size_[other]);
            }
        });
        for (std::size_t k = 0; k < of_x; ++k) {
            const Id other = joined_[k];
            if (seen_[other] == merged) {
                link_[other] = links_.One(link_[other], size_[y] * size_[other]);
            }
        }
    }

    Neighbourhood<Link> start_;
    Links links_;
    Index m_;
    LowestPair<Value> lowest_;
    std::vector<Id> id_;  // by slot
    // By cluster.
    std::vector<Slot> slot_;
    std::vector<Index> size_;
    std::vector<char> alive_;
    std::vector<Index> own_;            // a merged one's edges to older clusters: own_[id] ..
    std::vector<std::int32_t> newest_;  // its newest edge to a younger one
    Buffer<Edge> edges_;
    // Of the merge at hand: neighbours, their links, and for whom only the first part has one.
    Buffer<Id> joined_;
    std::vector<Link> link_;
    std::vector<Id> seen_;
};
