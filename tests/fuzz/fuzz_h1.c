/* HTTP/1.1 as the server reads and answers it, through a connection and its sniffing. First byte: size of the pieces
 * (6 bits), whether answers wait for the end, and whether the peer leaves in order. The rest is what the peer sends.
 * However it is cut, the same requests must come out, and what goes back must be well-formed. */
#include "net_bed.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct reply {
	int status;
	long length; /* -1: not given */
	bool chunked, close;
};

/* Position behind the line's CRLF; 0: it is not complete. */
static size_t line_end(const char *s, size_t at, size_t len)
{
	const char *nl = memchr(s + at, '\n', len - at);

	if (nl == NULL)
		return 0;
	ENSURE(nl > s + at && nl[-1] == '\r');
	return (size_t)(nl + 1 - s);
}

static void read_field(struct reply *r, const char *line, size_t len)
{
	AUTO_STR text = str_ndup(line, len);
	char *colon = strstr(text, ": ");

	ENSURE(colon != NULL && colon > text && strlen(text) == len && strchr(text, '\r') == NULL);
	for (const char *c = text; c < colon; c++)
		ENSURE((*c >= 'a' && *c <= 'z') || *c == '-');
	*colon = '\0';
	if (strcmp(text, "content-length") == 0) {
		ENSURE(r->length == -1);
		r->length = strtol(colon + 2, NULL, 10);
	}
	r->chunked |= strcmp(text, "transfer-encoding") == 0;
	r->close |= strcmp(text, "connection") == 0;
	ENSURE(!r->chunked || r->length < 0);
}

/* The fields up to the empty line. */
static size_t read_fields(struct reply *r, const char *s, size_t at, size_t len)
{
	for (;;) {
		size_t end = line_end(s, at, len);

		if (end == 0 || end == at + 2)
			return end;
		read_field(r, s + at, end - at - 2);
		at = end;
	}
}

static size_t skip_chunks(const char *s, size_t at, size_t len)
{
	struct reply trailers = {.length = -1};

	for (;;) {
		size_t end = line_end(s, at, len);
		unsigned long n = end != 0 ? strtoul(s + at, NULL, 16) : 0;

		if (end == 0)
			return 0;
		if (n == 0)
			return read_fields(&trailers, s, end, len);
		if (len - end < n + 2)
			return 0;
		ENSURE(memcmp(s + end + n, "\r\n", 2) == 0);
		at = end + n + 2;
	}
}

enum is_head { NOT_HEAD, HEAD, MAYBE_HEAD };

/* Whether the request that answer n is for was HEAD. One that broke off before its head ended never came to the
 * application; how it began is certain only where it is the first. */
static enum is_head asked_by_head(size_t n, const uint8_t *data, size_t size)
{
	static const char word[] = "HEAD ";
	size_t word_len = sizeof word - 1;

	if (n < bed.methods.len)
		return strbuf_str(&bed.methods)[n] == 'H' ? HEAD : NOT_HEAD;
	if (n > 0)
		return memmem(data, size, word, word_len) != NULL ? MAYBE_HEAD : NOT_HEAD;
	size = MIN(size, bed.limits.max_head_bytes + 1); /* no more is looked at */
	while (size >= 2 && memcmp(data, "\r\n", 2) == 0) { /* empty lines before a request are skipped */
		data += 2;
		size -= 2;
	}
	return size >= word_len && memcmp(data, word, word_len) == 0 ? HEAD : NOT_HEAD;
}

/* One answer. Position behind it; 0: it is not complete. */
static size_t read_reply(struct reply *r, enum is_head head, const char *s, size_t at, size_t len)
{
	size_t end;

	*r = (struct reply){.length = -1};
	end = line_end(s, at, len);
	if (end == 0)
		return 0;
	ENSURE(end - at > 15 && memcmp(s + at, "HTTP/1.1 ", 9) == 0 && s[at + 12] == ' ');
	r->status = (int)strtol(s + at + 9, NULL, 10);
	end = read_fields(r, s, end, len);
	if (end == 0 || r->status == 100 || r->status == 204)
		return end;
	/* The answer to HEAD names a length and has no body, also where it is a refusal. */
	if (head == HEAD || (head == MAYBE_HEAD && r->status >= 400 && r->close && len == end))
		return end;
	if (r->chunked)
		return skip_chunks(s, end, len);
	if (r->length < 0)
		return r->close ? len : end;
	return len - end >= (size_t)r->length ? end + (size_t)r->length : 0;
}

static size_t check_replies(const uint8_t *data, size_t size)
{
	const char *s = strbuf_str(&bed.out);
	size_t at = 0, n = 0;

	while (at < bed.out.len) {
		struct reply r;

		at = read_reply(&r, asked_by_head(n, data, size), s, at, bed.out.len);
		if (at == 0) {
			ENSURE(bed.aborted || bed.broken);
			return n;
		}
		ENSURE(!r.close || at == bed.out.len);
		n += r.status != 100;
	}
	ENSURE(n <= bed.methods.len + 1);
	return n;
}

/* Returns what the application understood. */
static struct strbuf run(const uint8_t *data, size_t size, size_t piece, bool later, bool orderly, size_t *ret_replies)
{
	struct strbuf said;

	bed.later = later;
	bed_open();
	for (size_t at = 0; at < size; at += piece)
		if (!bed_feed(data + at, MIN(piece, size - at)))
			break;
	bed_close(orderly);
	/* Who leaves without a word may find an answer cut short. */
	bed.broken = later || !orderly;
	*ret_replies = bed.aborted || memcmp(strbuf_str(&bed.out), "HTTP/", MIN(bed.out.len, (size_t)5)) != 0
			   ? 0
			   : check_replies(data, size);
	said = bed.said;
	bed.said = STRBUF(0);
	bed_fini();
	return said;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char preface[] = "PRI * HTTP/2";
	size_t n_whole, n_pieces;

	if (size < 2 || memcmp(data + 1, preface, MIN(size - 1, sizeof preface - 1)) == 0)
		return 0;
	AUTO_FINI(strbuf) whole = run(data + 1, size - 1, READ_BUFFER, false, true, &n_whole);
	AUTO_FINI(strbuf) pieces = run(data + 1, size - 1, (size_t)(data[0] & 63) + 1, false, true, &n_pieces);

	ENSURE(whole.len == pieces.len && memcmp(strbuf_str(&whole), strbuf_str(&pieces), whole.len) == 0);
	ENSURE(n_whole == n_pieces);
	if (data[0] & 64) {
		AUTO_FINI(strbuf)
		late = run(data + 1, size - 1, (size_t)(data[0] & 63) + 1, true, data[0] & 128, &n_pieces);
	}
	return 0;
}
