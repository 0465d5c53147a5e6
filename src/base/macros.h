/* base/macros.h: ownership, checks and small conveniences every room uses.
 * Thread: any. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MUST_USE __attribute__((warn_unused_result))
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))
#define UNUSED __attribute__((unused))

/* Frees on every return: `AUTO(buf) b = buf_new(...)` calls buf_free(&b). Free functions take struct x **,
 * accept NULL and clear the pointer. */
#define AUTO(type) __attribute__((cleanup(type##_free), unused)) struct type *
/* The same for char * from malloc. */
#define AUTO_STR __attribute__((cleanup(str_free), unused)) char *
/* For embedded objects: `AUTO_FINI(strbuf) b = STRBUF(1024)` calls strbuf_fini(&b). */
#define AUTO_FINI(type) __attribute__((cleanup(type##_fini), unused)) struct type

/* Moves a pointer out of a variable, leaving NULL behind. */
#define TAKE(p)                                                                                                        \
	({                                                                                                             \
		__typeof__(p) *take_p_ = &(p);                                                                         \
		__typeof__(p) take_v_ = *take_p_;                                                                      \
		*take_p_ = NULL;                                                                                       \
		take_v_;                                                                                               \
	})

/* A result ignored on purpose; gcc does not accept a (void) cast for MUST_USE functions. */
#define IGNORE(expr)                                                                                                   \
	do {                                                                                                           \
		__typeof__(expr) ignored_ UNUSED = (expr);                                                             \
	} while (0)

/* For our own mistakes only, never for input, network or disk. Stays on in release builds. */
#define ENSURE(x)                                                                                                      \
	do {                                                                                                           \
		if (__builtin_expect(!(x), 0))                                                                         \
			ensure_failed(#x, __FILE__, __LINE__, __func__);                                               \
	} while (0)
_Noreturn void ensure_failed(const char *expr, const char *file, int line, const char *func);

/* Two facts that tests rarely see broken: the caller holds this lock (somebody does: nobody else could take it), and it
 * runs on the thread that owns the object. For files that include <pthread.h>. */
#define ENSURE_LOCKED(mtx) ENSURE(pthread_mutex_trylock(mtx) != 0)
#define ENSURE_THREAD(owner) ENSURE(pthread_equal((owner), pthread_self()) != 0)

/* What this thread works on ("run=run-… call=…"), printed when a check fails. Borrowed; NULL clears. */
void thread_context_set(const char *what);

/* Entry points check the magic number of the object they were given. */
#define OBJ_CHECK(p, m) ENSURE((p) != NULL && (p)->magic == (m))
/* The only way a void * becomes typed. */
#define OBJ_FROM(type, p, m)                                                                                           \
	({                                                                                                             \
		struct type *obj_ = (p);                                                                               \
		OBJ_CHECK(obj_, m);                                                                                    \
		obj_;                                                                                                  \
	})

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
