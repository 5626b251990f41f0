// What two clusters are to each other when only some distances are known: those of near tokens.
//
// Each class offers, for clusters of `pairs` pairs of tokens:
//   Counts(distance)             whether a distance between tokens is of use
//   Add(total, distance)         the distances between two clusters, from kNothing on
//   From(total, missing)         their link, where `missing` distances are not known
//   FromSum(sum)                 their link, from the sum of all distances
//   IsNear(link, pairs)          whether they may be within the limit
//   Both(x, y)                   a merged cluster's link from those of its two parts
//   One(x, pairs)                the same where the other part, of `pairs`, has no link
//   kOneIsEnough                 whether that may be within the limit
//   Height(link, pairs)          the linkage distance, or less where the link is not exact
//   IsExact(link)
//
// Clusters without a link are above `limit`; distances between tokens are known up to `known`.
#pragma once

#include <limits>

#include "common.hpp"

template <typename T>
class CompleteLinks {
  public:
    using Value = T;
    using Link = T;
    using Total = T;
    static constexpr Total kNothing = std::numeric_limits<T>::lowest();
    static constexpr bool kOneIsEnough = false;

    CompleteLinks(T limit, T /*known*/) : limit_(limit) {}
    Value Limit() const { return limit_; }
    bool Counts(T distance) const { return distance <= limit_; }
    static Total Add(Total total, T distance) { return total > distance ? total : distance; }
    static Link From(Total total, Index missing) { return missing ? kGone<T> : total; }
    bool IsNear(Link link, Index) const { return link <= limit_; }
    static Link Both(Link x, Link y) { return x > y ? x : y; }
    static Link One(Link x, Index) { return x; }
    static Value Height(Link link, Index) { return link; }
    static bool IsExact(Link) { return true; }
    static Link FromSum(double) { return kGone<T>; }  // of links that are not exact: none

  private:
    T limit_;
};

// Sums are exact in double, so that it does not matter in which order they are added up.
template <typename T>
class AverageLinks {
  public:
    struct Link {
        double sum;  // or less, if not exact
        bool exact;
    };
    using Value = double;
    using Total = double;
    static constexpr Total kNothing = 0;
    static constexpr bool kOneIsEnough = true;

    AverageLinks(T limit, T known) : limit_(limit), known_(known) {}
    Value Limit() const { return limit_; }
    bool Counts(T distance) const { return distance <= known_; }
    static Total Add(Total total, T distance) { return total + distance; }
    Link From(Total total, Index missing) const { return {total + missing * known_, missing == 0}; }
    static Link FromSum(double sum) { return {sum, true}; }
    bool IsNear(Link link, Index pairs) const { return Height(link, pairs) <= limit_; }
    static Link Both(Link x, Link y) { return {x.sum + y.sum, x.exact && y.exact}; }
    Link One(Link x, Index pairs) const { return {x.sum + pairs * limit_, false}; }
    static Value Height(Link link, Index pairs) { return link.sum / static_cast<double>(pairs); }
    static bool IsExact(Link link) { return link.exact; }

  private:
    double limit_, known_;
};
