/* The box that the programs of a session run in. */
#include "agent/session/session_priv.h"
#include "base/mem.h"
#include "base/text.h"
#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Of the process's user, without links; NULL if there is none that could be covered. */
static char *real_home(void)
{
	const char *home = getenv("HOME");
	char *real;

	if (home == NULL || home[0] != '/') {
		const struct passwd *pw = getpwuid(geteuid());

		home = pw != NULL ? pw->pw_dir : NULL;
	}
	real = home != NULL ? realpath(home, NULL) : NULL;
	if (real != NULL && strcmp(real, "/") == 0)
		str_free(&real);
	return real;
}

/* Where ssh-agent listens: mostly a folder of /tmp. NULL if nowhere. */
static char *agent_folder(void)
{
	const char *socket = getenv("SSH_AUTH_SOCK");
	char *real = socket != NULL && socket[0] == '/' ? realpath(socket, NULL) : NULL;
	char *slash = real != NULL ? strrchr(real, '/') : NULL;

	if (slash == NULL || slash == real)
		str_free(&real);
	else
		*slash = '\0';
	if (real != NULL && (strcmp(real, "/tmp") == 0 || strcmp(real, "/var/tmp") == 0))
		str_free(&real);
	return real;
}

/* Where the managers of the machine's and the user's services listen: what they start for a program is not in its box.
 */
static char *services_folder(void)
{
	const char *dir = getenv("XDG_RUNTIME_DIR");

	return dir != NULL && dir[0] == '/' && dir[1] != '\0' ? realpath(dir, NULL) : NULL;
}

/* An overlay inside of a workspace would part what tools write from what commands write. */
static bool is_in_workspace(const struct session *s, const char *path)
{
	for (size_t i = 0; i < s->cfg.n_roots; i++) {
		const char *root = s->cfg.roots[i];
		size_t len = strcmp(root, "/") == 0 ? 0 : strlen(root);

		if (strncmp(path, root, len) == 0 && (path[len] == '/' || path[len] == '\0'))
			return true;
	}
	return false;
}

#define FOLDERS_MAX 128

struct folders {
	const char *v[FOLDERS_MAX];
	size_t n;
};

static void add_folder(struct folders *f, const char *path)
{
	if (path != NULL && f->n < FOLDERS_MAX - 1)
		f->v[f->n++] = path;
	f->v[f->n] = NULL;
}

/* What stays as the worker has it: the session's workspaces, and what the operator shares among all. The rest of
 * agent_dir is the worker's: its note of whose session it is, the layers of an overlay. */
static void list_kept(const struct session *s, const char *agent_socket, struct folders *f)
{
	add_folder(f, "/run/systemd/resolve"); /* where /etc/resolv.conf leads */
	add_folder(f, agent_socket);
	for (size_t i = 0; i < s->cfg.n_roots; i++)
		add_folder(f, tree_path(s->roots[s->roots[i].holder].tree));
	for (size_t i = 0; s->cfg.shared != NULL && s->cfg.shared[i] != NULL; i++)
		add_folder(f, s->cfg.shared[i]);
}

/* What the worker was given. */
static void list_seeds(const struct session *s, struct folders *f)
{
	for (size_t i = 0; i < s->cfg.n_roots; i++) {
		const struct session_root *r = &s->roots[i];

		if (r->holder != i)
			continue;
		add_folder(f, r->seed.source);
		if (r->seed.is_repo && strcmp(r->seed.common_dir, r->seed.git_dir) != 0)
			add_folder(f, r->seed.common_dir); /* of a linked worktree: elsewhere */
	}
}

char *session_transcript_dir(const struct session *s)
{
	char *dir = s->agent_dir != NULL ? str_printf("%s/transcripts", s->agent_dir) : NULL;

	if (dir != NULL && mkdir(dir, 0700) != 0 && errno != EEXIST)
		str_free(&dir);
	return dir;
}

/* Where the session's git finds objects, and the hooks of its commits; what it is judged by, and what was said. The
 * strings of `own` are the caller's. */
