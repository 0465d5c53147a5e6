#include "agent/session/health.h"
#include "agent/session/exec.h"
#include "agent/session/session_priv.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/repo_url.h"
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* Less is not enough for any checkout. */
#define MIN_FREE_MIB 256
#define PROGRAM_LIMIT_MS 10000

struct health_target {
	char *root, *source, *common_dir; /* common_dir NULL: it is no checkout */
	char *depot; /* from where its remote is asked; NULL: it has none */
	char *remote; /* without credentials */
	char *unusable; /* NULL: it could be read */
};

struct health {
	char *state_dir;
	size_t n;
	struct health_target *target;
};

const char *health_grade_name(enum health_grade g)
{
	static const char *const names[] = {"pass", "warn", "unfit", "fail"};

	return names[g];
}

struct health *health_new(const struct session *s)
{
	struct health *h = NEW(struct health);

	h->state_dir = str_dup(s->cfg.state_dir);
	h->n = s->cfg.n_roots;
	h->target = mem_zalloc(h->n * sizeof *h->target);
	for (size_t i = 0; i < h->n; i++) {
		const struct session_root *r = &s->roots[i];
		struct health_target *t = &h->target[i];
		struct depot depot = {0};

		t->root = str_dup(r->seed.root);
		t->source = str_dup(r->seed.source);
		t->common_dir = r->seed.is_repo ? str_dup(r->seed.common_dir) : NULL;
		t->unusable = r->unusable.text[0] != '\0' ? str_dup(r->unusable.text) : NULL;
		if (r->seed.is_repo && r->seed.url != NULL) {
			t->remote = repo_url_redact(r->seed.url);
			if (depot_open(s->repos_dir, &r->seed, &depot, NULL) == OK)
				t->depot = str_dup(depot.dir);
			depot_fini(&depot);
		}
	}
	return h;
}

void health_free(struct health **hp)
{
	struct health *h = TAKE(*hp);

	if (h == NULL)
		return;
	for (size_t i = 0; i < h->n; i++) {
		free(h->target[i].root);
		free(h->target[i].source);
		free(h->target[i].common_dir);
		free(h->target[i].depot);
		free(h->target[i].remote);
		free(h->target[i].unusable);
	}
	free(h->target);
	free(h->state_dir);
	free(h);
}

static void find(struct health_report *r, const char *check, enum health_grade grade, const char *code, const char *fmt,
    ...) PRINTF_LIKE(5, 6);
static void find(
    struct health_report *r, const char *check, enum health_grade grade, const char *code, const char *fmt, ...)
{
	va_list ap;

	if (r->n == HEALTH_MAX)
		return;
	va_start(ap, fmt);
	r->v[r->n++] =
	    (struct health_finding){.check = check, .grade = grade, .code = code, .detail = str_vprintf(fmt, ap)};
	va_end(ap);
}

/* The first line of what `PROGRAM --version` says. */
static void look_for_program(
    struct health_report *r, const char *program, enum health_grade missing, const char *without)
{
	const char *argv[] = {program, "--version", NULL};
	struct exec_result res;
	struct why why;

	if (exec_run(&EXEC_SPEC(.argv = argv, .deadline_mono_ms = clock_mono_ms() + PROGRAM_LIMIT_MS), &res, &why) !=
	    OK) {
		find(r, program, missing, "program_missing", "%s is not on the PATH of the worker: %s", program,
		    without);
		return;
	}
	find(r, program, HEALTH_PASS, NULL, "%.*s", (int)strcspn(res.out, "\n"), res.out);
	exec_result_fini(&res);
}

