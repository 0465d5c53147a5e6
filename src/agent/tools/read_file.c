#include "agent/tools/tool_io.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include <string.h>
#include <unistd.h>

#define MAX_FILE_BYTES (10 * 1024 * 1024)
#define DEFAULT_LINES 2000
#define MAX_LINE_CHARS 2000
/* Of one result, whatever the limit asked for. */
#define MAX_CONTENT_BYTES (1024 * 1024)
#define SNIFF_BYTES 8192
#define PICTURE_MAX (1536 * 1024) /* a result has at most 3.5 MiB, and base64 is a third longer */

static const char *binary_type(const char *s, size_t len)
{
	static const struct {
		const char *magic;
		size_t len;
		const char *type;
	} kinds[] = {{"\x89PNG\r\n\x1a\n", 8, "image/png"}, {"\xff\xd8\xff", 3, "image/jpeg"}, {"GIF8", 4, "image/gif"},
	    {"%PDF-", 5, "application/pdf"}, {"PK\x03\x04", 4, "application/zip"}, {"\177ELF", 4, "application/x-elf"},
	    {"\x1f\x8b", 2, "application/gzip"}};

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		if (len >= kinds[i].len && memcmp(s, kinds[i].magic, kinds[i].len) == 0)
			return kinds[i].type;
	if (len >= 12 && memcmp(s, "RIFF", 4) == 0 && memcmp(s + 8, "WEBP", 4) == 0)
		return "image/webp";
	return memchr(s, '\0', MIN(len, SNIFF_BYTES)) != NULL ? "application/octet-stream" : NULL;
}

/* What a model can look at, as the control plane takes it. */
static bool is_picture(const char *type, off_t size)
{
	return type != NULL && strncmp(type, "image/", 6) == 0 && size <= PICTURE_MAX;
}

/* Too large a file is told by its kind first: an image is no text, however small the limit for text. */
static int read_file_sniff(struct tool_call *call, const struct place *p, const char **ret_picture)
{
	char head[SNIFF_BYTES];
	struct refusal r;
	const char *type;
	off_t size;
	ssize_t n;
	int fd;

	if (place_open_file(call->session, p, &fd, &size, &r) != OK) {
		tool_refuse(call, &r);
		return ERR_INVALID;
	}
	n = pread(fd, head, sizeof head, 0);
	close(fd);
	type = n > 0 ? binary_type(head, (size_t)n) : NULL;
	if (type != NULL) {
		if (!tool_moment(
			call, &(struct tool_moment){.what = TOOL_READS, .path = p->abs, .text = "", .binary = true}))
			return ERR_INVALID;
		*ret_picture = is_picture(type, size) ? type : NULL;
		if (*ret_picture != NULL)
			return OK;
		tool_error(
		    call, "binary_file", "'%.300s' is a binary file (%s, %lld bytes)", p->abs, type, (long long)size);
		return ERR_INVALID;
	}
	if (size > MAX_FILE_BYTES) {
		tool_error(call, "too_large",
		    "'%.300s' has %lld bytes; at most %d can be read. Use grep_search, or the shell for a part of it",
		    p->abs, (long long)size, MAX_FILE_BYTES);
		return ERR_INVALID;
	}
	return OK;
}

struct view {
	int64_t total, first, last; /* 1-based; last < first: nothing */
	bool exceeded; /* a limit that the caller did not set cut it */
	struct strbuf content, numbered;
};

static void view_range(const struct tool_call *call, struct view *v)
{
	int64_t offset = arg_int(call, "offset", 1), limit = arg_int(call, "limit", DEFAULT_LINES);

	if (offset < 0)
		offset = MAX(v->total + offset + 1, 1);
	v->first = MAX(offset, 1);
	v->last = v->first > v->total ? v->first - 1 : v->first + MIN(limit, v->total - v->first + 1) - 1;
	v->exceeded = json_object_get(call->args, "limit") == NULL && v->last < v->total && v->first <= v->total;
}

/* Bytes of the line that the limit of characters leaves. */
static size_t cut_line(const char *s, size_t len)
{
	size_t chars = 0, i = 0;

	for (; i < len; i++) {
		chars += ((unsigned char)s[i] & 0xc0) != 0x80;
		if (chars > MAX_LINE_CHARS)
			break;
	}
	return i;
}

/* One line into both texts. False once the result is full. */
static bool read_file_add_line(struct view *v, int64_t number, const char *line, size_t len)
{
	bool end = len > 0 && line[len - 1] == '\n';
	size_t body = len - end, kept = cut_line(line, body);
	const char *dots = kept < body ? "..." : "";

	if (v->content.len + kept + 4 > MAX_CONTENT_BYTES)
		return false;
	strbuf_add(&v->content, line, kept);
	strbuf_adds(&v->content, dots);
	strbuf_adds(&v->content, end ? "\n" : "");
	if (kept > 0 && line[kept - 1] == '\r')
		kept--;
	strbuf_addf(&v->numbered, "%6lld\t", (long long)number);
	strbuf_add(&v->numbered, line, kept);
	strbuf_adds(&v->numbered, dots);
	strbuf_addc(&v->numbered, '\n');
	return true;
}

static void read_file_collect(struct view *v, const char *text)
{
	for (int64_t n = 1; n <= v->last; n++) {
		const char *end = strchrnul(text, '\n');
		size_t len = (size_t)(end - text) + (*end == '\n');

		if (n >= v->first && !read_file_add_line(v, n, text, len)) {
			v->last = n - 1;
			v->exceeded = true;
		}
		text += len;
	}
}

