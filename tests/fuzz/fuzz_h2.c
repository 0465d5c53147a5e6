/* HTTP/2 as the server speaks it: the input is a script of frames, answers, pauses and the passing of time. What goes
 * back must be a sequence of sound frames, and at the end everything must be over and given back. */
#include "h2_frames.h"
#include "net_bed.h"

#define STREAMS 128

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const methods[] = {"POST", "GET", "HEAD", "PUT", "CONNECT", "OPTIONS"};
static const char *const paths[] = {
    "/", "/s", "/cd", "/mm", "/xc", "/xb", "/xa", "/xn", "/sc", "/cx?q=1", "*", "", "x", "/sb", "/c\x80", "http://h/a"};

static void put_extra_fields(struct strbuf *h, struct bytes *in, uint8_t what)
{
	static const char *const lengths[] = {"0", "5", "20", "-1", "99999999999999999999"};

	if (what & 1)
		put_text_field(h, "content-length", lengths[take_u8(in) % ARRAY_LEN(lengths)]);
	if (what & 2)
		put_text_field(h, "host", take_u8(in) & 1 ? "h" : "other");
	if (what & 4)
		put_text_field(h, "te", "trailers");
	if (what & 8) {
		uint8_t n = take_u8(in);
		size_t name_len, value_len;
		const uint8_t *name = take_bytes(in, n & 15, &name_len), *value = take_bytes(in, n >> 4, &value_len);

		for (int i = n & 1 ? 1 : 14; i > 0; i--)
			put_field(h, n & 2, name, name_len, value, value_len);
	}
}

static void put_request(struct strbuf *b, struct bytes *in, uint32_t stream)
{
	AUTO_FINI(strbuf) h = STRBUF((size_t)64 * 1024);
	uint8_t what = take_u8(in), which = take_u8(in);
	size_t first;

	put_text_field(&h, ":method", methods[(which >> 4) % ARRAY_LEN(methods)]);
	put_text_field(&h, ":scheme", "http");
	if (!(what & 16))
		put_text_field(&h, ":authority", "h");
	put_text_field(&h, ":path", paths[which % ARRAY_LEN(paths)]);
	put_extra_fields(&h, in, what);
	first = what & 32 ? h.len / 2 : h.len;
	put_frame(b, H2_HEADERS, (uint8_t)((what & 64 ? 1 : 0) | (what & 32 ? 0 : 4)), stream, h.data, first);
	if (what & 32)
		put_frame(b, H2_CONTINUATION, what & 128 ? 0 : 4, stream, h.data + first, h.len - first);
}

static void put_data(struct strbuf *b, struct bytes *in, uint32_t stream)
{
	static const char zeros[4096];
	uint8_t what = take_u8(in);
	size_t n;
	const uint8_t *bytes = take_bytes(in, what & 15, &n);

	if (what & 32)
		put_frame(b, H2_DATA, what & 16 ? 1 : 0, stream, zeros, sizeof zeros);
	else
		put_frame(b, H2_DATA, what & 16 ? 1 : 0, stream, bytes, n);
}

static void put_trailers(struct strbuf *b, struct bytes *in, uint32_t stream)
{
	AUTO_FINI(strbuf) h = STRBUF(4096);

	put_extra_fields(&h, in, take_u8(in));
	put_frame(b, H2_HEADERS, 5, stream, strbuf_str(&h), h.len);
}

static void pause_or_resume(struct bytes *in)
{
	uint8_t what = take_u8(in);

	if (bed.n_pending == 0)
		return;
	http_pause(bed.pending[what / 2 % bed.n_pending], what & 1);
}

struct play {
	struct strbuf b; /* not given yet */
	uint32_t next;
};

static void act(struct play *p, struct bytes *in)
{
	uint8_t op = take_u8(in);
	uint32_t stream = op & 16 ? 1 + 2 * (take_u8(in) % (p->next / 2 + 1)) : MAX(p->next, 2u) - 2 + 1;

	switch (op & 15) {
	case 0:
	case 1:
		p->next += 2;
		put_request(&p->b, in, p->next - 1);
		break;
	case 2:
	case 3:
		put_data(&p->b, in, stream);
		break;
	case 4:
		put_trailers(&p->b, in, stream);
		break;
	case 5:
	case 6:
		put_control(&p->b, in, stream);
		break;
	case 7:
		put_raw_frame(&p->b, in);
		break;
	case 8:
	case 9:
		bed_answer();
		break;
	case 10:
		pause_or_resume(in);
		break;
	case 11:
		bed_expire();
		break;
	case 12:
		bed.later = !bed.later;
		break;
	case 13:
		if (op & 128)
			bed_drain();
		break;
	case 14:
		bed_pump();
		break;
	default:
		strbuf_addc(&p->b, (char)op);
	}
}

static uint32_t be(const char *s, int n)
{
	uint32_t v = 0;

	while (n-- > 0)
		v = v << 8 | (unsigned char)*s++;
	return v;
}

/* What may follow on a stream. */
struct stream {
	bool ended, reset;
};

static void check_frame(struct stream *streams, uint8_t type, uint8_t flags, uint32_t id, size_t len)
{
	struct stream *s = &streams[id % STREAMS];

	if (type == H2_SETTINGS || type == H2_PING || type == H2_GOAWAY) {
		ENSURE(id == 0);
		return;
	}
	if (type == H2_WINDOW) {
		ENSURE(len == 4);
		return;
	}
	/* The bed's connections never have more streams than that. */
	ENSURE((id & 1) != 0 || id == 0);
	ENSURE(id != 0 && (type == H2_HEADERS || type == H2_DATA || type == H2_RST || type == H2_CONTINUATION));
	ENSURE(!s->reset);
	ENSURE(!s->ended || type == H2_RST || type == H2_CONTINUATION);
	s->reset = type == H2_RST;
	s->ended |= (type == H2_HEADERS || type == H2_DATA) && (flags & 1);
}

static void check_out(void)
{
	struct stream streams[STREAMS] = {0};
	const char *s = strbuf_str(&bed.out);
	size_t at = 0;

	while (bed.out.len - at >= 9) {
		size_t len = be(s + at, 3);
		uint32_t id = be(s + at + 5, 4);

		ENSURE(len <= 16384);
		ENSURE(at > 0 || s[3] == H2_SETTINGS);
		if (id < STREAMS)
			check_frame(streams, (uint8_t)s[at + 3], (uint8_t)s[at + 4], id, len);
		if (bed.out.len - at - 9 < len)
			return; /* cut */
		at += 9 + len;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
	struct play p = {.b = STRBUF((size_t)16 * 1024 * 1024)};
	struct bytes in = {data, size};
	size_t piece = (take_u8(&in) & 31) * 7 + 1;

	bed.later = false;
	bed_open();
	strbuf_adds(&p.b, preface);
	put_frame(&p.b, H2_SETTINGS, 0, 0, "", 0);
	while (in.len > 0 || p.b.len > 0) {
		size_t n = MIN(piece, p.b.len);

		if (in.len > 0)
			act(&p, &in);
		n = in.len > 0 ? MIN(piece, p.b.len) : p.b.len;
		if (n > 0 && !bed_feed(p.b.data, MIN(n, READ_BUFFER)))
			break;
		strbuf_consume(&p.b, MIN(n, READ_BUFFER));
		if (bed.conn == NULL)
			break;
	}
	strbuf_fini(&p.b);
	bed_close(size & 1);
	check_out();
	bed_fini();
	return 0;
}
