#include "agent/tools/tool_io.h"
#include "agent/session/beneath.h"
#include "agent/session/ignore.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_ENTRIES 1000
#define MAX_COUNTED 10000
/* Of a larger folder only so many names are looked at. */
#define MAX_NAMES 50000

struct dir_listing {
	struct tool_call *call;
	const struct place *p;
	struct ignore *hidden;
	int fd;
	json_t *entries, *dirs, *files, *extensions;
	struct strbuf text;
	bool truncated;
};

static bool is_ignored(const struct tool_call *call, const char *name)
{
	json_t *globs = json_object_get(call->args, "ignore"), *v;
	size_t i;

	json_array_foreach(globs, i, v)
	{
		const char *glob = json_string_value(v);

		if (strncmp(glob, "**/", 3) == 0)
			glob += 3;
		if (fnmatch(glob, name, 0) == 0)
			return true;
	}
	return false;
}

static int64_t count_files(int dir_fd, const char *name)
{
	int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *e;
	int64_t n = 0;

	if (d == NULL) {
		if (fd >= 0)
			close(fd);
		return 0;
	}
	while (n < MAX_COUNTED && (e = readdir(d)) != NULL)
		n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
	closedir(d);
	return n;
}

static json_t *sdk_dir(const char *abs, json_t *dirs, json_t *files, bool processed, json_t *extensions, int64_t n)
{
	json_t *j = json_object();

	json_put(j, "absPath", abs);
	json_put_new(j, "childrenDirs", dirs);
	json_put_new(j, "childrenFiles", files);
	json_put_bool(j, "childrenWereProcessed", processed);
	json_put_new(j, "fullSubtreeExtensionCounts", extensions);
	json_put_int(j, "numFiles", n);
	return j;
}

static void add_dir(struct dir_listing *l, json_t *entry, const char *name)
{
	AUTO_STR abs = str_printf("%s/%s", l->p->abs, name);
	int64_t n = count_files(l->fd, name);

	json_put(entry, "type", "dir");
	json_put_int(entry, "numFiles", n);
	json_array_append_new(l->dirs, sdk_dir(abs, json_array(), json_array(), false, json_object(), n));
	strbuf_addf(&l->text, "%s/ (%lld%s entries)\n", name, (long long)n, n == MAX_COUNTED ? " or more" : "");
}

static void add_file(struct dir_listing *l, json_t *entry, const char *name, const struct stat *st)
{
	const char *dot = strrchr(name, '.');
	json_t *file = json_object();
	bool link = S_ISLNK(st->st_mode);

	json_put(entry, "type", link ? "link" : "file");
	if (!link)
		json_put_int(entry, "size", st->st_size);
	json_put(file, "name", name);
	json_array_append_new(l->files, file);
	if (dot != NULL && dot != name && dot[1] != '\0') {
		AUTO_JSON key = json_lossy(dot, strlen(dot));
		const char *k = json_string_value(key);

		json_put_int(l->extensions, k, json_integer_value(json_object_get(l->extensions, k)) + 1);
	}
	if (link)
		strbuf_addf(&l->text, "%s (link)\n", name);
	else
		strbuf_addf(&l->text, "%s (%lld bytes)\n", name, (long long)st->st_size);
}

static void list_dir_add_entry(struct dir_listing *l, const char *name)
{
	struct stat st;
	json_t *entry;

	if (is_ignored(l->call, name) || fstatat(l->fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return;
	if (ignore_find(l->hidden, name, S_ISDIR(st.st_mode)) != NULL)
		return;
	if (json_array_size(l->entries) == MAX_ENTRIES) {
		l->truncated = true;
		return;
	}
	entry = json_object();
	json_put(entry, "name", name);
	if (S_ISDIR(st.st_mode))
		add_dir(l, entry, name);
	else
		add_file(l, entry, name, &st);
	json_array_append_new(l->entries, entry);
}

static void list_dir_report(struct dir_listing *l)
{
	json_t *j = json_object(), *sdk = json_object();
	int64_t n_files = (int64_t)json_array_size(l->files);
	AUTO_STR clean = NULL;

	if (json_array_size(l->entries) == 0)
		strbuf_adds(&l->text, "(empty)\n");
	if (l->truncated)
		strbuf_addf(&l->text, "(only the first %d entries are shown)\n", MAX_ENTRIES);
	json_put(j, "path", l->p->abs);
	json_put_new(j, "entries", l->entries);
	if (l->truncated)
		json_put_bool(j, "truncated", true);
	json_put_new(sdk, "directoryTreeRoot", sdk_dir(l->p->abs, l->dirs, l->files, true, l->extensions, n_files));
	clean = strbuf_take(&l->text);
	tool_succeed(l->call, j, sdk, clean);
}

static void list_dir_list(struct tool_call *call, const struct place *p)
{
	struct dir_listing l = {.call = call, .p = p, .text = STRBUF(1024 * 1024)};
	char **names = NULL;
	struct refusal r;
	ssize_t n;

	if (place_open(call->session, p, O_RDONLY | O_DIRECTORY, &l.fd, &r) != OK) {
		tool_refuse(call, &r);
		return;
	}
	n = names_read(l.fd, MAX_NAMES, &names);
	if (n < 0) {
		refuse_errno(&r, errno, p->abs);
		tool_refuse(call, &r);
		close(l.fd);
		return;
	}
	l.truncated = n == MAX_NAMES;
	l.hidden = place_ignore(call->session, p, l.fd);
	l.entries = json_array();
	l.dirs = json_array();
	l.files = json_array();
	l.extensions = json_object();
	for (ssize_t i = 0; i < n && json_array_size(l.entries) <= MAX_ENTRIES; i++)
		list_dir_add_entry(&l, names[i]);
	ignore_free(&l.hidden);
	names_free(names, (size_t)n);
	close(l.fd);
	list_dir_report(&l);
}

static void list_dir_run(struct tool_call *call)
{
	struct place p;

	if (arg_place(call, "path", ".", &p) != OK)
		return;
	list_dir_list(call, &p);
	place_fini(&p);
}

static const char *const aliases[] = {"target_directory", "path", "directory", "path", "ignore_globs", "ignore", NULL};

static const struct tool list_dir = {
    .name = "list_dir",
    .aliases = {"ls", "list_directory"},
    .description = "Lists one folder of the workspace: names, sizes, and how many entries each sub-folder has.",
    .parameters =
	"{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{"
	"\"path\":{\"type\":\"string\",\"minLength\":1,\"default\":\".\",\"description\":\"Default: the workspace\"},"
	"\"ignore\":{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"description\":\"Globs of names to leave "
	"out\"}}}",
    .arg_alias = aliases,
    .class = TOOL_READ,
    .sdk_type = "ls",
    .run = list_dir_run,
};
TOOL(list_dir);
