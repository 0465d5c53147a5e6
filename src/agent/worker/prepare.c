#include "agent/worker/prepare.h"
#include "agent/worker/locks.h"
#include "base/log.h"
#include "base/mem.h"
#include <string.h>
#include <unistd.h>

/* A remote that is a repository in a folder of this machine; NULL if it is none. */
static char *remote_folder(const char *url)
{
	const char *path = strncmp(url, "file:///", 8) == 0 ? url + 7 : url;
	char *real = path[0] == '/' ? realpath(path, NULL) : NULL;
	AUTO_STR bare = str_printf("%s/objects", real != NULL ? real : "");
	AUTO_STR checkout = str_printf("%s/.git", real != NULL ? real : "");

	if (real != NULL && access(bare, F_OK) != 0 && access(checkout, F_OK) != 0)
		str_free(&real);
	return real;
}

/* A pool machine's home belongs to nobody. */
static const char *own_home(const struct worker_options *o)
{
	const char *home = getenv("HOME");

	return o->pool == NULL && home != NULL && home[0] == '/' ? home : NULL;
}

void prepare_session(const struct worker_options *o, const struct worker_roots *roots, const char *state_dir,
    struct boxes *boxes, struct prepared *ret)
{
	size_t n = 0;

	ret->session = (struct session_config){.roots = ret->paths,
	    .n_roots = roots->n,
	    .state_dir = state_dir,
	    .boxes = boxes,
	    .shared_home = o->shared_home,
	    .home = own_home(o),
	    .memory_bytes = o->session_memory_bytes,
	    .cpu_milli = o->session_cpu_milli,
	    .pids = o->session_pids,
	    .shared = ret->shared};
	for (size_t i = 0; i < roots->n; i++) {
		char *folder = remote_folder(roots->root[i].remote_url);

		ret->paths[i] = roots->root[i].path;
		if (folder != NULL)
			ret->shared[n++] = ret->folders[ret->n_folders++] = folder;
	}
	for (size_t i = 0; i < o->n_shared; i++)
		ret->shared[n++] = o->shared[i];
	ret->shared[n] = NULL;
}

static bool is_below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return strncmp(path, dir, n) == 0 && (path[n] == '/' || path[n] == '\0' || n == 1);
}

/* A copy of the folder would hold itself. */
static int check_data_folder(const struct worker_roots *roots, const char *state_dir, struct why *why)
{
	AUTO_STR real = realpath(state_dir, NULL);

	for (size_t i = 0; i < roots->n; i++)
		if (is_below(real != NULL ? real : state_dir, roots->root[i].top))
			return why_set(why, ERR_INVALID,
			    "the data directory %.200s lies inside the worker's folder %.200s; give another --data-dir",
			    real != NULL ? real : state_dir, roots->root[i].top);
	return OK;
}

static bool is_first_of_its_top(const struct worker_roots *roots, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (strcmp(roots->root[k].top, roots->root[i].top) == 0)
			return false;
	return true;
}

int prepare(const struct worker_options *o, const struct worker_roots *roots, const struct identity *id,
    struct boxes *boxes, struct prepared *ret, struct why *why)
{
	int rc = check_data_folder(roots, id->state_dir, why);

	for (size_t i = 0; rc == OK && i < roots->n; i++)
		if (is_first_of_its_top(roots, i)) {
			rc = lock_seed(roots->root[i].top, id->data_dir, &ret->locks[ret->n_locks], why);
			ret->n_locks += rc == OK;
		}
	if (rc == OK) {
		rc = lock_worker_id(o->endpoint, id->worker_id, id->data_dir, &ret->locks[ret->n_locks], why);
		ret->n_locks += rc == OK;
	}
	if (rc == OK)
		prepare_session(o, roots, id->state_dir, boxes, ret);
	return rc;
}

void prepared_end_leftovers(const struct prepared *p)
{
	struct session_leftovers left;

	session_end_leftovers(&p->session, &left);
	if (left.processes > 0 || left.folders > 0)
		log_warn("worker.leftovers", "processes=%zu folders=%zu kept=%zu ended=%s", left.processes,
		    left.folders, left.kept, left.alive ? "no" : "yes");
}

void prepared_fini(struct prepared *p)
{
	for (size_t i = 0; i < p->n_folders; i++)
		free(p->folders[i]);
	for (size_t i = 0; i < p->n_locks; i++)
		if (p->locks[i] >= 0)
			close(p->locks[i]);
	p->n_folders = p->n_locks = 0;
}
