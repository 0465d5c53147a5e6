#include "agent/session/context_file.h"
#include "agent/session/beneath.h"
#include "agent/session/frontmatter.h"
#include "agent/session/rule_file.h"
#include "base/mem.h"
#include "base/subagent_name.h"
#include "base/text.h"
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_FILE_BYTES (1024 * 1024)
#define MAX_DEPTH 8
#define MAX_NAMES 5000
#define MAX_FOLDERS 2000
#define SKILL_FILE "SKILL.md"

static const struct {
	const char *name;
	const char *folders[5];
} kinds[] = {
    [CONTEXT_SKILL] = {"skill", {".cursor/skills", ".agents/skills", ".claude/skills", ".codex/skills"}},
    [CONTEXT_COMMAND] = {"command", {".cursor/commands"}},
    [CONTEXT_AGENT] = {"subagent", {".cursor/agents", ".claude/agents", ".codex/agents"}},
};

const char *context_kind_name(enum context_kind kind)
{
	return kinds[kind].name;
}

static void PRINTF_LIKE(3, 4) add_fault(struct context_file *f, size_t line, const char *fmt, ...)
{
	AUTO_STR text = NULL;
	json_t *fault = json_object();
	va_list ap;

	va_start(ap, fmt);
	text = str_vprintf(fmt, ap);
	va_end(ap);
	json_put_int(fault, "line", (int64_t)line);
	json_put_new(fault, "text", json_lossy(text, strlen(text)));
	json_array_append_new(f->faults, fault);
}

/* What is being read. */
struct head {
	const char *text; /* the file */
	json_t *meta;
};

static const char *head_text(struct context_file *f, const struct head *h, const char *key)
{
	json_t *v = json_object_get(h->meta, key);

	if (v != NULL && !json_is_string(v))
		add_fault(f, frontmatter_line(h->text, key), "'%s' must be a text", key);
	return json_is_string(v) ? json_string_value(v) : "";
}

static bool head_flag(struct context_file *f, const struct head *h, const char *key)
{
	json_t *v = json_object_get(h->meta, key);

	if (v != NULL && !json_is_boolean(v))
		add_fault(f, frontmatter_line(h->text, key), "'%s' must be true or false", key);
	return json_is_true(v);
}

static void take_description(struct context_file *f, const struct head *h)
{
	AUTO_STR text = text_trim(head_text(f, h, "description"));
	size_t keep = text_utf8_cut(text, strlen(text), CONTEXT_DESCRIPTION_MAX);

	if (keep < strlen(text))
		add_fault(f, frontmatter_line(h->text, "description"), "the description is longer than %d characters",
		    CONTEXT_DESCRIPTION_MAX);
	f->description = text_line(text, keep);
}

/* The folder or file that names it. */
static char *own_name(const char *path, enum context_kind kind)
{
	const char *slash = strrchr(path, '/'), *end = kind == CONTEXT_SKILL ? slash : path + strlen(path) - 3;
	const char *start = kind == CONTEXT_SKILL && slash != NULL ? slash : end;

	if (end == NULL)
		return str_dup("");
	while (start > path && start[-1] != '/')
		start--;
	return str_ndup(start, (size_t)(end - start));
}

static void read_skill(struct context_file *f, const struct head *h)
{
	const char *said = head_text(f, h, "name"),
		   *key = json_object_get(h->meta, "paths") != NULL ? "paths" : "globs";

	f->name = own_name(f->path, CONTEXT_SKILL);
	f->unusable = !text_is_token(f->name, "-_.", CONTEXT_NAME_MAX);
	if (f->unusable)
		add_fault(f, 1,
		    "'%.100s' is no name for a skill's folder: lowercase letters, digits and hyphens, at most %d",
		    f->name, CONTEXT_NAME_MAX);
	else if (said[0] == '\0')
		add_fault(f, 1, "it has no 'name': add name: %s", f->name);
	else if (strcmp(said, f->name) != 0)
		add_fault(f, frontmatter_line(h->text, "name"),
		    "the name '%.100s' is not that of its folder, '%s', which is used", said, f->name);
	else if (f->name[strspn(f->name, "abcdefghijklmnopqrstuvwxyz0123456789-")] != '\0')
		add_fault(f, frontmatter_line(h->text, "name"),
		    "the name '%s' should have only lowercase letters, digits and hyphens", f->name);
	f->named_only = head_flag(f, h, "disable-model-invocation");
	if (f->description[0] == '\0' && !f->named_only)
		add_fault(f, frontmatter_line(h->text, "description"),
		    "it has no 'description' that says what it does and when to use it: it can only be called by name, "
		    "/%s",
		    f->name);
	f->paths = globs_of_value(json_object_get(h->meta, key));
}

