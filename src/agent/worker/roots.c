#include "agent/worker/roots.h"
#include "agent/session/seed.h"
#include "base/mem.h"
#include "base/repo_url.h"
#include <string.h>

#define MAX_URL 4096

/* The address as it is configured: a rewriting rule (insteadOf) says how to get there, not whose repository it is. */
static int read_root(const char *dir, struct worker_root *r, struct why *why)
{
	AUTO_FINI(seed) seed = {0};
	int rc = seed_read(dir, &seed, why);

	r->path = str_dup(dir);
	r->top = str_dup(seed.top != NULL ? seed.top : dir);
	if (rc == OK && seed.url != NULL && strlen(seed.url) <= MAX_URL) {
		r->repo = repo_url_label(seed.url, &r->host);
		r->remote_url = repo_url_redact(seed.url);
	}
	if (r->remote_url == NULL)
		r->remote_url = str_dup("");
	if (r->host == NULL)
		r->host = str_dup("");
	if (r->repo == NULL)
		r->repo = str_dup("");
	return rc;
}

int roots_read(const struct worker_options *o, struct worker_roots *ret, struct why *why)
{
	int rc = OK;

	*ret = (struct worker_roots){0};
	for (size_t i = 0; i < o->n_dirs && rc == OK; i++)
		rc = read_root(o->dirs[i], &ret->root[ret->n++], why);
	return rc;
}

void roots_fini(struct worker_roots *r)
{
	for (size_t i = 0; i < r->n; i++) {
		str_free(&r->root[i].path);
		str_free(&r->root[i].top);
		str_free(&r->root[i].remote_url);
		str_free(&r->root[i].host);
		str_free(&r->root[i].repo);
	}
	r->n = 0;
}