static void look_at_folder(struct health_report *r, const struct health_target *t)
{
	AUTO_STR head = t->common_dir != NULL ? str_printf("%s/HEAD", t->common_dir) : NULL;
	struct stat st;

	if (t->unusable != NULL)
		find(r, "folder", HEALTH_FATAL, NULL, "%s", t->unusable);
	else if (stat(t->source, &st) != 0 || !S_ISDIR(st.st_mode))
		find(r, "folder", HEALTH_UNFIT, "folder_gone", "the folder %s is not there any more", t->root);
	else if (access(t->source, R_OK | X_OK) != 0)
		find(r, "folder", HEALTH_UNFIT, "folder_gone", "the folder %s cannot be read: %s", t->root,
		    strerror(errno));
	else if (head != NULL && access(head, R_OK) != 0)
		find(
		    r, "folder", HEALTH_UNFIT, "folder_gone", "the git directory of %s is not there any more", t->root);
	else if (t->common_dir == NULL)
		find(r, "folder", HEALTH_WARN, NULL,
		    "%s is not a git checkout: this worker serves only requests without a repository", t->root);
	else if (t->remote == NULL)
		find(r, "folder", HEALTH_WARN, NULL,
		    "%s has no remote named origin: this worker serves only requests without a repository", t->root);
	else
		find(r, "folder", HEALTH_PASS, NULL, "%s is a checkout of %s", t->root, t->remote);
}

static void look_at_remote(struct health_report *r, const struct health_target *t, int64_t deadline)
{
	struct git g = {.dir = t->depot, .git_dir = t->depot, .cancel_fd = -1, .deadline_mono_ms = deadline};
	struct why why = {""};
	int rc;

	if (t->depot == NULL)
		return;
	rc = git_must(&g, GIT_ARGS("ls-remote", "origin", "HEAD"), NULL, &why);
	if (rc == OK)
		find(r, "remote", HEALTH_PASS, NULL, "%s answers", t->remote);
	else if (rc == ERR_TIMEOUT)
		find(r, "remote", HEALTH_UNFIT, "remote_unreachable", "origin (%s) does not answer", t->remote);
	else
		find(r, "remote", HEALTH_UNFIT, "remote_unreachable", "origin (%s) cannot be reached: %s", t->remote,
		    why.text);
}

static void look_at_space(struct health_report *r, const char *dir)
{
	AUTO_STR probe = str_printf("%s/.probe", dir);
	struct statvfs st;
	unsigned long long free_mib;
	int fd;

	if (statvfs(dir, &st) != 0) {
		find(r, "space", HEALTH_UNFIT, "no_space", "the data folder %s cannot be used: %s", dir,
		    strerror(errno));
		return;
	}
	free_mib = (unsigned long long)st.f_bavail * st.f_frsize >> 20;
	if (free_mib < MIN_FREE_MIB) {
		find(r, "space", HEALTH_UNFIT, "no_space", "%s has %llu MiB left, a session needs %d", dir, free_mib,
		    MIN_FREE_MIB);
		return;
	}
	fd = open(probe, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0) {
		find(r, "space", HEALTH_UNFIT, "no_space", "nothing can be written to %s: %s", dir, strerror(errno));
		return;
	}
	close(fd);
	unlink(probe);
	find(r, "space", HEALTH_PASS, NULL, "%llu MiB free in %s", free_mib, dir);
}

void health_look(const struct health *h, int64_t deadline_mono_ms, struct health_report *ret)
{
	bool any_repo = false;

	*ret = (struct health_report){0};
	for (size_t i = 0; i < h->n; i++)
		any_repo |= h->target[i].common_dir != NULL;
	look_for_program(ret, "git", any_repo ? HEALTH_FATAL : HEALTH_WARN, "checkouts need it");
	look_for_program(ret, "rg", HEALTH_WARN, "searching files fails without it (Debian: ripgrep)");
	look_for_program(ret, exec_shell_name(), HEALTH_FATAL, "commands run in it");
	look_at_space(ret, h->state_dir);
	for (size_t i = 0; i < h->n; i++)
		look_at_folder(ret, &h->target[i]);
	for (size_t i = 0; i < h->n; i++)
		look_at_remote(ret, &h->target[i], deadline_mono_ms);
}

const struct health_finding *health_worst(const struct health_report *r, enum health_grade above)
{
	const struct health_finding *worst = NULL;

	for (size_t i = 0; i < r->n; i++)
		if (r->v[i].grade > above && (worst == NULL || r->v[i].grade > worst->grade))
			worst = &r->v[i];
	return worst;
}

void health_report_fini(struct health_report *r)
{
	for (size_t i = 0; i < r->n; i++)
		free(r->v[i].detail);
	r->n = 0;
}
