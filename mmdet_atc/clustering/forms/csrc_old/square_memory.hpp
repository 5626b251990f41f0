// Memory for the distances of one image.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "common.hpp"

// Rows are an odd number of cache lines apart, so that a column does not fall into few cache sets.
template <typename T>
class SquareMemory {
  public:
    explicit SquareMemory(Index n) : n_(n), stride_((((n + kLine - 1) / kLine) | 1) * kLine) {
        const std::size_t bytes = n_ * stride_ * sizeof(T), whole = (bytes + kPage - 1) / kPage * kPage;
        data_.reset(static_cast<T*>(std::aligned_alloc(kPage, whole)));
        if (!data_) throw std::bad_alloc();
#if defined(__linux__)
        // Rows and columns are read at large strides.
        madvise(data_.get(), whole, MADV_HUGEPAGE);
#endif
    }

    Square<T> square() const { return {data_.get(), n_, stride_}; }

  private:
    static constexpr Index kLine = 64 / sizeof(T);
    static constexpr std::size_t kPage = 4096;
    struct Free {
        void operator()(T* data) const { std::free(data); }
    };

    Index n_, stride_;
    std::unique_ptr<T[], Free> data_;
};
