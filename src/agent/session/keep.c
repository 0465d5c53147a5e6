#include "agent/session/keep.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include <string.h>

void keep_init(struct keep *k, size_t max_bytes)
{
	*k = (struct keep){.half = max_bytes / 2};
}

static void ring_add(struct keep *k, uint64_t at, const char *bytes, size_t len)
{
	if (k->ring == NULL)
		k->ring = mem_alloc(k->half);
	if (len > k->half) {
		at += len - k->half;
		bytes += len - k->half;
		len = k->half;
	}
	while (len > 0) {
		size_t pos = (size_t)(at % k->half);
		size_t n = MIN(len, k->half - pos);

		memcpy(k->ring + pos, bytes, n);
		at += n;
		bytes += n;
		len -= n;
	}
}

void keep_add(struct keep *k, const char *bytes, size_t len)
{
	size_t n = MIN(len, k->half - k->head_len);

	if (n > 0) {
		k->head = mem_grow(k->head, &k->head_cap, k->head_len + n, 1);
		memcpy(k->head + k->head_len, bytes, n);
		k->head_len += n;
	}
	if (len > n)
		ring_add(k, k->total + n - k->half, bytes + n, len - n);
	k->total += len;
}

bool keep_truncated(const struct keep *k)
{
	return k->total > 2 * (uint64_t)k->half;
}

static void add_tail(struct strbuf *b, const struct keep *k)
{
	uint64_t after_head = k->total - k->head_len;
	size_t pos;

	if (after_head <= k->half) {
		strbuf_add(b, k->ring, (size_t)after_head);
		return;
	}
	pos = (size_t)(after_head % k->half);
	strbuf_addf(b, "\n[... %llu bytes left out ...]\n", (unsigned long long)(after_head - k->half));
	strbuf_add(b, k->ring + pos, k->half - pos);
	strbuf_add(b, k->ring, pos);
}

char *keep_text(const struct keep *k)
{
	struct strbuf b = STRBUF(2 * k->half + 128);
	AUTO_STR clean = NULL;
	char *cut;

	strbuf_add(&b, k->head, k->head_len);
	if (k->ring != NULL)
		add_tail(&b, k);
	clean = text_to_utf8(strbuf_str(&b), b.len);
	strbuf_fini(&b);
	/* U+FFFD takes three bytes where there was one. */
	cut = text_cut_middle(clean, strlen(clean), 2 * k->half + 128, NULL);
	return cut;
}

void keep_fini(struct keep *k)
{
	free(k->head);
	free(k->ring);
	*k = (struct keep){0};
}
