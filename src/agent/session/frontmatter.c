/* The head of rule files. libyaml reads it, strictly; but people write what is no YAML into these files, above all
 * `globs: *.ts,*.tsx` (an alias) and `description: use this: always` (a mapping in a value), and have always had it
 * read. So each value on one line that is neither quoted nor a structure is quoted first.
 *
 * What these files have no use for is refused when its first event comes, before anything grows: anchors and aliases,
 * lists in lists, a second document. Mappings below the first level (`metadata:`) are read over. */
#include "agent/session/frontmatter.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include <ctype.h>
#include <string.h>
#include <yaml.h>

#define MAX_ITEMS 500
#define MAX_BLOCK_BYTES (64 * 1024)
#define MAX_SKIPPED_DEPTH 8

static size_t blanks(const char *s)
{
	return strspn(s, " \t");
}

/* Length of a plain scalar without its comment and the blanks before it. */
static size_t plain_len(const char *s, size_t len)
{
	for (size_t i = 0; i + 1 < len; i++)
		if (isspace((unsigned char)s[i]) && s[i + 1] == '#')
			len = i;
	while (len > 0 && isspace((unsigned char)s[len - 1]))
		len--;
	return len;
}

static bool is_word(const char *s, size_t len, const char *word)
{
	return strlen(word) == len && strncmp(s, word, len) == 0;
}

static void add_quoted(struct strbuf *out, const char *s, size_t len)
{
	strbuf_addc(out, '\'');
	for (size_t i = 0; i < len; i++) {
		if (s[i] == '\'')
			strbuf_addc(out, '\'');
		strbuf_addc(out, s[i]);
	}
	strbuf_addc(out, '\'');
}

/* Length of the quoted string at s, with its quotes; 0 if it does not end here. */
static size_t quoted_len(const char *s)
{
	for (size_t i = 1; s[i] != '\0'; i++) {
		if (s[0] == '"' && s[i] == '\\' && s[i + 1] != '\0')
			i++;
		else if (s[i] == s[0] && s[0] == '\'' && s[i + 1] == '\'')
			i++;
		else if (s[i] == s[0])
			return i + 1;
	}
	return 0;
}

/* Length of the item of a flow list at s. Braces of a glob keep their commas. 0: a quoted one that does not end here.
 */
static size_t item_len(const char *s)
{
	size_t n = 0, depth = 0;

	if (*s == '"' || *s == '\'')
		return quoted_len(s);
	for (; s[n] != '\0' && (depth > 0 || (s[n] != ',' && s[n] != ']')); n++)
		depth += (s[n] == '{') - (size_t)(s[n] == '}' && depth > 0);
	return n;
}

/* "[x, {a,b}.c]" with its plain items quoted. False, and nothing is added, if it does not end on this line. */
static bool soften_flow(struct strbuf *out, const char *s)
{
	struct strbuf b = STRBUF(4 * MAX_BLOCK_BYTES);
	const char *at = s + 1;
	bool ends = false;

	strbuf_addc(&b, '[');
	for (;;) {
		size_t n;

		while (isspace((unsigned char)*at) || *at == ',')
			at++;
		ends = *at == ']';
		n = ends ? 0 : item_len(at);
		if (n == 0)
			break;
		if (*at == '"' || *at == '\'')
			strbuf_add(&b, at, n);
		else
			add_quoted(&b, at, plain_len(at, n));
		at += n;
		strbuf_addc(&b, ',');
	}
	if (ends)
		strbuf_addf(out, "%s%s", strbuf_str(&b), at);
	strbuf_fini(&b);
	return ends;
}

static void soften_value(struct strbuf *out, const char *s)
{
	static const char *const words[] = {"", "true", "false", "null", "~", "|", ">", "|-", ">-", "|+", ">+"};
	size_t len = plain_len(s, strlen(s));
	bool as_it_is = strchr("\"'{&#", *s) != NULL;

	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		as_it_is = as_it_is || is_word(s, len, words[i]);
	if (as_it_is || (*s == '[' && soften_flow(out, s))) {
		if (as_it_is)
			strbuf_adds(out, s);
	} else if (*s == '[') {
		strbuf_adds(out, s);
	} else {
		add_quoted(out, s, len);
	}
}

