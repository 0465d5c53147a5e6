#include "agent/tools/rg.h"
#include "agent/session/glob.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_SHOWN 500
/* As many matches are sorted by time; beyond that the oldest would not be worth their memory. */
#define MAX_FOUND 100000
#define TIME_LIMIT_MS 30000

struct hit {
	char *path;
	int64_t mtime_ns;
};

struct file_hunt {
	struct glob *pattern;
	int dir_fd;
	struct hit *hits;
	size_t n, cap;
};

static bool on_path(void *ctx, struct ignore *hidden, const char *path, size_t len)
{
	struct file_hunt *h = ctx;
	int budget = GLOB_STEPS;
	struct stat st;

	if (strncmp(path, "./", 2) == 0)
		path += 2;
	if (!glob_test(h->pattern, path, &budget) || ignore_find(hidden, path, false) != NULL)
		return true;
	if (fstatat(h->dir_fd, path, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return true;
	h->hits = mem_grow(h->hits, &h->cap, h->n + 1, sizeof *h->hits);
	h->hits[h->n++] = (struct hit){str_dup(path), st.st_mtim.tv_sec * 1000000000LL + st.st_mtim.tv_nsec};
	return h->n < MAX_FOUND;
}

static int newest_first(const void *a, const void *b)
{
	const struct hit *x = a, *y = b;

	if (x->mtime_ns != y->mtime_ns)
		return x->mtime_ns < y->mtime_ns ? 1 : -1;
	return strcmp(x->path, y->path);
}

/* Paths are relative to the root, so that read_file takes them as they are; in other roots absolute. */
static char *file_search_shown_path(const struct tool_call *call, const struct place *p, const char *path)
{
	if (strcmp(p->root, session_primary_root(call->session)) != 0)
		return str_printf("%s/%s", p->abs, path);
	return strcmp(p->rel, ".") == 0 ? str_dup(path) : str_printf("%s/%s", p->rel, path);
}

static void file_search_report(struct tool_call *call, const struct place *p, struct file_hunt *h, bool cut)
{
	size_t shown = MIN(h->n, MAX_SHOWN);
	json_t *files = json_array(), *j = json_object(), *sdk;
	struct strbuf text = STRBUF(MAX_SHOWN * 4200);
	AUTO_STR said = NULL;

	if (h->n > 0)
		qsort(h->hits, h->n, sizeof *h->hits, newest_first);
	for (size_t i = 0; i < shown; i++) {
		AUTO_STR path = file_search_shown_path(call, p, h->hits[i].path);

		json_array_append_new(files, json_lossy(path, strlen(path)));
		strbuf_addf(&text, "%s\n", path);
	}
	if (h->n == 0)
		strbuf_adds(&text, "No files found.\n");
	if (h->n > shown || cut)
		strbuf_addf(&text, "(%zu of %zu%s files, newest first)\n", shown, h->n, cut ? " or more" : "");
	json_put_new(j, "files", files);
	json_put_int(j, "totalFiles", (int64_t)h->n);
	json_put_bool(j, "clientTruncated", h->n > shown);
	json_put_bool(j, "ripgrepTruncated", cut);
	sdk = json_copy(j);
	json_put(j, "pattern", arg_string(call, "globPattern", ""));
	json_put(j, "path", p->abs);
	said = strbuf_take(&text);
	tool_succeed(call, j, sdk, said);
}

static void search(struct tool_call *call, const struct place *p)
{
	const char *given = arg_string(call, "globPattern", "");
	size_t root_len = strlen(p->abs);
	AUTO_STR pattern = NULL;
	struct file_hunt h = {0};
	struct refusal r;
	bool cut;

	if (strncmp(given, p->abs, root_len) == 0 && given[root_len] == '/')
		given += root_len + 1;
	pattern = text_has_prefix(given, "**/") ? str_dup(given) : str_printf("**/%s", given + strspn(given, "./"));
	if (place_open(call->session, p, O_RDONLY | O_DIRECTORY, &h.dir_fd, &r) != OK) {
		tool_refuse(call, &r);
		return;
	}
	h.pattern = glob_new(pattern);
	if (rg_run(&(struct rg){.call = call,
		       .target = p,
		       .args = (const char *const[]){"--files", "--null", NULL},
		       .separator = '\0',
		       .on_record = on_path,
		       .ctx = &h,
		       .deadline_mono_ms = call_deadline(call, TIME_LIMIT_MS)},
		&cut) == OK)
		file_search_report(call, p, &h, cut);
	close(h.dir_fd);
	for (size_t i = 0; i < h.n; i++)
		free(h.hits[i].path);
	free(h.hits);
	glob_free(&h.pattern);
}

static void file_search_run(struct tool_call *call)
{
	struct place p;

	if (arg_place(call, "targetDirectory", ".", &p) != OK)
		return;
	search(call, &p);
	place_fini(&p);
}

static const char *const aliases[] = {"glob_pattern", "globPattern", "pattern", "globPattern", "query", "globPattern",
    "target_directory", "targetDirectory", "path", "targetDirectory", NULL};

static const struct tool file_search = {
    .name = "file_search",
    .aliases = {"glob_file_search", "glob", "find_files"},
    .description =
	"Finds files of the workspace by a glob pattern on their path, newest first. Patterns such as *.c match at any "
	"depth. What .gitignore or .cursorignore excludes is left out.",
    .parameters =
	"{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"globPattern\"],\"properties\":{"
	"\"globPattern\":{\"type\":\"string\",\"minLength\":1,\"description\":\"For example src/**/*.{c,h}\"},"
	"\"targetDirectory\":{\"type\":\"string\",\"minLength\":1,\"description\":\"Where to search; default: the "
	"workspace\"}}}",
    .arg_alias = aliases,
    .class = TOOL_READ,
    .sdk_type = "glob",
    .run = file_search_run,
};
TOOL(file_search);
