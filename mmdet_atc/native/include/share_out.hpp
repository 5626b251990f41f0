// Work on several threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <thread>
#include <vector>

// Runs work(0) .. work(count - 1), each once, on up to `threads` threads. What one of them throws
// ends the others' work, too, and is thrown here. Where a thread cannot be started (limits of the
// system), those there are do its share.
template <typename Work>
void ShareOut(std::int64_t count, std::int64_t threads, Work work) {
    std::atomic<std::int64_t> next{0};
    std::exception_ptr thrown;
    std::atomic<bool> failed{false};
    auto take = [&] {
        try {
            for (std::int64_t item = next++; item < count; item = next++) work(item);
        } catch (...) {
            next = count;
            if (!failed.exchange(true)) thrown = std::current_exception();
        }
    };
    const auto wanted = std::max<std::int64_t>(std::min(threads, count) - 1, 0);
    std::vector<std::thread> others;
    others.reserve(wanted);  // what throws while threads run would end the process
    try {
        while (static_cast<std::int64_t>(others.size()) < wanted) others.emplace_back(take);
    } catch (const std::exception&) {
        // No more threads, or no memory for them.
    }
    take();
    for (auto& thread : others) thread.join();
    if (thrown) std::rethrow_exception(thrown);
}