static void list_read_only(const struct session *s, struct folders *f, struct folders *own)
{
	char *transcripts = session_transcript_dir(s);

	if (transcripts != NULL)
		add_folder(own, transcripts);
	add_folder(f, transcripts);
	for (size_t i = 0; s->cfg.guarded != NULL && s->cfg.guarded[i] != NULL; i++) {
		char *real = realpath(s->cfg.guarded[i], NULL);

		if (real != NULL)
			add_folder(own, real);
		add_folder(f, real);
	}
	for (size_t i = 0; i < s->cfg.n_roots; i++) {
		const struct session_root *r = &s->roots[i];

		if (r->holder != i)
			continue;
		if (r->depot.dir != NULL) {
			add_folder(own, str_printf("%s/objects", r->depot.dir));
			add_folder(f, own->v[own->n - 1]);
		}
		if (r->depot.session_hooks != NULL && r->depot.session_hooks[0] == '/')
			add_folder(f, r->depot.session_hooks);
	}
}

static int open_new(struct session_job *j)
{
	struct session *s = j->s;
	AUTO_STR home = s->cfg.shared_home ? NULL : real_home();
	AUTO_STR agent_socket = agent_folder();
	AUTO_STR state = realpath(s->cfg.state_dir, NULL);
	AUTO_STR services = services_folder();
	struct folders keep = {.n = 0}, read_only = {.n = 0}, own = {.n = 0};
	const char *hidden[] = {state, "/run/systemd", "/run/dbus", services, NULL};
	struct box_config cfg = {.scratch = s->scratch,
	    .own_tmp = !is_in_workspace(s, "/tmp") && !is_in_workspace(s, "/var/tmp"),
	    .home = home != NULL && !is_in_workspace(s, home) ? home : NULL,
	    .keep = keep.v,
	    .read_only = read_only.v,
	    .hidden = hidden,
	    .memory_bytes = s->cfg.memory_bytes,
	    .cpu_milli = s->cfg.cpu_milli,
	    .pids = s->cfg.pids};
	int rc;

	list_kept(s, agent_socket, &keep);
	list_seeds(s, &read_only);
	list_read_only(s, &read_only, &own);
	rc = box_open(s->cfg.boxes, &cfg, &s->box, &j->fail->why);
	if (rc == OK && s->box != NULL && box_warning(s->box)[0] != '\0')
		session_warn(j->warnings, "%s", box_warning(s->box));
	for (size_t i = 0; i < own.n; i++)
		free((char *)(uintptr_t)own.v[i]);
	j->fail->machine = rc != OK;
	return rc;
}

int session_box_open(struct session_job *j)
{
	struct session *s = j->s;
	int rc = OK;

	if (s->cfg.boxes == NULL)
		return OK;
	if (s->box != NULL && box_has_ended(s->box))
		box_close(&s->box, 0, 0);
	s->used_before = (struct box_usage){0};
	if (s->box == NULL)
		rc = open_new(j);
	else
		IGNORE(box_usage(s->box, &s->used_before));
	return rc;
}

struct box *session_own_box(const struct session *s)
{
	struct folders read_only = {.n = 0};
	AUTO_STR scratch = str_printf("%s/own-box", s->agent_dir);
	struct box_config cfg = {.scratch = scratch, .read_only = read_only.v};
	struct box *box = NULL;

	if (s->cfg.boxes == NULL || session_may_mount(s) || (mkdir(scratch, 0700) != 0 && errno != EEXIST))
		return NULL;
	list_seeds(s, &read_only);
	return box_open(s->cfg.boxes, &cfg, &box, NULL) == OK ? box : NULL;
}

bool session_box_close(struct session *s)
{
	bool sealed = s->box != NULL && box_level(s->box) == BOX_NAMESPACE;

	return box_close(&s->box, CLOSE_TERM_MS, CLOSE_GIVE_UP_MS) == OK && sealed;
}

struct box *session_box(const struct session *s)
{
	return s->box;
}

bool session_has_own_view(const struct session *s)
{
	return s->box != NULL && box_level(s->box) == BOX_NAMESPACE;
}

void session_put_resources(struct session *s, json_t *info)
{
	struct box_usage u;
	json_t *j;

	if (s->box == NULL || box_usage(s->box, &u) != OK)
		return;
	j = json_object();
	json_put_int(j, "cpuMs", MAX(u.cpu_ms - s->used_before.cpu_ms, 0));
	json_put_int(j, "peakMemoryBytes", u.peak_memory_bytes);
	json_put_int(j, "writtenBytes", MAX(u.written_bytes - s->used_before.written_bytes, 0));
	json_put_new(info, "resources", j);
}