/* A line of the block, for libyaml. */
static void soften_line(struct strbuf *out, const char *line)
{
	size_t indent = blanks(line);
	const char *s = line + indent, *colon = strchr(line, ':');

	if (s[0] == '-' && (isspace((unsigned char)s[1]) || s[1] == '\0')) {
		strbuf_adds(out, "- "); /* deeper ones are no other list: lists are not nested */
		soften_value(out, s + 1 + blanks(s + 1));
	} else if (indent == 0 && s[0] != '#' && colon != NULL && strcspn(line, "\"'[{,") > (size_t)(colon - line) &&
		   (colon[1] == '\0' || isspace((unsigned char)colon[1]))) {
		strbuf_addf(out, "%.*s: ", (int)(colon - line), line);
		soften_value(out, colon + 1 + blanks(colon + 1));
	} else {
		strbuf_adds(out, line);
	}
	strbuf_addc(out, '\n');
}

/* What was read so far. */
struct head_reader {
	json_t *meta;
	char *key; /* waits for its value */
	json_t *list; /* the value, while its items come */
	bool in_mapping, over;
	int skipped; /* how deep in a structure that nobody wants */
};

static bool take_scalar(struct head_reader *r, const yaml_event_t *e)
{
	const char *s = (const char *)e->data.scalar.value;
	bool plain = e->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;

	if (!r->in_mapping || e->data.scalar.anchor != NULL || strlen(s) != e->data.scalar.length)
		return false;
	if (r->list != NULL) {
		if (json_array_size(r->list) == MAX_ITEMS)
			return false;
		return json_array_append_new(r->list, json_string(s)) == 0;
	}
	if (r->key == NULL) {
		r->key = str_dup(s);
		return text_is_token(s, "-_", 64);
	}
	if (plain && (strcmp(s, "true") == 0 || strcmp(s, "false") == 0))
		json_put_bool(r->meta, r->key, s[0] == 't');
	else
		json_put(r->meta, r->key, plain && (strcmp(s, "~") == 0 || strcmp(s, "null") == 0) ? "" : s);
	str_free(&r->key);
	return true;
}

/* Of a mapping below the first level, up to its end. */
static bool skip_event(struct head_reader *r, const yaml_event_t *e)
{
	switch (e->type) {
	case YAML_MAPPING_START_EVENT:
		return e->data.mapping_start.anchor == NULL && r->skipped++ < MAX_SKIPPED_DEPTH;
	case YAML_SEQUENCE_START_EVENT:
		return e->data.sequence_start.anchor == NULL && r->skipped++ < MAX_SKIPPED_DEPTH;
	case YAML_MAPPING_END_EVENT:
	case YAML_SEQUENCE_END_EVENT:
		if (--r->skipped == 0 && r->list == NULL)
			str_free(&r->key);
		return true;
	default:
		return e->type == YAML_SCALAR_EVENT && e->data.scalar.anchor == NULL;
	}
}

/* False: this has no place in such a file. */
static bool take_event(struct head_reader *r, const yaml_event_t *e)
{
	if (r->skipped > 0 || (e->type == YAML_MAPPING_START_EVENT && r->in_mapping && r->key != NULL))
		return skip_event(r, e);
	switch (e->type) {
	case YAML_STREAM_START_EVENT:
	case YAML_DOCUMENT_END_EVENT:
	case YAML_STREAM_END_EVENT:
		return true;
	case YAML_DOCUMENT_START_EVENT:
		return !r->over;
	case YAML_MAPPING_START_EVENT:
		if (r->in_mapping || r->over || e->data.mapping_start.anchor != NULL)
			return false;
		return r->in_mapping = true;
	case YAML_MAPPING_END_EVENT:
		r->in_mapping = false;
		return r->over = true;
	case YAML_SEQUENCE_START_EVENT:
		if (r->key == NULL || r->list != NULL || e->data.sequence_start.anchor != NULL)
			return false;
		r->list = json_array();
		return true;
	case YAML_SEQUENCE_END_EVENT:
		json_put_new(r->meta, r->key, TAKE(r->list));
		str_free(&r->key);
		return true;
	case YAML_SCALAR_EVENT:
		return take_scalar(r, e);
	default: /* an alias */
		return false;
	}
}

