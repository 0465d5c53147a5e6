#include "server/artifacts/s3_xml.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include <string.h>

struct xml {
	const char *at, *end;
	char names[S3_XML_DEPTH_MAX + 1][S3_XML_NAME_MAX]; /* [0] is around the outermost */
	size_t depth;
	bool inner; /* the element at hand has elements inside */
	struct strbuf text;
	int (*fn)(void *ctx, const char *parent, const char *name, const char *value);
	void *ctx;
};

static bool comes(const struct xml *x, const char *word)
{
	size_t len = strlen(word);

	return (size_t)(x->end - x->at) >= len && memcmp(x->at, word, len) == 0;
}

/* Behind the next `word`. */
static int skip_past(struct xml *x, const char *word)
{
	for (; x->at < x->end; x->at++)
		if (comes(x, word)) {
			x->at += strlen(word);
			return OK;
		}
	return ERR_PROTOCOL;
}

static int add_utf8(struct strbuf *b, int64_t c)
{
	char out[4];
	size_t n;

	if (c <= 0 || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return ERR_PROTOCOL;
	if (c < 0x80) {
		out[0] = (char)c;
		n = 1;
	} else if (c < 0x800) {
		out[0] = (char)(0xc0 | (c >> 6));
		n = 2;
	} else if (c < 0x10000) {
		out[0] = (char)(0xe0 | (c >> 12));
		n = 3;
	} else {
		out[0] = (char)(0xf0 | (c >> 18));
		n = 4;
	}
	for (size_t i = 1; i < n; i++)
		out[i] = (char)(0x80 | ((c >> (6 * (n - 1 - i))) & 0x3f));
	return strbuf_add(b, out, n) == OK ? OK : ERR_PROTOCOL;
}

static int add_number(struct strbuf *b, const char *digits)
{
	int64_t c = 0;
	bool hex = digits[0] == 'x';

	if (digits[hex] == '\0')
		return ERR_PROTOCOL;
	for (const char *d = digits + hex; *d != '\0'; d++) {
		const char *set = hex ? "0123456789abcdefABCDEF" : "0123456789", *in = strchr(set, *d);
		int64_t value = in != NULL ? in - set : -1;

		if (value < 0 || c > 0x10ffff)
			return ERR_PROTOCOL;
		c = c * (hex ? 16 : 10) + (value >= 16 ? value - 6 : value);
	}
	return add_utf8(b, c);
}

/* At '&'. */
static int add_entity(struct xml *x)
{
	static const struct {
		const char *name, *text;
	} known[] = {{"amp", "&"}, {"lt", "<"}, {"gt", ">"}, {"quot", "\""}, {"apos", "'"}};
	char name[12] = "";
	size_t n = 0;

	for (x->at++; x->at < x->end && *x->at != ';' && n < sizeof name - 1; x->at++)
		name[n++] = *x->at;
	if (x->at == x->end || *x->at != ';' || strlen(name) != n)
		return ERR_PROTOCOL;
	x->at++;
	if (name[0] == '#')
		return add_number(&x->text, name + 1);
	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (strcmp(known[i].name, name) == 0)
			return strbuf_adds(&x->text, known[i].text) == OK ? OK : ERR_PROTOCOL;
	return ERR_PROTOCOL;
}

static bool is_name_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("_-.:", c) != NULL;
}

/* A name at x->at, its prefix left out. */
static int read_name(struct xml *x, char out[S3_XML_NAME_MAX])
{
	const char *from = x->at, *colon;
	size_t len;

	while (x->at < x->end && *x->at != '\0' && is_name_char(*x->at))
		x->at++;
	len = (size_t)(x->at - from);
	colon = memrchr(from, ':', len);
	if (colon != NULL) {
		len -= (size_t)(colon + 1 - from);
		from = colon + 1;
	}
	if (len == 0 || len >= S3_XML_NAME_MAX)
		return ERR_PROTOCOL;
	memcpy(out, from, len);
	out[len] = '\0';
	return OK;
}

static int close_element(struct xml *x)
{
	/* Blanks between elements are no text. */
	const char *value = x->inner ? "" : strbuf_str(&x->text);
	int rc;

	if (strlen(value) != (x->inner ? 0 : x->text.len))
		return ERR_PROTOCOL;
	rc = x->fn(x->ctx, x->names[x->depth - 1], x->names[x->depth], value);
	x->depth--;
	x->inner = true;
	strbuf_clear(&x->text);
	return rc;
}

