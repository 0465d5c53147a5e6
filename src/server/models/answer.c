#include "server/models/answer_priv.h"
#include "base/mem.h"
#include "base/text.h"
#include <stdarg.h>
#include <string.h>

#define NAME_MAX_LEN 200
#define FAULT_MAX 300
#define COUNT_MAX ((int64_t)1000000000000) /* what is summed up must not overflow */

void answer_init(struct answer *a, const struct model_sink *sink)
{
	*a = (struct answer){.sink = sink, .failure = {.wait_ms = -1}};
}

void answer_fini(struct answer *a)
{
	for (size_t i = 0; i < a->n_parts; i++) {
		struct part *p = &a->parts[i];

		strbuf_fini(&p->text);
		strbuf_fini(&p->signature);
		free(p->id);
		free(p->name);
	}
	free(a->parts);
	*a = (struct answer){0};
}

int answer_fail(struct answer *a, enum failure_kind kind, const char *fmt, ...)
{
	va_list ap;

	if (a->failure.kind != FAILURE_NONE)
		return ERR_PROTOCOL;
	a->failure.kind = kind;
	va_start(ap, fmt);
	vsnprintf(a->failure.what, sizeof a->failure.what, fmt, ap);
	va_end(ap);
	return ERR_PROTOCOL;
}

struct part *answer_part(struct answer *a, int64_t index)
{
	for (size_t i = a->n_parts; i > 0; i--)
		if (a->parts[i - 1].index == index)
			return &a->parts[i - 1];
	return NULL;
}

struct part *answer_add_part(struct answer *a, enum part_kind kind, int64_t index)
{
	struct part *p;

	if (a->n_parts == ANSWER_PARTS_MAX) {
		answer_fail(a, FAILURE_FINAL, "answered with more than %d parts", ANSWER_PARTS_MAX);
		return NULL;
	}
	a->parts = mem_grow(a->parts, &a->cap_parts, a->n_parts + 1, sizeof *a->parts);
	p = &a->parts[a->n_parts++];
	*p = (struct part){.kind = kind,
	    .index = index,
	    .text = STRBUF(ANSWER_BYTES_MAX),
	    .signature = STRBUF(ANSWER_BYTES_MAX),
	    .id = str_dup(""),
	    .name = str_dup("")};
	return p;
}

static int answer_tell(struct answer *a, enum part_kind kind, const char *s, size_t len)
{
	const struct model_sink *sink = a->sink;
	int (*say)(void *, const char *, size_t) = kind == PART_TEXT ? sink->on_text : sink->on_thinking;

	if (say == NULL || (kind != PART_TEXT && kind != PART_THINKING))
		return OK;
	a->said = true;
	return a->sink_rc = say(sink->ctx, s, len);
}

int answer_append(struct answer *a, struct part *p, const char *s, size_t len)
{
	AUTO_STR clean = NULL;

	if (len == 0)
		return OK;
	if (memchr(s, '\0', len) != NULL) {
		clean = text_to_utf8(s, len);
		s = clean;
		len = strlen(clean);
	}
	a->bytes += len;
	if (a->bytes > ANSWER_BYTES_MAX || strbuf_add(&p->text, s, len) != OK)
		return answer_fail(a, FAILURE_FINAL, "answered with more than %zu bytes", ANSWER_BYTES_MAX);
	return answer_tell(a, p->kind, s, len);
}

int answer_say(struct answer *a, enum part_kind kind, const char *s, size_t len)
{
	struct part *p = a->n_parts > 0 ? &a->parts[a->n_parts - 1] : NULL;

	if (len == 0)
		return OK;
	if (p == NULL || p->kind != kind)
		p = answer_add_part(a, kind, -1);
	return p != NULL ? answer_append(a, p, s, len) : ERR_PROTOCOL;
}

/* A part that names nothing and says nothing is noise of the server. */
static bool is_call(const struct part *p)
{
	return p->kind == PART_CALL && (p->name[0] != '\0' || p->text.len > 0);
}

bool answer_is_empty(const struct answer *a)
{
	for (size_t i = 0; i < a->n_parts; i++) {
		const struct part *p = &a->parts[i];

		if (is_call(p) || (p->kind == PART_TEXT && !text_is_blank(strbuf_str(&p->text))))
			return false;
	}
	return true;
}

/* Some servers put the arguments into quotes twice. */
static void unwrap(json_t **j)
{
	json_t *inner = NULL;

	if (!json_is_string(*j) || json_parse(json_string_value(*j), json_string_length(*j), &inner, NULL) != OK)
		return;
	json_decref(*j);
	*j = inner;
}

