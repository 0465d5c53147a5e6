/* Needles are found by a table of their first REDACT_MIN bytes: one look a byte of text, however many there are. */
#include "base/redact.h"
#include "base/mem.h"
#include <sodium.h>
#include <string.h>

#define BUCKETS 4096

struct needle {
	char *text;
	size_t len;
	struct needle *next; /* in its bucket */
};

struct redactor {
	struct needle *needles;
	size_t n, cap;
	struct needle *buckets[BUCKETS];
};

static unsigned bucket_of(const char *s)
{
	unsigned h = 2166136261u;

	for (size_t i = 0; i < REDACT_MIN; i++)
		h = (h ^ (unsigned char)s[i]) * 16777619u;
	return (h ^ h >> 16) % BUCKETS;
}

/* Taken. */
static void add_needle(struct redactor *r, char *text, size_t len)
{
	for (size_t i = 0; i < r->n; i++)
		if (len < REDACT_MIN || (r->needles[i].len == len && memcmp(r->needles[i].text, text, len) == 0)) {
			free(text);
			return;
		}
	if (len < REDACT_MIN) {
		free(text);
		return;
	}
	r->needles = mem_grow(r->needles, &r->cap, r->n + 1, sizeof *r->needles);
	r->needles[r->n++] = (struct needle){.text = text, .len = len};
}

/* The characters that depend on the secret alone, wherever in a longer text it stands: three ways to begin within a
 * group of three bytes. Both ends may share a character with a neighbour, so they are left out. */
static void add_base64(struct redactor *r, const char *value, size_t len)
{
	static const int variants[] = {
	    sodium_base64_VARIANT_ORIGINAL_NO_PADDING, sodium_base64_VARIANT_URLSAFE_NO_PADDING};

	for (size_t shift = 0; shift < 3; shift++) {
		size_t raw_len = shift + len, whole = raw_len / 3 * 4, from = shift == 0 ? 0 : shift + 1;
		unsigned char *raw = mem_zalloc(raw_len);

		memcpy(raw + shift, value, len);
		for (size_t v = 0; v < ARRAY_LEN(variants); v++) {
			size_t text_len = sodium_base64_ENCODED_LEN(raw_len, variants[v]);
			char *text = mem_alloc(text_len);

			sodium_bin2base64(text, text_len, raw, raw_len, variants[v]);
			/* Of a last group that is not full the bits of the secret may fill all but one character. */
			whole = raw_len % 3 == 0 ? whole : whole + raw_len % 3;
			if (whole > from)
				add_needle(r, str_ndup(text + from, whole - from), whole - from);
			sodium_memzero(text, text_len);
			free(text);
			whole = raw_len / 3 * 4;
		}
		sodium_memzero(raw, raw_len);
		free(raw);
	}
}

static void add_hex(struct redactor *r, const char *value, size_t len)
{
	char *low = mem_alloc(2 * len + 1), *high;

	sodium_bin2hex(low, 2 * len + 1, (const unsigned char *)value, len);
	high = str_dup(low);
	for (char *c = high; *c != '\0'; c++)
		*c = (char)(*c >= 'a' && *c <= 'f' ? *c - 'a' + 'A' : *c);
	add_needle(r, low, 2 * len);
	add_needle(r, high, 2 * len);
}

