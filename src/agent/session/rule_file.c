#include "agent/session/rule_file.h"
#include "agent/session/beneath.h"
#include "agent/session/frontmatter.h"
#include "agent/session/glob.h"
#include "agent/session/ignore.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include <ctype.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FOLDER ".cursor/rules"
#define MAX_FILE_BYTES (1024 * 1024)
#define MAX_DEPTH 8
#define MAX_NAMES 5000
#define MAX_INCLUDES 16
#define MAX_INCLUDE_NAME 1024

json_t *globs_of_value(const json_t *v)
{
	json_t *list = json_array();
	const char *s;

	if (json_is_array(v)) {
		json_decref(list);
		return json_incref((json_t *)v);
	}
	for (s = json_is_string(v) ? json_string_value(v) : ""; *s != '\0';) {
		size_t n = 0, depth = 0;

		for (; s[n] != '\0' && (depth > 0 || s[n] != ','); n++)
			depth += (s[n] == '{') - (size_t)(s[n] == '}' && depth > 0);
		AUTO_STR raw = str_ndup(s, n);
		AUTO_STR glob = text_trim(raw);

		if (glob[0] != '\0')
			json_array_append_new(list, json_string(glob));
		s += n + (s[n] == ',');
	}
	return list;
}

static char *base_of(const char *path)
{
	const char *at = path, *last = NULL;

	for (; (at = strstr(at, FOLDER "/")) != NULL; at++)
		if (at == path || at[-1] == '/')
			last = at;
	return last == NULL || last == path ? str_dup("") : str_ndup(path, (size_t)(last - path - 1));
}

int rule_read(const char *root, const char *path, struct rule *ret)
{
	size_t len;
	AUTO_STR raw = read_beneath(root, path, MAX_FILE_BYTES, &len);
	AUTO_STR text = NULL;
	AUTO_JSON meta = NULL;
	struct rule r = {0};
	const char *body;
	json_t *description;

	if (raw == NULL)
		return ERR_NOT_FOUND;
	body = text = text_to_utf8(raw, len);
	if (frontmatter_parse(text, &meta, &body, &r.broken) != OK)
		meta = json_object();
	description = json_object_get(meta, "description");
	r.path = str_dup(path);
	r.base = base_of(path);
	r.description = str_dup(json_is_string(description) ? json_string_value(description) : "");
	r.globs = globs_of_value(json_object_get(meta, "globs"));
	r.always = json_is_true(json_object_get(meta, "alwaysApply"));
	r.body = str_dup(body);
	*ret = r;
	return OK;
}

void rule_fini(struct rule *r)
{
	str_free(&r->path);
	str_free(&r->base);
	str_free(&r->description);
	json_drop(&r->globs);
	str_free(&r->body);
}

struct walk {
	const char *root;
	const struct rule_visit *visit;
	size_t n_files;
	bool stopped;
};

static void visit_file(struct walk *w, const char *path)
{
	AUTO_FINI(rule) r = {0};

	if (++w->n_files > RULE_FILES_MAX) {
		w->stopped = true;
		return;
	}
	if (w->visit->want != NULL && !w->visit->want(w->visit->ctx, path))
		return;
	if (rule_read(w->root, path, &r) == OK)
		w->stopped = !w->visit->each(w->visit->ctx, &r);
}

static void visit_folder(struct walk *w, const char *rel, int depth)
{
	int fd = open_beneath(w->root, rel, O_RDONLY | O_DIRECTORY);
	char **names = NULL;
	ssize_t n;

	if (fd < 0)
		return;
	n = names_read(fd, MAX_NAMES, &names);
	for (ssize_t i = 0; i < n && !w->stopped; i++) {
		AUTO_STR path = str_printf("%s/%s", rel, names[i]);
		struct stat st;

		if (fstatat(fd, names[i], &st, AT_SYMLINK_NOFOLLOW) != 0)
			continue;
		if (S_ISDIR(st.st_mode) && depth < MAX_DEPTH)
			visit_folder(w, path, depth + 1);
		else if (!S_ISDIR(st.st_mode) && text_has_suffix(path, ".mdc"))
			visit_file(w, path);
	}
	names_free(names, n > 0 ? (size_t)n : 0);
	close(fd);
}

void rules_visit(const char *root, const char *base, const struct rule_visit *visit)
{
	struct walk w = {.root = root, .visit = visit};
	AUTO_STR folder = str_printf("%s%s" FOLDER, base, base[0] != '\0' ? "/" : "");

	visit_folder(&w, folder, 0);
}