static void read_agent(struct context_file *f, const struct head *h)
{
	const char *said = head_text(f, h, "name");
	size_t line = frontmatter_line(h->text, "name");

	f->name = said[0] != '\0' ? str_dup(said) : own_name(f->path, CONTEXT_AGENT);
	f->model = str_dup(head_text(f, h, "model"));
	if (strcmp(f->model, "inherit") == 0)
		str_set(&f->model, "");
	f->read_only = head_flag(f, h, "readonly");
	f->background = head_flag(f, h, "is_background");
	f->unusable = !subagent_is_name(f->name) || subagent_is_reserved(f->name) || text_is_blank(f->body);
	if (!subagent_is_name(f->name))
		add_fault(f, line,
		    "'%.100s' is no name for a subagent: letters, digits, '_' and '-', beginning with a letter or a "
		    "digit, "
		    "at most %d",
		    f->name, CONTEXT_NAME_MAX);
	else if (subagent_is_reserved(f->name))
		add_fault(f, line, "the name '%s' is that of a built-in subagent: choose another one", f->name);
	if (text_is_blank(f->body))
		add_fault(f, 1, "there is no prompt below the frontmatter");
	if (f->description[0] == '\0')
		add_fault(f, frontmatter_line(h->text, "description"),
		    "it has no 'description' by which an agent would choose it");
}

static void read_command(struct context_file *f, const struct head *h)
{
	f->name = own_name(f->path, CONTEXT_COMMAND);
	f->unusable = !text_is_token(f->name, "-_.", CONTEXT_NAME_MAX);
	if (f->unusable)
		add_fault(f, 1, "'%.100s.md' is no name for a command: letters, digits, '-', '_' and '.', at most %d",
		    f->name, CONTEXT_NAME_MAX);
}

/* "pkg/a" of "pkg/a/.cursor/skills/x/SKILL.md". */
static char *holder_of(const char *path, enum context_kind kind)
{
	size_t best = 0;
	bool found = false;

	for (const char *const *folder = kinds[kind].folders; *folder != NULL; folder++) {
		AUTO_STR part = str_printf("%s/", *folder);

		for (const char *at = path; (at = strstr(at, part)) != NULL; at++)
			if ((at == path || at[-1] == '/') && (!found || (size_t)(at - path) < best)) {
				best = (size_t)(at - path);
				found = true;
			}
	}
	return str_ndup(path, best > 0 ? best - 1 : 0);
}

int context_file_read(const char *root, const char *path, enum context_kind kind, struct context_file *ret)
{
	size_t len, keep;
	AUTO_STR raw = read_beneath(root, path, MAX_FILE_BYTES, &len);
	AUTO_STR text = NULL;
	AUTO_JSON meta = NULL;
	struct context_file f = {.kind = kind, .faults = json_array()};
	struct head h;
	struct why why = {0};
	const char *body;

	if (raw == NULL) {
		json_drop(&f.faults);
		return ERR_NOT_FOUND;
	}
	body = text = text_to_utf8(raw, len);
	f.path = str_dup(path);
	f.base = holder_of(path, kind);
	if (frontmatter_parse(text, &meta, &body, &why) != OK) {
		meta = json_object();
		add_fault(&f, frontmatter_fault_line(&why), "%s: all of it counts as text", why.text);
	}
	h = (struct head){text, meta};
	keep = text_utf8_cut(body, strlen(body), CONTEXT_BODY_MAX);
	if (keep < strlen(body))
		add_fault(&f, 1, "it is longer than %d KiB, and cut there", CONTEXT_BODY_MAX / 1024);
	f.body = str_ndup(body, keep);
	take_description(&f, &h);
	if (kind == CONTEXT_SKILL)
		read_skill(&f, &h);
	else if (kind == CONTEXT_AGENT)
		read_agent(&f, &h);
	else
		read_command(&f, &h);
	/* What a broken frontmatter lacks is no fault of its own. */
	while (why.text[0] != '\0' && json_array_size(f.faults) > 1)
		json_array_remove(f.faults, json_array_size(f.faults) - 1);
	if (f.paths == NULL)
		f.paths = json_array();
	if (f.model == NULL)
		f.model = str_dup("");
	*ret = f;
	return OK;
}

