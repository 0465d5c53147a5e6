/* base/sanitized.h: SANITIZED is 1 in builds with a sanitizer, which needs larger stacks, memory from the heap (it sees
 * errors nowhere else) and, for its leak check, a process that may be traced. */
#pragma once

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif
