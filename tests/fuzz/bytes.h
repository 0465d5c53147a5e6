/* tests/fuzz/bytes.h: an input taken apart from its front; when it is used up everything is 0 and empty. */
#pragma once
#include "base/macros.h"
#include <string.h>

struct bytes {
	const uint8_t *p;
	size_t len;
};

static inline uint8_t take_u8(struct bytes *b)
{
	if (b->len == 0)
		return 0;
	b->len--;
	return *b->p++;
}

static inline uint32_t take_u32(struct bytes *b)
{
	uint32_t v = 0;

	for (int i = 0; i < 4; i++)
		v = v << 8 | take_u8(b);
	return v;
}

/* At most n bytes; *ret_n says how many there are. */
static inline const uint8_t *take_bytes(struct bytes *b, size_t n, size_t *ret_n)
{
	const uint8_t *at = b->p;

	*ret_n = MIN(n, b->len);
	b->p += *ret_n;
	b->len -= *ret_n;
	return at;
}

/* A number that is mostly small and sometimes absurd: what sequence numbers and lengths go wrong with. */
static inline uint64_t take_number(struct bytes *b)
{
	static const uint64_t odd[] = {
	    UINT64_MAX, INT64_MAX, UINT32_MAX, INT32_MAX, (uint64_t)1 << 32, 0xffff, 1 << 20};
	uint8_t v = take_u8(b);

	return v < 240 ? v % 32 : odd[v % ARRAY_LEN(odd)];
}