/* The sentence for the model about a call that cannot be understood; NULL if it can be. */
static char *read_arguments(const struct part *p, bool cut_off, json_t **ret)
{
	struct why why = {0};

	if (text_is_blank(strbuf_str(&p->text)) && !cut_off) {
		*ret = json_object();
		return NULL;
	}
	if (json_parse(strbuf_str(&p->text), p->text.len, ret, &why) == OK) {
		unwrap(ret);
		if (json_is_object(*ret))
			return NULL;
		json_drop(ret);
		return str_printf("The arguments of %.*s must be one JSON object. Nothing was done: call it again.",
		    NAME_MAX_LEN, p->name);
	}
	if (cut_off)
		return str_printf("The answer reached the limit of output within the arguments of %.*s, after %zu "
				  "bytes. Nothing was done: call it again with less at once, in several calls.",
		    NAME_MAX_LEN, p->name, p->text.len);
	return str_printf("The arguments of %.*s are not valid JSON: %.*s. Nothing was done: call it again.",
	    NAME_MAX_LEN, p->name, FAULT_MAX, why.text);
}

static json_t *make_call(const struct part *p, bool cut_off)
{
	json_t *call = json_object(), *arguments = NULL;
	AUTO_STR name = str_ndup(p->name, text_utf8_cut(p->name, strlen(p->name), NAME_MAX_LEN));
	AUTO_STR fault = read_arguments(p, cut_off, &arguments);

	json_put(call, "name", name);
	json_put_new(call, "arguments", arguments != NULL ? arguments : json_object());
	json_put(call, "fault", fault);
	return call;
}

void answer_take(struct answer *a, struct model_result *ret)
{
	struct strbuf text = STRBUF(ANSWER_BYTES_MAX);

	ret->calls = json_array();
	for (size_t i = 0; i < a->n_parts; i++) {
		struct part *p = &a->parts[i];
		bool last = i + 1 == a->n_parts;

		if (p->kind == PART_TEXT)
			strbuf_add(&text, strbuf_str(&p->text), p->text.len);
		else if (is_call(p))
			json_array_append_new(ret->calls, make_call(p, last && a->stop == MODEL_STOP_LENGTH));
	}
	ret->text = strbuf_take(&text);
	ret->stop = a->stop;
	ret->usage = a->usage;
}

static json_t *answer_load(const char *text, size_t len)
{
	return json_loadb(text, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
}

static int hex4(const char *s)
{
	int v = 0;

	for (int i = 0; i < 4; i++) {
		int c = s[i] | 0x20, digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;

		if (digit < 0)
			return -1;
		v = v * 16 + digit;
	}
	return v;
}

/* The code unit of the escape at s, -1 if there is none. */
static int unit_at(const char *s, const char *end)
{
	return end - s >= 6 && s[0] == '\\' && s[1] == 'u' ? hex4(s + 2) : -1;
}

/* Escapes that are halves of a pair become \ufffd, in place: both are six bytes. */
static void mend_surrogates(char *s, size_t len)
{
	static const char unknown[6] = {'\\', 'u', 'f', 'f', 'f', 'd'};
	char *end = s + len;

	while (s < end) {
		int unit = unit_at(s, end);

		if (*s != '\\') {
			s++;
		} else if (unit < 0xd800 || unit > 0xdfff) {
			s += MIN(2, end - s);
		} else if (unit < 0xdc00 && unit_at(s + 6, end) >= 0xdc00 && unit_at(s + 6, end) <= 0xdfff) {
			s += 12;
		} else {
			memcpy(s, unknown, sizeof unknown);
			s += sizeof unknown;
		}
	}
}

json_t *answer_json(const char *text, size_t len)
{
	json_t *j;
	AUTO_STR mended = NULL;

	if (json_is_bomb(text, len))
		return NULL;
	j = answer_load(text, len);
	if (j != NULL)
		return j;
	mended = text_to_utf8(text, len);
	mend_surrogates(mended, strlen(mended));
	return answer_load(mended, strlen(mended));
}

const char *member_str(const json_t *o, const char *key, size_t *ret_len)
{
	const json_t *v = json_object_get(o, key);

	*ret_len = json_string_length(v);
	return json_is_string(v) ? json_string_value(v) : "";
}

int64_t member_count(const json_t *o, const char *key)
{
	const json_t *v = json_object_get(o, key);
	double n = json_number_value(v);

	if (json_is_integer(v))
		return MIN(MAX(json_integer_value(v), 0), COUNT_MAX);
	return n > 0 ? (int64_t)MIN(n, (double)COUNT_MAX) : 0;
}
