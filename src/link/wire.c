#include "link/wire.h"
#include <string.h>

#define DEPTH_MAX 8 /* our messages nest three deep; none contains itself */

enum wire_type { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

struct wire {
	const uint8_t *p, *end;
};

static bool read_varint(struct wire *w, uint64_t *ret)
{
	uint64_t v = 0;

	for (unsigned shift = 0; shift < 64 && w->p < w->end; shift += 7) {
		uint8_t byte = *w->p++;

		v |= (uint64_t)(byte & 0x7f) << shift;
		if (byte < 0x80) {
			*ret = v;
			return true;
		}
	}
	return false;
}

static bool skip(struct wire *w, uint64_t n)
{
	if (n > (uint64_t)(w->end - w->p))
		return false;
	w->p += n;
	return true;
}

static bool has_nul(const ProtobufCMessageDescriptor *type, struct wire w, int depth);

/* Field `number`, whose bytes are next. */
static bool bytes_have_nul(const ProtobufCMessageDescriptor *type, struct wire *w, uint64_t number, int depth)
{
	const ProtobufCFieldDescriptor *f =
	    number <= UINT32_MAX ? protobuf_c_message_descriptor_get_field(type, (unsigned)number) : NULL;
	struct wire inner = {.p = w->p};
	uint64_t len;

	if (!read_varint(w, &len))
		return true;
	inner.p = w->p;
	if (!skip(w, len))
		return true;
	inner.end = w->p;
	if (f == NULL || len == 0)
		return false;
	if (f->type == PROTOBUF_C_TYPE_STRING)
		return memchr(inner.p, 0, (size_t)len) != NULL;
	return f->type == PROTOBUF_C_TYPE_MESSAGE && has_nul(f->descriptor, inner, depth + 1);
}

static bool has_nul(const ProtobufCMessageDescriptor *type, struct wire w, int depth)
{
	uint64_t tag, ignored;

	if (depth > DEPTH_MAX)
		return true;
	while (w.p < w.end) {
		bool bad;

		if (!read_varint(&w, &tag))
			return true;
		switch (tag & 7) {
		case WIRE_VARINT:
			bad = !read_varint(&w, &ignored);
			break;
		case WIRE_64:
			bad = !skip(&w, 8);
			break;
		case WIRE_32:
			bad = !skip(&w, 4);
			break;
		case WIRE_BYTES:
			bad = bytes_have_nul(type, &w, tag >> 3, depth);
			break;
		default:
			bad = true;
		}
		if (bad)
			return true;
	}
	return false;
}

bool wire_has_nul(const ProtobufCMessageDescriptor *type, const void *bytes, size_t len)
{
	return has_nul(type, (struct wire){.p = bytes, .end = (const uint8_t *)bytes + len}, 0);
}
