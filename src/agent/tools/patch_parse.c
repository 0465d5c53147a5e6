#include "agent/tools/patch.h"
#include "agent/tools/text_lines.h"
#include "base/mem.h"
#include "base/text.h"
#include <string.h>

#define MAX_PATCH_BYTES (4 * 1024 * 1024)
#define MAX_NUMBER 100000000

/* Where the reader is. Counts of the hunk header only tell a removed line "-- x" from a file header. */
struct patch_reader {
	struct patch *p;
	const char *at;
	size_t number; /* of the line last taken, for messages */
	bool envelope, ended;
	bool in_hunk;
	bool saw_file;
	size_t old_left, new_left;
	struct refusal *r;
};

static int malformed(struct patch_reader *d, const char *what)
{
	return refuse(d->r, "invalid_patch", "line %zu of the patch: %s", d->number, what);
}

static bool starts(const char *s, size_t len, const char *prefix)
{
	return len >= strlen(prefix) && memcmp(s, prefix, strlen(prefix)) == 0;
}

/* "a/src/x.c<tab>date" without the rest. NULL for /dev/null. */
static char *header_path(const char *s, size_t len, bool strip)
{
	size_t n = 0;

	while (n < len && s[n] != '\t' && s[n] != '\r')
		n++;
	while (n > 0 && s[n - 1] == ' ')
		n--;
	if (n == 9 && memcmp(s, "/dev/null", 9) == 0)
		return NULL;
	if (strip && n > 2 && (s[0] == 'a' || s[0] == 'b') && s[1] == '/') {
		s += 2;
		n -= 2;
	}
	return str_ndup(s, n);
}

static struct patch_hunk *hunk_new(struct patch_reader *d)
{
	struct patch *p = d->p;

	p->hunks = mem_grow(p->hunks, &p->cap_hunks, p->n_hunks + 1, sizeof *p->hunks);
	p->hunks[p->n_hunks] = (struct patch_hunk){.first = p->n_lines};
	d->in_hunk = true;
	d->old_left = d->new_left = 0;
	return &p->hunks[p->n_hunks++];
}

static bool take_number(const char **s, const char *end, size_t *ret)
{
	size_t v = 0;
	const char *from = *s;

	for (; *s < end && **s >= '0' && **s <= '9'; (*s)++)
		v = MIN(v * 10 + (size_t)(**s - '0'), MAX_NUMBER);
	*ret = v;
	return *s > from;
}

/* "-12,3" */
static bool take_range(const char **s, const char *end, char sign, size_t *ret_start, size_t *ret_count)
{
	*ret_count = 1;
	if (*s == end || **s != sign)
		return false;
	(*s)++;
	if (!take_number(s, end, ret_start))
		return false;
	if (*s < end && **s == ',') {
		(*s)++;
		return take_number(s, end, ret_count);
	}
	return true;
}

/* "@@ -12,3 +12,4 @@ heading", "@@", "@@ a line of the file" or "@@ a line of the file @@". */
static void hunk_header(struct patch_reader *d, const char *s, size_t len)
{
	struct patch_hunk *h = hunk_new(d);
	const char *at = s + 2, *end = s + len;
	size_t new_start;

	while (at < end && *at == ' ')
		at++;
	s = at;
	if (take_range(&at, end, '-', &h->old_start, &d->old_left)) {
		while (at < end && *at == ' ')
			at++;
		if (take_range(&at, end, '+', &new_start, &d->new_left)) {
			h->numbered = true;
			h->inserts = d->old_left == 0;
			return;
		}
	}
	h->old_start = d->old_left = d->new_left = 0;
	if (end - s >= 3 && memcmp(end - 3, " @@", 3) == 0)
		end -= 3;
	if (end > s) {
		h->anchor = s;
		h->anchor_len = (size_t)(end - s);
	}
}

static void body_line(struct patch_reader *d, enum patch_op op, const char *s, size_t len)
{
	struct patch *p = d->p;

	if (op != PATCH_ADD && d->old_left > 0)
		d->old_left--;
	if (op != PATCH_REMOVE && d->new_left > 0)
		d->new_left--;
	p->lines = mem_grow(p->lines, &p->cap_lines, p->n_lines + 1, sizeof *p->lines);
	p->lines[p->n_lines++] = (struct patch_line){.op = op, .s = s, .len = len};
	p->hunks[p->n_hunks - 1].n++;
}

/* Blank lines without a blank in front are empty context, except at the end, where they belong to nothing. */
static void end_hunk(struct patch_reader *d)
{
	struct patch *p = d->p;
	struct patch_hunk *h = d->in_hunk ? &p->hunks[p->n_hunks - 1] : NULL;

	while (h != NULL && h->n > 0 && d->old_left + d->new_left == 0) {
		struct patch_line *l = &p->lines[p->n_lines - 1];

		/* There is a byte before it: something began the hunk. */
		if (l->op != PATCH_KEEP || l->len > 0 || l->s[-1] == ' ')
			break;
		p->n_lines--;
		h->n--;
	}
	d->in_hunk = false;
}

static int patch_parse_begin_file(struct patch_reader *d, char *path, bool creates)
{
	end_hunk(d);
	if (d->saw_file || d->p->n_hunks > 0) {
		free(path);
		return malformed(d, "a second file begins; give one patch a file");
	}
	d->saw_file = true;
	d->p->path = path;
	d->p->creates = creates;
	return OK;
}