static void add_percent(struct redactor *r, const char *value)
{
	struct strbuf b = STRBUF(16 * 1024);

	for (const char *c = value; *c != '\0'; c++)
		if ((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') ||
		    strchr("-_.~", *c) != NULL)
			strbuf_addc(&b, *c);
		else
			strbuf_addf(&b, "%%%02X", (unsigned)(unsigned char)*c);
	add_needle(r, str_ndup(b.data, b.len), b.len);
	strbuf_fini(&b);
}

static void add_escaped(struct redactor *r, const char *value)
{
	AUTO_JSON j = json_lossy(value, strlen(value));
	AUTO_STR text = json_dumps(j, JSON_ENCODE_ANY);
	size_t len = text != NULL ? strlen(text) : 0;

	if (len > 2)
		add_needle(r, str_ndup(text + 1, len - 2), len - 2);
}

static void add_lines(struct redactor *r, const char *value)
{
	while (*value != '\0') {
		size_t len = strcspn(value, "\r\n");

		/* As the whole value, but longer: a line is more likely to be a word of the language. */
		if (len >= 8)
			add_needle(r, str_ndup(value, len), len);
		value += len + (value[len] != '\0');
	}
}

static void add_value(struct redactor *r, const char *value)
{
	size_t len = strlen(value);

	if (len < REDACT_MIN)
		return;
	add_needle(r, str_dup(value), len);
	add_base64(r, value, len);
	add_hex(r, value, len);
	add_percent(r, value);
	add_escaped(r, value);
	if (strpbrk(value, "\r\n") != NULL)
		add_lines(r, value);
}

struct redactor *redactor_new(const json_t *values)
{
	struct redactor *r = NEW(struct redactor);
	const char *name;
	json_t *v;

	json_object_foreach((json_t *)values, name, v)
	{
		if (json_is_string(v))
			add_value(r, json_string_value(v));
	}
	for (size_t i = 0; i < r->n; i++) {
		unsigned b = bucket_of(r->needles[i].text);

		r->needles[i].next = r->buckets[b];
		r->buckets[b] = &r->needles[i];
	}
	if (r->n == 0)
		redactor_free(&r);
	return r;
}

void redactor_free(struct redactor **rp)
{
	struct redactor *r = TAKE(*rp);

	if (r == NULL)
		return;
	for (size_t i = 0; i < r->n; i++) {
		sodium_memzero(r->needles[i].text, r->needles[i].len);
		free(r->needles[i].text);
	}
	free(r->needles);
	free(r);
}

/* The longest needle that stands at `s`; 0: none. *ret_open: one may begin there, if more comes. */
static size_t found_at(const struct redactor *r, const char *s, size_t len, bool *ret_open)
{
	size_t longest = 0;

	*ret_open = false;
	if (len < REDACT_MIN) {
		for (size_t i = 0; i < r->n && !*ret_open; i++)
			*ret_open = memcmp(r->needles[i].text, s, len) == 0;
		return 0;
	}
	for (const struct needle *n = r->buckets[bucket_of(s)]; n != NULL; n = n->next) {
		if (n->len <= len && n->len > longest && memcmp(n->text, s, n->len) == 0)
			longest = n->len;
		*ret_open = *ret_open || (n->len > len && memcmp(n->text, s, len) == 0);
	}
	return longest;
}

/* Returns how many bytes of the text were dealt with; all of them if `last`. */
static size_t redact_bytes(const struct redactor *r, const char *s, size_t len, bool last, struct strbuf *out)
{
	size_t i = 0, plain = 0;

	while (i < len) {
		bool open;
		size_t n = found_at(r, s + i, len - i, &open);

		if (open && !last)
			break;
		if (n == 0) {
			i++;
			continue;
		}
		strbuf_add(out, s + plain, i - plain);
		strbuf_adds(out, REDACT_MARK);
		i += n;
		plain = i;
	}
	strbuf_add(out, s + plain, i - plain);
	return i;
}

static bool has_any(const struct redactor *r, const char *text, size_t len)
{
	bool open;

	for (size_t i = 0; i + REDACT_MIN <= len; i++)
		if (found_at(r, text + i, len - i, &open) > 0)
			return true;
	return false;
}

/* A mark is longer than the shortest needle. */
static size_t room_for(size_t len)
{
	return len / REDACT_MIN * sizeof REDACT_MARK + len + sizeof REDACT_MARK;
}

static char *redact_bounded(const struct redactor *r, const char *text, size_t len)
{
	struct strbuf b;

	if (r == NULL || !has_any(r, text, len))
		return NULL;
	b = (struct strbuf)STRBUF(room_for(len));
	redact_bytes(r, text, len, true, &b);
	return strbuf_take(&b);
}

char *redact_text(const struct redactor *r, const char *text)
{
	return redact_bounded(r, text, strlen(text));
}

static void redact_members(const struct redactor *r, json_t *j)
{
	const char *key;
	json_t *v;
	void *next;

	json_object_foreach_safe(j, next, key, v)
	{
		AUTO_STR clean = redact_text(r, key);
		json_t *value = json_incref(v);

		redact_json(r, &value);
		if (clean != NULL) {
			json_object_del(j, key);
			json_object_set_new(j, clean, value);
		} else if (value != v) {
			json_object_set_new(j, key, value);
		} else {
			json_decref(value);
		}
	}
}

void redact_json(const struct redactor *r, json_t **jp)
{
	json_t *j = *jp, *v;
	size_t i;

	if (r == NULL)
		return;
	if (json_is_string(j)) {
		AUTO_STR clean = redact_bounded(r, json_string_value(j), json_string_length(j));

		if (clean == NULL)
			return;
		json_decref(j);
		*jp = json_lossy(clean, strlen(clean));
	} else if (json_is_object(j)) {
		redact_members(r, j);
	} else {
		json_array_foreach(j, i, v)
		{
			json_t *value = json_incref(v);

			redact_json(r, &value);
			json_array_set_new(j, i, value);
		}
	}
}

void redact_stream_fini(struct redact_stream *s)
{
	strbuf_fini(&s->held);
}

/* What is held is less than the longest needle. */
void redact_piece(const struct redactor *r, struct redact_stream *s, const void *data, size_t len, struct strbuf *out)
{
	struct strbuf all;
	size_t done;

	if (r == NULL) {
		strbuf_add(out, data, len);
		return;
	}
	all = (struct strbuf)STRBUF(s->held.len + len + 1);
	strbuf_add(&all, s->held.data, s->held.len);
	strbuf_add(&all, data, len);
	done = redact_bytes(r, all.data, all.len, false, out);
	strbuf_fini(&s->held);
	s->held = (struct strbuf)STRBUF(all.len - done + 1);
	strbuf_add(&s->held, all.data + done, all.len - done);
	strbuf_fini(&all);
}

void redact_end(const struct redactor *r, struct redact_stream *s, struct strbuf *out)
{
	if (r != NULL && s->held.len > 0)
		redact_bytes(r, s->held.data, s->held.len, true, out);
	strbuf_fini(&s->held);
}
