// Running out of memory, told to a caller that knows no exceptions.
#pragma once

#include <new>

// 0, or 1 where there was not enough memory.
template <typename Work>
int WithMemory(Work work) {
    try {
        work();
        return 0;
    } catch (const std::bad_alloc&) {
        return 1;
    }
}