static bool glob_fits(const char *glob, const char *file, int *budget)
{
	const char *slash = strrchr(file, '/');
	AUTO_STR whole = NULL;

	if (text_has_prefix(glob, "./"))
		glob += 2;
	if (strchr(glob, '/') == NULL)
		return glob_matches_within(glob, slash != NULL ? slash + 1 : file, budget);
	if (glob[0] == '/')
		glob++;
	whole = str_printf("%s%s", glob, text_has_suffix(glob, "/") ? "**" : "");
	return glob_matches_within(whole, file, budget);
}

bool globs_match(const json_t *globs, const char *file)
{
	int budget = GLOB_STEPS;
	json_t *glob;
	size_t i;

	json_array_foreach((json_t *)globs, i, glob)
	{
		if (json_is_string(glob) && glob_fits(json_string_value(glob), file, &budget))
			return true;
	}
	return false;
}

bool rule_matches(const struct rule *r, const char *file)
{
	size_t n = strlen(r->base);

	if (n > 0 && (strncmp(file, r->base, n) != 0 || file[n] != '/'))
		return false;
	return globs_match(r->globs, file + n + (n > 0));
}

bool rule_answers_to(const char *path, const char *name)
{
	size_t n = strlen(name), len = strlen(path) - (text_has_suffix(name, ".mdc") ? 0 : strlen(".mdc"));

	return len > n && path[len - n - 1] == '/' && strncmp(path + len - n, name, n) == 0;
}

/* The name behind an '@', without what ends a sentence. NULL if nothing there looks like a path. */
static char *include_name(const char *at, size_t *ret_len)
{
	size_t n = 0;

	while (isalnum((unsigned char)at[n]) || (at[n] != '\0' && strchr("._-+/", at[n]) != NULL) ||
	       (unsigned char)at[n] >= 0x80)
		n++;
	*ret_len = n;
	while (n > 0 && strchr(".-", at[n - 1]) != NULL)
		n--;
	if (n == 0 || n > MAX_INCLUDE_NAME || at[0] == '/')
		return NULL;
	return str_ndup(at, n);
}

struct includes {
	const char *root;
	struct ignore *hidden;
	struct strbuf *out;
	char *done[MAX_INCLUDES];
	size_t n_done, bytes;
	bool cut;
};

static bool include_file(struct includes *in, const char *path)
{
	AUTO_STR raw = NULL;
	AUTO_STR text = NULL;
	size_t len, keep;

	if (ignore_find(in->hidden, path, false) != NULL)
		return false;
	raw = read_beneath(in->root, path, MAX_FILE_BYTES, &len);
	if (raw == NULL || memchr(raw, '\0', len) != NULL)
		return false;
	for (size_t i = 0; i < in->n_done; i++)
		if (strcmp(in->done[i], path) == 0)
			return true;
	if (in->n_done == MAX_INCLUDES) {
		in->cut = true;
		return true;
	}
	in->done[in->n_done++] = str_dup(path);
	text = text_to_utf8(raw, len);
	keep = text_utf8_cut(text, strlen(text), MIN(strlen(text), RULE_TEXT_MAX - in->bytes));
	in->cut |= keep < strlen(text);
	in->bytes += keep;
	strbuf_addf(in->out, "\n--- %s, named above:\n", path);
	strbuf_add(in->out, text, keep);
	return true;
}

static void include_named(struct includes *in, const struct rule *r, const char *body, size_t len)
{
	for (size_t i = 0; i + 1 < len; i++) {
		AUTO_STR name = NULL;
		AUTO_STR near = NULL;
		size_t n;

		/* An address of mail has something before the '@'. */
		if (body[i] != '@' || (i > 0 && strchr(" \t\n([\"'`*,:", body[i - 1]) == NULL))
			continue;
		name = include_name(body + i + 1, &n);
		i += n;
		if (name == NULL)
			continue;
		near = str_printf("%s%s%s", r->base, r->base[0] != '\0' ? "/" : "", name);
		if (!include_file(in, near) && r->base[0] != '\0')
			include_file(in, name);
	}
}

char *rule_text(const char *root, const struct rule *r, bool *ret_cut)
{
	size_t len = strlen(r->body), keep = text_utf8_cut(r->body, len, RULE_TEXT_MAX);
	struct strbuf b = STRBUF(2 * RULE_TEXT_MAX + MAX_INCLUDES * (MAX_INCLUDE_NAME + 4096));
	struct includes in = {.root = root, .hidden = ignore_new(root, "."), .out = &b, .cut = keep < len};

	strbuf_add(&b, r->body, keep);
	include_named(&in, r, r->body, keep);
	for (size_t i = 0; i < in.n_done; i++)
		free(in.done[i]);
	ignore_free(&in.hidden);
	if (ret_cut != NULL)
		*ret_cut = in.cut;
	return strbuf_take(&b);
}
