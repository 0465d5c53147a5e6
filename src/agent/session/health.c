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
	struct seed seed; /* our own view of it: sessions read theirs on another thread */
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

/* What a look needs of it. */
static struct seed copy_seed(const struct seed *s)
{
	struct seed c = {.root = str_dup(s->root), .source = str_dup(s->source), .is_repo = s->is_repo};

	if (!s->is_repo)
		return c;
	c.git_dir = str_dup(s->git_dir);
	c.common_dir = str_dup(s->common_dir);
	str_set(&c.url, s->url);
	c.config_stamp = s->config_stamp;
	return c;
}

struct health *health_new(const struct session *s)
{
	struct health *h = NEW(struct health);

	h->state_dir = str_dup(s->cfg.state_dir);
	h->n = s->cfg.n_roots;
	h->target = mem_zalloc(h->n * sizeof *h->target);
	for (size_t i = 0; i < h->n; i++) {
		const struct session_root *r = &s->roots[i];

		h->target[i].seed = copy_seed(&r->seed);
		if (r->unusable.text[0] != '\0')
			h->target[i].unusable = str_dup(r->unusable.text);
	}
	return h;
}

void health_free(struct health **hp)
{
	struct health *h = TAKE(*hp);

	if (h == NULL)
		return;
	for (size_t i = 0; i < h->n; i++) {
		seed_fini(&h->target[i].seed);
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
    struct health_report *r, const char *program, int cancel_fd, enum health_grade missing, const char *without)
{
	const char *argv[] = {program, "--version", NULL};
	struct exec_result res;
	struct why why;

	if (exec_run(&EXEC_SPEC(.argv = argv, .cancel_fd = cancel_fd,
			 .deadline_mono_ms = clock_mono_ms() + PROGRAM_LIMIT_MS),
		&res, &why) != OK) {
		find(r, program, missing, "program_missing", "%s is not on the PATH of the worker: %s", program,
		    without);
		return;
	}
	find(r, program, HEALTH_PASS, NULL, "%.*s", (int)strcspn(res.out, "\n"), res.out);
	exec_result_fini(&res);
}

static void look_at_folder(struct health_report *r, struct health_target *t, int cancel_fd)
{
	struct seed *s = &t->seed;
	AUTO_STR head = s->is_repo ? str_printf("%s/HEAD", s->common_dir) : NULL;
	AUTO_STR remote = NULL;
	struct stat st;
	struct why why = {""};

	if (t->unusable != NULL) {
		find(r, "folder", HEALTH_FATAL, NULL, "%s", t->unusable);
	} else if (stat(s->source, &st) != 0 || !S_ISDIR(st.st_mode)) {
		find(r, "folder", HEALTH_UNFIT, "folder_gone", "the folder %s is not there any more", s->root);
	} else if (access(s->source, R_OK | X_OK) != 0) {
		find(r, "folder", HEALTH_UNFIT, "folder_gone", "the folder %s cannot be read: %s", s->root,
		    strerror(errno));
	} else if (head != NULL && access(head, R_OK) != 0) {
		find(
		    r, "folder", HEALTH_UNFIT, "folder_gone", "the git directory of %s is not there any more", s->root);
	} else if (!s->is_repo) {
		find(r, "folder", HEALTH_WARN, NULL,
		    "%s is not a git checkout: this worker serves only requests without a repository", s->root);
	} else if (seed_refresh(s, cancel_fd, &why) != OK) {
		/* A session could not read it either. */
		find(r, "folder", HEALTH_UNFIT, "session_failed", "the git configuration of %s cannot be read: %s",
		    s->root, why.text);
	} else if (s->url == NULL) {
		find(r, "folder", HEALTH_WARN, NULL,
		    "%s has no remote named origin: this worker serves only requests without a repository", s->root);
	} else {
		remote = repo_url_redact(s->url);
		find(r, "folder", HEALTH_PASS, NULL, "%s is a checkout of %s", s->root, remote);
	}
}

/* Asks as the seed's configuration says now. The depot's copy of it is as old as the last session, and an unfit worker
 * opens none: it would never hear of what a person mended. */
static void look_at_remote(struct health_report *r, const struct health_target *t, int cancel_fd, int64_t deadline)
{
	const struct seed *s = &t->seed;
	struct git g = {.dir = s->source, .git_dir = s->git_dir, .cancel_fd = cancel_fd, .deadline_mono_ms = deadline};
	AUTO_STR remote = NULL;
	struct why why = {""};
	int rc;

	if (t->unusable != NULL || !s->is_repo || s->url == NULL)
		return;
	remote = repo_url_redact(s->url);
	/* The one setting about asking that sessions do not take over from the seed. */
	rc = git_must(
	    &g, GIT_ARGS("-c", "remote.origin.uploadpack=git-upload-pack", "ls-remote", "origin", "HEAD"), NULL, &why);
	if (rc == OK)
		find(r, "remote", HEALTH_PASS, NULL, "%s answers", remote);
	else if (rc == ERR_TIMEOUT)
		find(r, "remote", HEALTH_UNFIT, "remote_unreachable", "origin (%s) does not answer", remote);
	else
		find(r, "remote", HEALTH_UNFIT, "remote_unreachable", "origin (%s) cannot be reached: %s", remote,
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

static void look_for_programs(const struct health *h, int cancel_fd, struct health_report *r)
{
	bool any_repo = false;

	for (size_t i = 0; i < h->n; i++)
		any_repo |= h->target[i].seed.is_repo;
	look_for_program(r, "git", cancel_fd, any_repo ? HEALTH_FATAL : HEALTH_WARN, "checkouts need it");
	look_for_program(r, "rg", cancel_fd, HEALTH_WARN, "searching files fails without it (Debian: ripgrep)");
	look_for_program(r, exec_shell_name(), cancel_fd, HEALTH_FATAL, "commands run in it");
}

void health_look(struct health *h, int cancel_fd, int64_t deadline_mono_ms, struct health_report *ret)
{
	*ret = (struct health_report){0};
	look_for_programs(h, cancel_fd, ret);
	look_at_space(ret, h->state_dir);
	for (size_t i = 0; i < h->n; i++)
		look_at_folder(ret, &h->target[i], cancel_fd);
	for (size_t i = 0; i < h->n; i++)
		look_at_remote(ret, &h->target[i], cancel_fd, deadline_mono_ms);
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