/* Behind "</". */
static int read_end(struct xml *x)
{
	char name[S3_XML_NAME_MAX];

	if (read_name(x, name) != OK || x->depth == 0 || strcmp(name, x->names[x->depth]) != 0 ||
	    skip_past(x, ">") != OK)
		return ERR_PROTOCOL;
	return close_element(x);
}

/* Behind "<". Attributes say nothing that is needed; '>' may stand in their values. */
static int read_start(struct xml *x)
{
	char quote = '\0';

	if (x->depth == S3_XML_DEPTH_MAX || read_name(x, x->names[x->depth + 1]) != OK)
		return ERR_PROTOCOL;
	x->depth++;
	x->inner = false;
	strbuf_clear(&x->text);
	for (; x->at < x->end; x->at++) {
		if (quote != '\0') {
			if (*x->at == quote)
				quote = '\0';
		} else if (*x->at == '"' || *x->at == '\'') {
			quote = *x->at;
		} else if (*x->at == '<') {
			return ERR_PROTOCOL;
		} else if (*x->at == '>') {
			bool empty = x->at[-1] == '/';

			x->at++;
			return empty ? close_element(x) : OK;
		}
	}
	return ERR_PROTOCOL;
}

static int read_mark(struct xml *x)
{
	if (comes(x, "<?"))
		return skip_past(x, "?>");
	if (comes(x, "<!--"))
		return skip_past(x, "-->");
	if (comes(x, "<!"))
		return ERR_PROTOCOL;
	if (comes(x, "</")) {
		x->at += 2;
		return read_end(x);
	}
	x->at++;
	return read_start(x);
}

int s3_xml_each(const char *text, size_t len,
    int (*fn)(void *ctx, const char *parent, const char *name, const char *value), void *ctx)
{
	struct xml x = {.at = text, .end = text + len, .text = STRBUF(S3_XML_TEXT_MAX), .fn = fn, .ctx = ctx};
	bool ended = false;
	int rc = OK;

	while (rc == OK && x.at < x.end) {
		size_t was = x.depth;

		if (*x.at == '<') {
			rc = read_mark(&x);
			ended = ended || (was > 0 && x.depth == 0) || (was == 0 && x.inner && x.depth == 0);
			if (rc == OK && was == 0 && x.depth > 0 && ended)
				rc = ERR_PROTOCOL; /* a second one beside the outermost */
		} else if (x.depth == 0 || x.inner) {
			/* AWS keeps a slow answer alive with blanks. */
			rc = *x.at == '\0' || strchr(" \t\r\n", *x.at) == NULL ? ERR_PROTOCOL : OK;
			x.at++;
		} else if (*x.at == '&') {
			rc = add_entity(&x);
		} else {
			rc = strbuf_addc(&x.text, *x.at++) == OK ? OK : ERR_PROTOCOL;
		}
	}
	strbuf_fini(&x.text);
	return rc == OK && (!ended || x.depth > 0) ? ERR_PROTOCOL : rc;
}

struct error_reader {
	struct s3_error *e;
	bool found;
};

static int take_error(void *ctx, const char *parent, const char *name, const char *value)
{
	struct error_reader *r = ctx;

	if (parent[0] == '\0')
		r->found = strcmp(name, "Error") == 0;
	if (strcmp(parent, "Error") != 0)
		return OK;
	if (strcmp(name, "Code") == 0 && text_is_token(value, "", sizeof r->e->code - 1))
		snprintf(r->e->code, sizeof r->e->code, "%s", value);
	if (strcmp(name, "Region") == 0 && text_is_token(value, "-", sizeof r->e->region - 1))
		snprintf(r->e->region, sizeof r->e->region, "%s", value);
	if (strcmp(name, "Message") == 0) {
		AUTO_STR line = text_line(value, sizeof r->e->message - 1);

		snprintf(r->e->message, sizeof r->e->message, "%s", line);
	}
	return OK;
}

bool s3_xml_error(const char *text, size_t len, struct s3_error *ret)
{
	struct error_reader r = {.e = ret};

	*ret = (struct s3_error){0};
	return s3_xml_each(text, len, take_error, &r) == OK && r.found;
}

