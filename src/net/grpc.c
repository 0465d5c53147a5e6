#include "net/grpc.h"
#include "base/errors.h"
#include "base/mem.h"
#include <string.h>

#define PREFIX_LEN 5

int grpc_frame(struct strbuf *out, const void *msg, size_t len)
{
	unsigned char prefix[PREFIX_LEN];

	if (len > UINT32_MAX || len > out->max || out->max - len < PREFIX_LEN ||
	    out->len > out->max - len - PREFIX_LEN) {
		out->overflowed = true;
		return ERR_TOO_LARGE;
	}
	prefix[0] = 0;
	prefix[1] = (unsigned char)(len >> 24);
	prefix[2] = (unsigned char)(len >> 16);
	prefix[3] = (unsigned char)(len >> 8);
	prefix[4] = (unsigned char)len;
	strbuf_add(out, prefix, sizeof(prefix));
	return strbuf_add(out, msg, len);
}

void grpc_reader_init(struct grpc_reader *r, size_t max_msg)
{
	*r = (struct grpc_reader){.in = STRBUF(SIZE_MAX / 2), .max_msg = max_msg};
}

void grpc_reader_fini(struct grpc_reader *r)
{
	strbuf_fini(&r->in);
	r->taken = 0;
}

/* Looks at the prefix at `at`. ERR_EMPTY: not all of it is there yet. */
static int prefix_at(const struct grpc_reader *r, size_t at, size_t *ret_len)
{
	const unsigned char *p;
	size_t have = r->in.len - at, len;

	if (have == 0)
		return ERR_EMPTY;
	p = (const unsigned char *)r->in.data + at;
	if (p[0] != 0)
		return ERR_PROTOCOL;
	if (have < PREFIX_LEN)
		return ERR_EMPTY;
	len = (size_t)p[1] << 24 | (size_t)p[2] << 16 | (size_t)p[3] << 8 | (size_t)p[4];
	if (len > r->max_msg)
		return ERR_TOO_LARGE;
	*ret_len = len;
	return OK;
}

static void drop_taken(struct grpc_reader *r)
{
	strbuf_consume(&r->in, r->taken);
	r->taken = 0;
	/* One large message must not leave its buffer behind on a stream that idles for days. */
	if (r->in.len == 0 && r->in.cap > 16 * 1024)
		strbuf_fini(&r->in);
}

int grpc_reader_feed(struct grpc_reader *r, const void *bytes, size_t len)
{
	size_t at = 0, msg;
	int rc;

	drop_taken(r);
	if (strbuf_add(&r->in, bytes, len) != OK)
		return ERR_TOO_LARGE;
	while ((rc = prefix_at(r, at, &msg)) == OK) {
		if (r->in.len - at - PREFIX_LEN < msg)
			return OK;
		at += PREFIX_LEN + msg;
	}
	return rc == ERR_EMPTY ? OK : rc;
}

int grpc_reader_next(struct grpc_reader *r, const void **ret_msg, size_t *ret_len)
{
	size_t msg;
	int rc;

	/* Moving the rest down for every small message would be quadratic: it is done when half is used up. */
	if (r->taken * 2 >= r->in.len)
		drop_taken(r);
	rc = prefix_at(r, r->taken, &msg);
	if (rc != OK)
		return rc;
	if (r->in.len - r->taken - PREFIX_LEN < msg)
		return ERR_EMPTY;
	*ret_msg = r->in.data + r->taken + PREFIX_LEN;
	*ret_len = msg;
	r->taken += PREFIX_LEN + msg;
	return OK;
}

char *grpc_message_encode(const char *text)
{
	static const char hex[] = "0123456789ABCDEF";
	char *out = mem_alloc(strlen(text) * 3 + 1), *o = out;

	for (const unsigned char *p = (const unsigned char *)text; *p != '\0'; p++) {
		if (*p >= 0x20 && *p <= 0x7e && *p != '%') {
			*o++ = (char)*p;
			continue;
		}
		*o++ = '%';
		*o++ = hex[*p >> 4];
		*o++ = hex[*p & 15];
	}
	*o = '\0';
	return out;
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

char *grpc_message_decode(const char *value)
{
	size_t len = strlen(value);
	char *out = mem_alloc(len + 1), *o = out;

	/* The protocol asks for leniency: a bad escape stands for itself. %00 too, a C string cannot hold it. */
	for (size_t i = 0; i < len; i++) {
		int hi = -1, lo = -1;

		if (value[i] == '%' && i + 2 < len) {
			hi = hex_value(value[i + 1]);
			lo = hex_value(value[i + 2]);
		}
		if (hi < 0 || lo < 0 || (hi | lo) == 0) {
			*o++ = value[i];
			continue;
		}
		*o++ = (char)(hi << 4 | lo);
		i += 2;
	}
	*o = '\0';
	return out;
}
