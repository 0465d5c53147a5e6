/* tests/fuzz/h2_frames.h: HTTP/2 frames out of an input: well-formed in their outside unless the input wants otherwise,
 * so that it gets past the frame layer. */
#pragma once
#include "base/strbuf.h"
#include "bytes.h"

enum { H2_DATA, H2_HEADERS, H2_PRIORITY, H2_RST, H2_SETTINGS, H2_PUSH, H2_PING, H2_GOAWAY, H2_WINDOW, H2_CONTINUATION };

static inline void put_be(struct strbuf *b, uint32_t v, int n)
{
	while (n-- > 0)
		strbuf_addc(b, (char)(v >> (8 * n)));
}

static inline void put_frame(
    struct strbuf *b, uint8_t type, uint8_t flags, uint32_t stream, const void *payload, size_t len)
{
	put_be(b, (uint32_t)len, 3);
	strbuf_addc(b, (char)type);
	strbuf_addc(b, (char)flags);
	put_be(b, stream, 4);
	strbuf_add(b, payload, len);
}

/* One field as HPACK, a literal; `indexed` puts it into the dynamic table. */
static inline void put_field(struct strbuf *b, bool indexed, const void *name, size_t n, const void *value, size_t v)
{
	strbuf_addc(b, indexed ? 0x40 : 0x00);
	strbuf_addc(b, (char)MIN(n, (size_t)126));
	strbuf_add(b, name, MIN(n, (size_t)126));
	strbuf_addc(b, (char)MIN(v, (size_t)126));
	strbuf_add(b, value, MIN(v, (size_t)126));
}

static inline void put_text_field(struct strbuf *b, const char *name, const char *value)
{
	put_field(b, false, name, strlen(name), value, strlen(value));
}

/* A frame of any type, whose payload is the input's. */
static inline void put_raw_frame(struct strbuf *b, struct bytes *in)
{
	uint8_t type = take_u8(in), flags = take_u8(in), id = take_u8(in), len = take_u8(in);
	size_t n, wrong = type & 0x80 ? len & 7 : 0;
	const uint8_t *payload = take_bytes(in, len, &n);

	put_be(b, (uint32_t)(n + wrong), 3);
	strbuf_addc(b, (char)(type & 15));
	strbuf_addc(b, (char)flags);
	put_be(b, id, 4);
	strbuf_add(b, payload, n);
}

/* SETTINGS, PING, WINDOW_UPDATE, RST_STREAM, PRIORITY, GOAWAY with values from the input. */
static inline void put_control(struct strbuf *b, struct bytes *in, uint32_t stream)
{
	AUTO_FINI(strbuf) p = STRBUF(4096);
	uint8_t what = take_u8(in);

	switch (what % 6) {
	case 0:
		for (int n = what >> 6; n > 0; n--) {
			put_be(&p, take_u8(in) % 9, 2);
			put_be(&p, (uint32_t)take_number(in), 4);
		}
		put_frame(b, H2_SETTINGS, p.len == 0 && (what & 32) ? 1 : 0, 0, strbuf_str(&p), p.len);
		break;
	case 1:
		put_frame(b, H2_PING, what >> 7, 0, "12345678", 8);
		break;
	case 2:
		put_be(&p, (uint32_t)take_number(in), 4);
		put_frame(b, H2_WINDOW, 0, what & 32 ? 0 : stream, p.data, p.len);
		break;
	case 3:
		put_be(&p, take_u8(in), 4);
		put_frame(b, H2_RST, 0, stream, p.data, p.len);
		break;
	case 4:
		put_be(&p, take_u8(in), 4);
		strbuf_addc(&p, (char)take_u8(in));
		put_frame(b, H2_PRIORITY, 0, stream, p.data, p.len);
		break;
	default:
		put_be(&p, (uint32_t)take_number(in), 4);
		put_be(&p, what >> 4, 4);
		strbuf_adds(&p, "bye \xff");
		put_frame(b, H2_GOAWAY, 0, 0, p.data, p.len);
	}
}
