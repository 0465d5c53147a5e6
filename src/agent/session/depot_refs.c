/* Refs of the depot, read from its files: a process of git for each costs more than an opening can pay. Nobody but the
 * worker's own git writes them (gitrepository-layout(5)): a file for each, or a line of packed-refs where there is no
 * file. */
#include "agent/session/depot.h"
#include "base/folder.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_PACKED_BYTES (64 * 1024 * 1024)
#define MAX_REFS_DEPTH 64

/* A commit's name, whole; the length of SHA-1 or SHA-256. */
static bool is_name(const char *s, size_t len)
{
	return (len == 40 || len == 64) && strspn(s, "0123456789abcdef") >= len;
}

/* malloc'ed, "" if the file is not there or points to another ref. */
static char *read_loose(const char *dir, const char *ref)
{
	AUTO_STR path = str_printf("%s/%s", dir, ref);
	AUTO_STR text = NULL;
	size_t len, n;

	if (text_read_file(path, 256, &text, &len) != OK)
		return str_dup("");
	n = strcspn(text, "\n");
	return is_name(text, n) ? str_ndup(text, n) : str_dup("");
}

/* "SHA REF" a line, "#" a comment, "^SHA" what the tag before it leads to. */
static const char *next_packed(const char *line, size_t *ret_sha_len, const char **ret_ref, size_t *ret_ref_len)
{
	for (; *line != '\0'; line += line[strcspn(line, "\n")] == '\n' ? strcspn(line, "\n") + 1 : strlen(line)) {
		size_t n = strcspn(line, " \n");

		if (!is_name(line, n) || line[n] != ' ')
			continue;
		*ret_sha_len = n;
		*ret_ref = line + n + 1;
		*ret_ref_len = strcspn(*ret_ref, "\n");
		return line;
	}
	return NULL;
}

static char *read_packed(const char *dir, const char *ref)
{
	AUTO_STR path = str_printf("%s/packed-refs", dir);
	AUTO_STR text = NULL;
	size_t len, sha_len, ref_len, want = strlen(ref);
	const char *name;

	if (text_read_file(path, MAX_PACKED_BYTES, &text, &len) != OK)
		return str_dup("");
	for (const char *at = text; (at = next_packed(at, &sha_len, &name, &ref_len)) != NULL; at = name + ref_len)
		if (ref_len == want && memcmp(name, ref, want) == 0)
			return str_ndup(at, sha_len);
	return str_dup("");
}

char *depot_read_ref(const char *dir, const char *ref)
{
	char *sha = read_loose(dir, ref);

	if (sha[0] != '\0')
		return sha;
	free(sha);
	return read_packed(dir, ref);
}

int depot_write_ref(const char *dir, const char *ref, const char *sha)
{
	AUTO_STR path = str_printf("%s/%s", dir, ref);
	AUTO_STR folder = str_ndup(path, (size_t)(strrchr(path, '/') - path));
	/* As git does it, so that nobody takes the half of it for a ref. */
	AUTO_STR lock = str_printf("%s.lock", path);
	AUTO_STR text = str_printf("%s\n", sha);
	size_t len = strlen(text);
	int fd;

	if (!text_is_git_ref(ref) || !is_name(sha, strlen(sha)) || folder_make(folder, NULL) != OK)
		return ERR_INVALID;
	fd = open(lock, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_from_errno(errno);
	bool ok = write(fd, text, len) == (ssize_t)len;

	ok = close(fd) == 0 && ok;
	return ok && rename(lock, path) == 0 ? OK : ERR_IO;
}

struct entry {
	char *ref;
	char *sha;
};

struct listing {
	const char *dir;
	struct entry *v; /* loose ones come first */
	size_t n, cap;
};

static void add(struct listing *l, char *ref, char *sha)
{
	l->v = mem_grow(l->v, &l->cap, l->n + 1, sizeof *l->v);
	l->v[l->n++] = (struct entry){ref, sha};
}

static void list_loose(struct listing *l, const char *prefix, int depth)
{
	AUTO_STR path = str_printf("%s/%s", l->dir, prefix);
	DIR *d = depth < MAX_REFS_DEPTH ? opendir(path) : NULL;
	struct dirent *e;

	while (d != NULL && (e = readdir(d)) != NULL) {
		AUTO_STR ref = str_printf("%s/%s", prefix, e->d_name);
		char *sha;

		if (e->d_name[0] == '.')
			continue;
		sha = read_loose(l->dir, ref);
		if (sha[0] != '\0') {
			add(l, TAKE(ref), sha);
			continue;
		}
		free(sha);
		list_loose(l, ref, depth + 1);
	}
	if (d != NULL)
		closedir(d);
}

static int by_ref(const void *a, const void *b)
{
	return strcmp(((const struct entry *)a)->ref, ((const struct entry *)b)->ref);
}

static void list_packed(struct listing *l, const char *const *prefixes)
{
	AUTO_STR path = str_printf("%s/packed-refs", l->dir);
	AUTO_STR text = NULL;
	size_t len, sha_len, ref_len, n_loose = l->n;
	const char *name;

	if (text_read_file(path, MAX_PACKED_BYTES, &text, &len) != OK)
		return;
	if (n_loose > 0)
		qsort(l->v, n_loose, sizeof *l->v, by_ref);
	for (const char *at = text; (at = next_packed(at, &sha_len, &name, &ref_len)) != NULL; at = name + ref_len) {
		AUTO_STR ref = str_ndup(name, ref_len);
		struct entry key = {.ref = ref};
		bool wanted = false;

		for (size_t i = 0; prefixes[i] != NULL; i++) {
			size_t n = strlen(prefixes[i]);

			wanted |= strncmp(ref, prefixes[i], n) == 0 && ref[n] == '/';
		}
		if (wanted && (n_loose == 0 || bsearch(&key, l->v, n_loose, sizeof *l->v, by_ref) == NULL))
			add(l, TAKE(ref), str_ndup(at, sha_len));
	}
}

void depot_list_refs(const char *dir, const char *const *prefixes, struct strbuf *out)
{
	struct listing l = {.dir = dir};

	for (size_t i = 0; prefixes[i] != NULL; i++)
		list_loose(&l, prefixes[i], 0);
	list_packed(&l, prefixes);
	if (l.n > 0)
		qsort(l.v, l.n, sizeof *l.v, by_ref);
	for (size_t i = 0; i < l.n; i++) {
		strbuf_addf(out, "%s %s\n", l.v[i].sha, l.v[i].ref);
		free(l.v[i].ref);
		free(l.v[i].sha);
	}
	free(l.v);
}
