// An array that grows, without the zeroes of a std::vector.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>
#include <type_traits>

template <typename T>
class Buffer {
    static_assert(std::is_trivially_copyable<T>::value, "moved by realloc");

  public:
    T* begin() { return data_.get(); }
    T* end() { return data_.get() + size_; }
    const T* begin() const { return data_.get(); }
    const T* end() const { return data_.get() + size_; }
    std::size_t size() const { return size_; }
    T& operator[](std::size_t i) { return data_[i]; }
    const T& operator[](std::size_t i) const { return data_[i]; }

    // Room for `more` values at the end, of which some may then be taken.
    T* Room(std::size_t more) {
        if (size_ + more > capacity_) Grow(std::max(size_ + more, 2 * capacity_));
        return end();
    }
    void Take(std::size_t count) { size_ += count; }

    void push_back(const T& value) {
        *Room(1) = value;
        ++size_;
    }

    void Append(const Buffer& next) {
        std::copy(next.begin(), next.end(), Room(next.size()));
        Take(next.size());
    }
    void Clear() { size_ = 0; }

  private:
    struct Free {
        void operator()(T* data) const { std::free(data); }
    };

    void Grow(std::size_t capacity) {
        void* grown = std::realloc(data_.get(), capacity * sizeof(T));
        if (!grown) throw std::bad_alloc();
        data_.release();
        data_.reset(static_cast<T*>(grown));
        capacity_ = capacity;
    }

    std::unique_ptr<T[], Free> data_;
    std::size_t size_ = 0, capacity_ = 0;
};