void context_file_fini(struct context_file *f)
{
	str_free(&f->path);
	str_free(&f->base);
	str_free(&f->name);
	str_free(&f->description);
	json_drop(&f->paths);
	str_free(&f->model);
	str_free(&f->body);
	json_drop(&f->faults);
}

struct context_walk {
	const char *root;
	enum context_kind kind;
	const struct context_visit *visit;
	size_t n_files, n_folders;
	bool stopped;
};

static void walk_file(struct context_walk *w, const char *path)
{
	AUTO_FINI(context_file) f = {0};

	if (w->visit->want != NULL && !w->visit->want(w->visit->ctx, path))
		return;
	if (context_file_read(w->root, path, w->kind, &f) == OK)
		w->stopped = !w->visit->each(w->visit->ctx, &f) || ++w->n_files >= CONTEXT_FILES_MAX;
}

static bool is_there(int dir_fd, const char *name)
{
	struct stat st;

	return fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISDIR(st.st_mode);
}

static void walk_folder(struct context_walk *w, const char *rel, int depth);

/* One name of a folder of skills. A link may lead to a skill, but not to a tree of them: it could lead round. */
static void walk_skill(struct context_walk *w, const char *path, mode_t mode, int depth)
{
	AUTO_STR file = str_printf("%s/%s", path, SKILL_FILE);

	if (S_ISDIR(mode) && depth < MAX_DEPTH)
		walk_folder(w, path, depth + 1);
	else if (S_ISLNK(mode))
		walk_file(w, file);
}

static void walk_folder(struct context_walk *w, const char *rel, int depth)
{
	int fd = w->n_folders++ < MAX_FOLDERS ? open_beneath(w->root, rel, O_RDONLY | O_DIRECTORY) : -1;
	AUTO_STR own = str_printf("%s/%s", rel, SKILL_FILE);
	char **names = NULL;
	ssize_t n = 0;

	if (fd < 0)
		return;
	if (w->kind == CONTEXT_SKILL && depth > 0 && is_there(fd, SKILL_FILE))
		walk_file(w, own);
	else
		n = names_read(fd, MAX_NAMES, &names);
	for (ssize_t i = 0; i < n && !w->stopped; i++) {
		AUTO_STR path = str_printf("%s/%s", rel, names[i]);
		struct stat st;

		if (names[i][0] == '.' || fstatat(fd, names[i], &st, AT_SYMLINK_NOFOLLOW) != 0)
			continue;
		if (w->kind == CONTEXT_SKILL)
			walk_skill(w, path, st.st_mode, depth);
		else if (!S_ISDIR(st.st_mode) && text_has_suffix(names[i], ".md"))
			walk_file(w, path);
	}
	names_free(names, n > 0 ? (size_t)n : 0);
	close(fd);
}

void context_files_visit(const char *root, const char *base, enum context_kind kind, const struct context_visit *visit)
{
	struct context_walk w = {.root = root, .kind = kind, .visit = visit};

	for (const char *const *folder = kinds[kind].folders; *folder != NULL && !w.stopped; folder++) {
		AUTO_STR rel = str_printf("%s%s%s", base, base[0] != '\0' ? "/" : "", *folder);

		walk_folder(&w, rel, 0);
	}
}

bool context_file_is_for(const struct context_file *f, const char *file)
{
	size_t n = strlen(f->base);

	if (n > 0 && (strncmp(file, f->base, n) != 0 || file[n] != '/'))
		return false;
	return json_array_size(f->paths) == 0 || globs_match(f->paths, file + n + (n > 0));
}
