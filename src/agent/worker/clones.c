#include "agent/worker/clones.h"
#include "agent/session/git.h"
#include "agent/session/tree.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/repo_url.h"
#include "base/text.h"
#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CLONE_LIMIT_MS (30 * 60 * 1000)
#define SHORT_LIMIT_MS 10000

struct cloning {
	const char *dir;
	const struct session_config *base;
	const struct session_open *want;
	struct session_failure *fail;
	int cancel_fd;
	int64_t deadline_mono_ms;
};

void clone_set_free(struct clone_set **sp)
{
	struct clone_set *s = TAKE(*sp);

	if (s == NULL)
		return;
	for (size_t i = 0; i < s->n; i++)
		free(s->paths[i]);
	free(s->roots);
	free(s);
}

static struct git git_in(const struct cloning *c, const char *dir, int64_t limit_ms)
{
	return (struct git){.dir = dir,
	    .agent_id = c->want->agent_id,
	    .scratch_dir = c->dir,
	    .cancel_fd = c->cancel_fd,
	    .deadline_mono_ms = MIN(c->deadline_mono_ms, clock_mono_ms() + limit_ms)};
}

/* Whether `path` is the top of a checkout of that repository. */
static bool is_checkout_of(const struct cloning *c, const char *path, const char *url)
{
	AUTO_STR git_dir = str_printf("%s/.git", path);
	AUTO_STR origin = NULL;
	struct git g = git_in(c, path, SHORT_LIMIT_MS);
	struct why unused;

	return access(git_dir, F_OK) == 0 &&
	       git_must(&g, GIT_ARGS("config", "--get", "remote.origin.url"), &origin, &unused) == OK &&
	       repo_url_same(origin, url);
}

/* One that a person has put there, directly in one of the worker's folders. */
static char *find_ready(const struct cloning *c, const char *url)
{
	for (size_t i = 0; i < c->base->n_roots; i++) {
		DIR *d = opendir(c->base->roots[i]);
		char *found = NULL;
		struct dirent *e;

		while (d != NULL && found == NULL && (e = readdir(d)) != NULL) {
			AUTO_STR path = str_printf("%s/%s", c->base->roots[i], e->d_name);
			struct stat st;

			if (e->d_name[0] != '.' && lstat(path, &st) == 0 && S_ISDIR(st.st_mode) &&
			    is_checkout_of(c, path, url))
				found = TAKE(path);
		}
		if (d != NULL)
			closedir(d);
		if (found != NULL)
			return found;
	}
	return NULL;
}

/* Two repositories never share a folder, and no name of theirs is a path: host and name are in the number. */
static char *folder_of(const struct cloning *c, const char *url)
{
	AUTO_STR host = NULL;
	AUTO_STR label = repo_url_label(url, &host);
	AUTO_STR whole = str_printf("%s %s", host != NULL ? host : "", label != NULL ? label : url);
	const char *name = label != NULL ? strrchr(label, '/') + 1 : "repository";
	char hash[SHA256_HEX_LEN];

	id_lower(whole);
	sha256_hex(whole, strlen(whole), hash);
	return str_printf(
	    "%s/%s-%.12s", c->dir, text_is_token(name, "._-", 100) && name[0] != '.' ? name : "repository", hash);
}

static int clone_one(struct cloning *c, const char *url, const char *to)
{
	AUTO_STR half = str_printf("%s.new", to);
	AUTO_STR shown = repo_url_redact(url);
	AUTO_STR doing = str_printf("cloning %s", shown);
	struct git g = git_in(c, c->dir, CLONE_LIMIT_MS);
	int rc;

	if (c->want->progress != NULL)
		c->want->progress(c->want->progress_ctx, doing);
	tree_delete(half); /* of a worker that was killed */
	g.said = &c->fail->said;
	rc = git_must(&g, GIT_ARGS("clone", "--quiet", "--", url, half), NULL, &c->fail->why);
	if (rc == OK && rename(half, to) != 0)
		rc = why_set(
		    &c->fail->why, err_from_errno(errno), "cannot name the clone %.200s: %s", to, strerror(errno));
	if (rc != OK) {
		tree_delete(half);
		c->fail->machine = rc == ERR_NET || rc == ERR_NO_SPACE || rc == ERR_IO;
		return rc;
	}
	log_info("worker.cloned", "repo=%s folder=%s", log_quote(shown), log_quote(to));
	return OK;
}

/* The folder of one repository: one that is there, or a new clone. */
static int provide(struct cloning *c, const char *url, char **ret)
{
	AUTO_STR ready = find_ready(c, url);
	AUTO_STR to = folder_of(c, url);
	int rc = OK;

	if (ready == NULL && !is_checkout_of(c, to, url)) {
		tree_delete(to); /* what is there is not what it should be */
		rc = clone_one(c, url, to);
	}
	if (rc == OK)
		*ret = ready != NULL ? TAKE(ready) : TAKE(to);
	return rc;
}

static int make_dir(struct cloning *c)
{
	if (mkdir(c->dir, 0700) == 0 || errno == EEXIST)
		return OK;
	c->fail->machine = true;
	return why_set(
	    &c->fail->why, err_from_errno(errno), "cannot make the folder %.200s: %s", c->dir, strerror(errno));
}

/* The copy of a folder holds what is in it, and a checkout is copied by itself. */
static bool holds_one(const char *root, const struct clone_set *s)
{
	AUTO_STR below = str_printf("%s/", root);

	for (size_t i = 0; i < s->n; i++)
		if (text_has_prefix(s->paths[i], below))
			return true;
	return false;
}

int clones_prepare(const char *clones_dir, const struct session_config *base, const json_t *repos,
    const struct session_open *want, int cancel_fd, int64_t deadline_mono_ms, struct clone_set **ret,
    struct session_failure *fail)
{
	struct cloning c = {clones_dir, base, want, fail, cancel_fd, deadline_mono_ms};
	struct clone_set *s = NEW(struct clone_set);
	json_t *repo;
	size_t i;
	int rc = make_dir(&c);

	json_array_foreach((json_t *)repos, i, repo)
	{
		const char *url = json_string_value(json_object_get(repo, "url"));

		if (rc == OK && (url == NULL || i >= CLONES_MAX))
			rc = why_set(&fail->why, ERR_INVALID, "repos[%zu] cannot be cloned", i);
		if (rc == OK)
			rc = provide(&c, url, &s->paths[s->n]);
		s->n += rc == OK;
	}
	if (rc != OK) {
		clone_set_free(&s);
		return rc;
	}
	s->roots = mem_zalloc((s->n + base->n_roots) * sizeof *s->roots);
	for (size_t k = 0; k < s->n; k++)
		s->roots[s->n_roots++] = s->paths[k];
	for (size_t k = 0; k < base->n_roots; k++)
		if (!holds_one(base->roots[k], s))
			s->roots[s->n_roots++] = base->roots[k];
	*ret = s;
	return OK;
}
