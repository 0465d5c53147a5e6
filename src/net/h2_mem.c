/* Memory for nghttp2 sessions. Each allocates one frame buffer of 16 KiB and a bit when it begins, and touches little
 * more than its first page, because our frames are small. From the heap such a buffer is recycled memory, all of it
 * resident, and stays so as long as the connection; here it lies on pages of its own that were never touched, and that
 * go back to the kernel when the session has nothing to send for a while. Everything else comes from the heap. */
#include "base/mem.h"
#include "base/sanitized.h"
#include "net/h2_priv.h"
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SLOT ((size_t)20 * 1024)
#define SLOT_FROM ((size_t)16 * 1024)
#define SLOTS ((size_t)100 * 1024)
#define GROW ((size_t)64) /* slots made usable at a time */

struct h2_mem {
	nghttp2_mem mem;
	char *region; /* SLOTS of them, address space only; NULL: all from the heap */
	size_t n_usable, n_used; /* slots below n_used were handed out once */
	uint32_t *free_slots;
	size_t n_free, cap_free;
	void *latest; /* slot that was handed out last, until asked for; NULL: none */
};

static bool is_slot(const struct h2_mem *m, const void *p)
{
	return m->region != NULL && (const char *)p >= m->region && (const char *)p < m->region + SLOTS * SLOT;
}

/* NULL: there is none. */
static void *slot_take(struct h2_mem *m)
{
	if (m->n_free > 0)
		return m->region + m->free_slots[--m->n_free] * SLOT;
	if (m->n_used == m->n_usable) {
		if (m->n_usable + GROW > SLOTS ||
		    mprotect(m->region + m->n_usable * SLOT, GROW * SLOT, PROT_READ | PROT_WRITE) != 0)
			return NULL;
		m->n_usable += GROW;
	}
	return m->region + m->n_used++ * SLOT;
}

static void slot_give(struct h2_mem *m, void *p)
{
	madvise(p, SLOT, MADV_DONTNEED);
	m->free_slots = mem_grow(m->free_slots, &m->cap_free, m->n_free + 1, sizeof(m->free_slots[0]));
	m->free_slots[m->n_free++] = (uint32_t)(((char *)p - m->region) / (ptrdiff_t)SLOT);
}

static void *h2_mem_take(size_t size, void *user)
{
	struct h2_mem *m = user;
	void *p = m->region != NULL && size >= SLOT_FROM && size <= SLOT ? slot_take(m) : NULL;

	if (p != NULL)
		m->latest = p;
	return p != NULL ? p : mem_alloc(size);
}

static void give(void *p, void *user)
{
	if (is_slot(user, p))
		slot_give(user, p);
	else
		free(p);
}

static void *take_zeroed(size_t n, size_t size, void *user)
{
	void *p;

	if (size != 0 && n > SIZE_MAX / size)
		return NULL;
	p = h2_mem_take(n * size, user);
	return memset(p, 0, n * size);
}

/* The frame buffer is born here: with p == NULL. */
static void *resize(void *p, size_t size, void *user)
{
	void *to;

	if (p == NULL)
		return h2_mem_take(size, user);
	if (!is_slot(user, p))
		return mem_realloc(p, size);
	if (size <= SLOT)
		return p;
	to = mem_alloc(size);
	memcpy(to, p, SLOT);
	slot_give(user, p);
	return to;
}

struct h2_mem *h2_mem_new(void)
{
	struct h2_mem *m = NEW(struct h2_mem);

	m->mem = (nghttp2_mem){
	    .mem_user_data = m, .malloc = h2_mem_take, .free = give, .calloc = take_zeroed, .realloc = resize};
	/* Giving back a part of a page would give back the neighbour's. */
	if (SANITIZED || SLOT % (size_t)sysconf(_SC_PAGESIZE) != 0)
		return m;
	m->region = mmap(NULL, SLOTS * SLOT, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (m->region == MAP_FAILED)
		m->region = NULL;
	else
		madvise(m->region, SLOTS * SLOT, MADV_NOHUGEPAGE);
	return m;
}

void h2_mem_free(struct h2_mem **mp)
{
	struct h2_mem *m = TAKE(*mp);

	if (m == NULL)
		return;
	if (m->region != NULL)
		munmap(m->region, SLOTS * SLOT);
	free(m->free_slots);
	free(m);
}

nghttp2_mem *h2_mem_of(struct h2_mem *m)
{
	return &m->mem;
}

void *h2_mem_latest(struct h2_mem *m)
{
	return TAKE(m->latest);
}

void h2_mem_rest(void *frame_buffer)
{
	madvise(frame_buffer, SLOT, MADV_DONTNEED);
}
