// Work on several threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

// A program that has threads of its own and lends them.
class Lender {
  public:
    virtual ~Lender() = default;
    // Has up to `count` of its threads call take(); returns after the last call.
    virtual void Run(std::int64_t count, const std::function<void()>& take) const = 0;
};

struct Threads {
    Threads(std::int64_t count, const Lender* lender = nullptr) : count(count), lender(lender) {}
    std::int64_t count;    // at most, the caller's among them
    const Lender* lender;  // unless null: whose threads, in place of new ones
};

// What the threads of one ShareOut have in common, until the last of them has seen it.
struct SharedWork {
    std::atomic<std::int64_t> next{0}, busy{0};
    std::mutex mutex;
    std::condition_variable idle;
    std::exception_ptr thrown;
};

// Runs work(0) .. work(count - 1), each once, on several threads. What one of them throws ends the
// others' work, too, and is thrown here. Where a thread cannot be started (limits of the system),
// those there are do its share. Nobody waits for a thread that has not begun: on a busy processor
// that takes milliseconds, and by then nothing may be left for it.
template <typename Work>
void ShareOut(std::int64_t count, const Threads& threads, Work work) {
    const auto shared = std::make_shared<SharedWork>();
    // Looks at `work` only with an item in hand, which the caller waits for.
    auto take = [shared, count, &work] {
        SharedWork& all = *shared;
        if (all.next >= count) return;
        ++all.busy;
        std::exception_ptr thrown;
        try {
            for (std::int64_t item = all.next++; item < count; item = all.next++) work(item);
        } catch (...) {
            all.next = count;
            thrown = std::current_exception();
        }
        const std::lock_guard<std::mutex> lock(all.mutex);
        if (thrown && !all.thrown) all.thrown = thrown;
        if (--all.busy == 0) all.idle.notify_all();
    };
    const std::int64_t useful = std::min(threads.count, count);
    try {
        if (threads.lender && useful > 1) {
            threads.lender->Run(useful, take);
        } else {
            for (std::int64_t other = 1; other < useful; ++other) std::thread(take).detach();
        }
    } catch (const std::exception&) {
        // No more threads, or no memory for them.
    }
    take();
    std::unique_lock<std::mutex> lock(shared->mutex);
    shared->idle.wait(lock, [&] { return shared->busy == 0; });
    if (shared->thrown) std::rethrow_exception(shared->thrown);
}