void s3_page_fini(struct s3_page *p)
{
	for (size_t i = 0; i < p->n; i++) {
		free(p->items[i].key);
		free(p->items[i].upload_id);
		free(p->items[i].etag);
	}
	free(p->items);
	free(p->next);
	free(p->next_upload);
	*p = (struct s3_page){0};
}

struct page_reader {
	struct s3_page *p;
	struct s3_item item; /* not complete yet */
	bool is_list, truncated;
};

static int take_field(struct s3_item *it, const char *name, const char *value)
{
	if (strcmp(name, "Key") == 0)
		str_set(&it->key, value);
	else if (strcmp(name, "UploadId") == 0)
		str_set(&it->upload_id, value);
	else if (strcmp(name, "ETag") == 0)
		str_set(&it->etag, value);
	else if (strcmp(name, "Size") == 0)
		return text_parse_int(value, 0, INT64_MAX, &it->size);
	else if (strcmp(name, "PartNumber") == 0)
		return text_parse_int(value, 1, 10000, &it->part);
	else if (strcmp(name, "LastModified") == 0 || strcmp(name, "Initiated") == 0)
		return clock_read_iso8601(value, &it->at_ms);
	return OK;
}

static int take_item(struct page_reader *r)
{
	struct s3_page *p = r->p;

	if (p->n == S3_PAGE_MAX)
		return ERR_PROTOCOL;
	p->items = mem_grow(p->items, &p->cap, p->n + 1, sizeof *p->items);
	p->items[p->n++] = r->item;
	r->item = (struct s3_item){0};
	return OK;
}

static int take_page(void *ctx, const char *parent, const char *name, const char *value)
{
	static const char *const lists[] = {"ListBucketResult", "ListMultipartUploadsResult", "ListPartsResult"};
	static const char *const next[] = {"NextContinuationToken", "NextKeyMarker", "NextPartNumberMarker"};
	struct page_reader *r = ctx;

	if (strcmp(name, "Contents") == 0 || strcmp(name, "Upload") == 0 || strcmp(name, "Part") == 0)
		return take_item(r);
	if (strcmp(parent, "Contents") == 0 || strcmp(parent, "Upload") == 0 || strcmp(parent, "Part") == 0)
		return take_field(&r->item, name, value) == OK ? OK : ERR_PROTOCOL;
	for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
		if (parent[0] == '\0' && strcmp(name, lists[i]) == 0)
			r->is_list = true;
		if (strcmp(parent, lists[i]) == 0 && strcmp(name, next[i]) == 0 && value[0] != '\0')
			str_set(&r->p->next, value);
	}
	if (strcmp(name, "NextUploadIdMarker") == 0 && value[0] != '\0')
		str_set(&r->p->next_upload, value);
	if (strcmp(name, "IsTruncated") == 0)
		r->truncated = strcmp(value, "true") == 0;
	return OK;
}

int s3_xml_page(const char *text, size_t len, struct s3_page *ret)
{
	struct page_reader r = {.p = ret};
	int rc;

	*ret = (struct s3_page){0};
	rc = s3_xml_each(text, len, take_page, &r);
	free(r.item.key);
	free(r.item.upload_id);
	free(r.item.etag);
	if (rc == OK && !r.is_list)
		rc = ERR_PROTOCOL;
	/* More to come without a word from where would be the same page again and again. */
	if (rc == OK && r.truncated && ret->next == NULL)
		rc = ERR_PROTOCOL;
	if (!r.truncated) {
		str_free(&ret->next);
		str_free(&ret->next_upload);
	}
	return rc;
}

static int take_upload_id(void *ctx, const char *parent, const char *name, const char *value)
{
	if (strcmp(parent, "InitiateMultipartUploadResult") == 0 && strcmp(name, "UploadId") == 0)
		str_set(ctx, value);
	return OK;
}

int s3_xml_upload_id(const char *text, size_t len, char **ret)
{
	AUTO_STR id = NULL;
	int rc = s3_xml_each(text, len, take_upload_id, &id);

	if (rc != OK || id == NULL || id[0] == '\0')
		return ERR_PROTOCOL;
	*ret = TAKE(id);
	return OK;
}