static int envelope_line(struct patch_reader *d, const char *s, size_t len)
{
	if (starts(s, len, "*** End Patch")) {
		end_hunk(d);
		d->ended = true;
		return OK;
	}
	if (starts(s, len, "*** End of File")) {
		if (!d->in_hunk)
			return malformed(d, "'*** End of File' is not at the end of a hunk");
		d->p->hunks[d->p->n_hunks - 1].at_end = true;
		end_hunk(d);
		return OK;
	}
	if (starts(s, len, "*** Update File: "))
		return patch_parse_begin_file(d, header_path(s + 17, len - 17, false), false);
	if (starts(s, len, "*** Add File: ")) {
		int rc = patch_parse_begin_file(d, header_path(s + 14, len - 14, false), true);

		if (rc == OK)
			hunk_new(d);
		return rc;
	}
	if (starts(s, len, "*** Delete File: "))
		return malformed(d, "a file is deleted with delete_file");
	if (starts(s, len, "*** Move to: "))
		return malformed(d, "a file cannot be moved by a patch; use the shell");
	return malformed(d, "is not a line of a patch");
}

/* "--- a" with "+++ b" on the next line. */
static int file_headers(struct patch_reader *d, const char *s, size_t len)
{
	AUTO_STR from = header_path(s + 4, len - 4, true);
	const char *next = d->at;
	size_t n = strcspn(next, "\n");
	AUTO_STR to = NULL;

	d->number++;
	if (!starts(next, n, "+++ "))
		return malformed(d, "'+++' is missing behind '---'");
	d->at += n + (next[n] == '\n');
	to = header_path(next + 4, n - 4, true);
	if (to == NULL)
		return malformed(d, "a file is deleted with delete_file");
	return patch_parse_begin_file(d, TAKE(to), from == NULL);
}

static bool is_file_header(const struct patch_reader *d, const char *s, size_t len)
{
	return starts(s, len, "--- ") && (!d->in_hunk || text_has_prefix(d->at, "+++ "));
}

static int hunk_line(struct patch_reader *d, const char *s, size_t len)
{
	struct patch *p = d->p;

	if (len == 0 || (len == 1 && s[0] == '\r')) {
		body_line(d, PATCH_KEEP, s, len);
	} else if (s[0] == ' ' || s[0] == '-' || s[0] == '+') {
		body_line(d, (enum patch_op)s[0], s + 1, len - 1);
	} else if (s[0] == '\\') {
		if (p->hunks[p->n_hunks - 1].n == 0)
			return malformed(d, "'\\' follows no line");
		p->lines[p->n_lines - 1].no_newline = true;
	} else {
		return malformed(d, "a line of a hunk begins with ' ', '-' or '+'");
	}
	return OK;
}

static int any_line(struct patch_reader *d, const char *s, size_t len)
{
	bool counted = d->in_hunk && d->old_left + d->new_left > 0;

	if (starts(s, len, "*** Begin Patch") && !d->envelope && d->p->n_hunks == 0) {
		d->envelope = true;
		return OK;
	}
	if (d->envelope && starts(s, len, "*** "))
		return envelope_line(d, s, len);
	if (starts(s, len, "@@")) {
		end_hunk(d);
		hunk_header(d, s, len);
		return OK;
	}
	if (!counted && !d->envelope && is_file_header(d, s, len))
		return file_headers(d, s, len);
	if (!counted && starts(s, len, "diff --git ")) {
		end_hunk(d);
		return OK;
	}
	if (d->in_hunk)
		return hunk_line(d, s, len);
	if (starts(s, len, "rename "))
		return malformed(d, "a file cannot be moved by a patch; use the shell");
	/* A hunk of the envelope may begin without "@@". Lines that git writes before the first hunk are passed over.
	 */
	if (d->envelope && d->saw_file && len > 0) {
		hunk_new(d);
		return hunk_line(d, s, len);
	}
	return OK;
}

static int check_whole(struct patch_reader *d)
{
	size_t empty = 0;

	for (size_t i = 0; i < d->p->n_hunks; i++)
		empty += d->p->hunks[i].n == 0;
	if (d->p->n_hunks == empty && !(d->p->creates && d->envelope))
		return refuse(d->r, "invalid_patch",
		    "the patch has no hunk; it must be a unified diff, or '*** Begin Patch' with '@@' hunks");
	for (size_t i = 0; d->p->creates && i < d->p->n_lines; i++)
		if (d->p->lines[i].op != PATCH_ADD)
			return refuse(d->r, "invalid_patch", "a new file can only have lines that begin with '+'");
	return OK;
}

int patch_parse(const char *text, struct patch *ret, struct refusal *r)
{
	struct patch p = {0};
	struct patch_reader d = {.p = &p, .r = r};
	int rc = OK;

	if (strlen(text) > MAX_PATCH_BYTES)
		return refuse(r, "too_large", "the patch has more than %d bytes", MAX_PATCH_BYTES);
	p.text = text_is_crlf(text) ? text_to_lf(text) : str_dup(text);
	d.at = p.text;
	while (rc == OK && *d.at != '\0' && !d.ended) {
		const char *s = d.at;
		size_t n = strcspn(s, "\n");

		d.at += n + (s[n] == '\n');
		d.number++;
		rc = any_line(&d, s, n);
	}
	if (rc == OK)
		end_hunk(&d);
	if (rc == OK)
		rc = check_whole(&d);
	if (rc != OK) {
		patch_fini(&p);
		return rc;
	}
	*ret = p;
	return OK;
}

void patch_fini(struct patch *p)
{
	str_free(&p->text);
	str_free(&p->path);
	free(p->lines);
	free(p->hunks);
	*p = (struct patch){0};
}