/* OK, or ERR_INVALID with the line, from 0. */
static int read_yaml(const struct strbuf *text, json_t *meta, size_t *ret_line)
{
	struct head_reader r = {.meta = meta};
	yaml_parser_t parser;
	bool good = true, end = false;

	ENSURE(yaml_parser_initialize(&parser)); /* memory */
	yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&parser, (const unsigned char *)strbuf_str(text), text->len);
	while (good && !end) {
		yaml_event_t e;

		good = yaml_parser_parse(&parser, &e);
		if (!good) {
			*ret_line = parser.problem_mark.line;
			break;
		}
		good = take_event(&r, &e);
		*ret_line = e.start_mark.line;
		end = e.type == YAML_STREAM_END_EVENT;
		yaml_event_delete(&e);
	}
	yaml_parser_delete(&parser);
	str_free(&r.key);
	json_drop(&r.list);
	return good ? OK : ERR_INVALID;
}

/* Takes one line, without its end, off *text. NULL at the end. */
static char *next_line(const char **text)
{
	size_t n = strcspn(*text, "\n");
	char *line;

	if (**text == '\0')
		return NULL;
	line = str_ndup(*text, n > 0 && (*text)[n - 1] == '\r' ? n - 1 : n);
	*text += n + ((*text)[n] == '\n');
	return line;
}

/* What follows on deeper lines is another structure, or a text, and stays as it is: `metadata:` and `key: value` below
 * it, or `description: >-`. */
static bool begins_deeper(const char *line, const char *next)
{
	static const char *const marks[] = {"|", ">", "|-", ">-", "|+", ">+"};
	const char *colon = strchr(line, ':'), *value = colon != NULL ? colon + 1 + blanks(colon + 1) : "";
	size_t len = plain_len(value, strlen(value)), end = strcspn(next, "\n");

	for (size_t i = 0; i < ARRAY_LEN(marks); i++)
		if (is_word(value, len, marks[i]))
			return true;
	return colon != NULL && (len == 0 || value[0] == '#') && *next == ' ' && next[blanks(next)] != '-' &&
	       memchr(next, ':', end) != NULL;
}

static bool is_fence(const char *line)
{
	return strncmp(line, "---", 3) == 0 && text_is_blank(line + 3);
}

int frontmatter_parse(const char *text, json_t **ret_meta, const char **ret_body, struct why *why)
{
	const char *at = text + (strncmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0);
	const char *start = at;
	AUTO_FINI(strbuf) block = STRBUF(MAX_BLOCK_BYTES);
	AUTO_JSON meta = json_object();
	AUTO_STR first = next_line(&at);
	size_t line_number = 0;
	bool deeper = false;

	if (first == NULL || !is_fence(first)) {
		*ret_meta = TAKE(meta);
		*ret_body = start;
		return OK;
	}
	for (;;) {
		AUTO_STR line = next_line(&at);

		if (line == NULL)
			return why_set(why, ERR_INVALID, "the frontmatter has no closing '---'");
		if (is_fence(line))
			break;
		deeper = deeper && (line[0] == ' ' || text_is_blank(line));
		if (deeper) {
			strbuf_addf(&block, "%s\n", line);
		} else {
			soften_line(&block, line);
			deeper = line[0] != ' ' && begins_deeper(line, at);
		}
	}
	if (block.overflowed)
		return why_set(why, ERR_INVALID, "the frontmatter is longer than %d KiB", MAX_BLOCK_BYTES / 1024);
	if (read_yaml(&block, meta, &line_number) != OK)
		return why_set(why, ERR_INVALID, "line %zu of the frontmatter cannot be read", line_number + 2);
	*ret_meta = TAKE(meta);
	*ret_body = at;
	return OK;
}

size_t frontmatter_line(const char *text, const char *key)
{
	size_t n = strlen(key);

	for (size_t number = 1;; number++) {
		AUTO_STR line = next_line(&text);

		if (line == NULL || (number > 1 && is_fence(line)))
			return 1;
		if (strncmp(line, key, n) == 0 && line[n + blanks(line + n)] == ':')
			return number;
	}
}

size_t frontmatter_fault_line(const struct why *why)
{
	static const char before[] = "line ";
	size_t n = text_has_prefix(why->text, before) ? strtoul(why->text + sizeof before - 1, NULL, 10) : 0;

	return n > 0 ? n : 1;
}