static char *read_file_text_for_model(struct view *v)
{
	if (v->total == 0)
		return str_dup("(the file is empty)");
	if (v->last < v->first)
		return str_printf("(the file has only %lld lines)", (long long)v->total);
	if (v->first > 1 || v->last < v->total)
		strbuf_addf(&v->numbered, "(lines %lld to %lld of %lld; offset and limit choose others)\n",
		    (long long)v->first, (long long)v->last, (long long)v->total);
	return strbuf_take(&v->numbered);
}

/* In the form of the client library. */
static void put_rules(json_t *to, const json_t *attached)
{
	json_t *rules = json_array(), *paths = json_array(), *item;
	size_t i;

	json_array_foreach((json_t *)attached, i, item)
	{
		json_t *content = json_object_get(item, "content"), *path = json_object_get(item, "fullPath"), *rule;

		if (content == NULL)
			continue;
		rule = json_object();
		json_object_set(rule, "fullPath", path);
		json_object_set(rule, "content", content);
		json_array_append_new(rules, rule);
		json_array_append(paths, path);
	}
	if (json_array_size(paths) > 0) {
		json_object_set(to, "relatedCursorRules", rules);
		json_object_set(to, "relatedCursorRulePaths", paths);
	}
	json_decref(rules);
	json_decref(paths);
}

static void read_file_report(struct tool_call *call, const struct place *p, struct view *v, size_t size)
{
	json_t *j = json_object(), *sdk = json_object(), *range;
	AUTO_JSON attached = attach_rules(call, p);
	AUTO_STR text = NULL;

	json_put(j, "path", p->abs);
	json_put(j, "content", strbuf_str(&v->content));
	json_put_bool(j, "isEmpty", size == 0);
	json_put_bool(j, "exceededLimit", v->exceeded);
	json_put_int(j, "totalLines", v->total);
	json_put_int(j, "fileSize", (int64_t)size);
	if (v->last >= v->first && (v->first > 1 || v->last < v->total)) {
		range = json_object();
		json_put_int(range, "startLine", v->first);
		json_put_int(range, "endLine", v->last);
		json_put_new(j, "readRange", range);
	}
	put_rules(j, attached);
	json_put(sdk, "content", strbuf_str(&v->content));
	json_put_int(sdk, "totalLines", v->total);
	json_put_int(sdk, "fileSize", (int64_t)size);
	text = read_file_text_for_model(v);
	tool_succeed(call, j, sdk, text);
}

static void read_file_show(struct tool_call *call, const struct place *p)
{
	struct view v = {.content = STRBUF(2 * MAX_CONTENT_BYTES), .numbered = STRBUF(64 * MAX_CONTENT_BYTES)};
	AUTO_STR raw = NULL;
	AUTO_STR text = NULL;
	struct refusal r;
	size_t size;

	if (place_read(call->session, p, MAX_FILE_BYTES, &raw, &size, &r) != OK) {
		tool_refuse(call, &r);
		return;
	}
	text = text_to_utf8(raw, size);
	if (!tool_moment(call, &(struct tool_moment){.what = TOOL_READS, .path = p->abs, .text = text}))
		return;
	v.total = count_lines(text, strlen(text));
	view_range(call, &v);
	read_file_collect(&v, text);
	read_file_report(call, p, &v, size);
	strbuf_fini(&v.content);
	strbuf_fini(&v.numbered);
}

static void read_file_picture(struct tool_call *call, const struct place *p, const char *type)
{
	AUTO_STR raw = NULL;
	AUTO_STR data = NULL;
	AUTO_STR text = NULL;
	struct refusal r;
	size_t size;
	json_t *j, *sdk;

	if (place_read(call->session, p, PICTURE_MAX, &raw, &size, &r) != OK) {
		tool_refuse(call, &r);
		return;
	}
	data = base64_encode(raw, size);
	text = str_printf("[an image of type %s and %zu bytes]", type, size);
	j = json_pack("{s:s, s:b, s:b, s:i, s:I, s:[{s:{s:s, s:s}}], s:[i]}", "content", "", "isEmpty", 0,
	    "exceededLimit", 0, "totalLines", 0, "fileSize", (json_int_t)size, "images", "image", "mimeType", type,
	    "data", data, "seenImages", 0);
	json_put_new(j, "path", json_lossy(p->abs, strlen(p->abs)));
	sdk = json_pack("{s:s, s:i, s:I}", "content", text, "totalLines", 0, "fileSize", (json_int_t)size);
	tool_succeed(call, j, sdk, text);
}

static void read_file_run(struct tool_call *call)
{
	const char *picture = NULL;
	struct place p;

	if (arg_place(call, "path", "", &p) != OK)
		return;
	if (read_file_sniff(call, &p, &picture) == OK) {
		if (picture != NULL)
			read_file_picture(call, &p, picture);
		else
			read_file_show(call, &p);
	}
	place_fini(&p);
}

static const char *const aliases[] = {"target_file", "path", "file_path", "path", "filePath", "path", NULL};

static const struct tool read_file = {
    .name = "read_file",
    .aliases = {"read", "view_file", "cat"},
    .description = "Reads a text file of the workspace, or an image. The lines come numbered. At most 2000 lines are "
		   "shown unless limit says "
		   "otherwise; offset is the first line (a negative one counts from the end).",
    .parameters =
	"{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"path\"],\"properties\":{"
	"\"path\":{\"type\":\"string\",\"minLength\":1,\"description\":\"Absolute, or relative to the workspace\"},"
	"\"offset\":{\"type\":\"integer\",\"description\":\"First line, from 1; negative: from the end\"},"
	"\"limit\":{\"type\":\"integer\",\"minimum\":1,\"description\":\"Number of lines\"}}}",
    .arg_alias = aliases,
    .class = TOOL_READ,
    .sdk_type = "read",
    .run = read_file_run,
};
TOOL(read_file);
