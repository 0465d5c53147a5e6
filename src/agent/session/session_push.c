/* The second half of publishing, outside of the box: the depot pushes to the true remote and looks whether the branches
 * are there; and what is said of it. */
#include "agent/session/beneath.h"
#include "agent/session/session_publish_priv.h"
#include "agent/session/tree_priv.h"
#include "base/folder.h"
#include "base/mem.h"
#include "base/text.h"
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define MAX_STAT_BYTES (8 * 1024)
#define LARGE_FILES ".git/lfs/objects"

static int refused_push(struct publication *p, const struct outgoing *o, const struct git_out *r)
{
	/* Where hooks say it, such as that of git-lfs. */
	AUTO_STR words = str_printf("%s%s%s", r->out, r->out[0] != '\0' ? "\n" : "", r->err);
	AUTO_STR reason = git_reason(r->err);

	p->j->fail->machine = git_is_machines_fault(r->err);
	free(p->j->fail->said);
	p->j->fail->said = git_said(words);
	if (strstr(r->err, "(fetch first)") != NULL || strstr(r->err, "(non-fast-forward)") != NULL)
		return why_set(WHY(p), ERR_CONFLICT,
		    "branch '%.100s' has moved on origin and was not overwritten: %.250s", o->branch, reason);
	return why_set(WHY(p), ERR_INVALID, "pushing branch '%.100s' failed: %.300s", o->branch, reason);
}

/* Objects of large files are in the session; the pointer to them is worth nothing without. They are shown to git-lfs
 * where it looks for those of the depot, as hard links for as long as the push takes; the remote checks them by their
 * hash. A hook of git-lfs in the seed sends them along; without it that is done first. */
static int push_large_files(struct publication *p, const struct outgoing *o, int from, const char *to)
{
	AUTO_STR hook = str_printf("%s/pre-push", session_primary(p->j->s)->depot.hooks);
	struct tree_copy c = {.from_fd = from, .from = LARGE_FILES, .to = to, .reflink = true, .link_files = true};
	struct tree_cost cost = {0};
	int rc = folder_make(to, WHY(p));

	if (rc == OK)
		rc = tree_copy(&c, &cost, WHY(p));
	if (rc != OK || access(hook, X_OK) == 0)
		return rc;
	return git_must(&p->g, GIT_ARGS("lfs", "push", "origin", o->commit), NULL, WHY(p));
}

/* Wherever the session made it lead to, it stays in the session. */
static int open_large_files(const struct publication *p)
{
	return open_beneath(p->j->s->top, LARGE_FILES, O_RDONLY | O_DIRECTORY);
}

bool publication_has_large_files(const struct publication *p)
{
	int fd = open_large_files(p);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

int publication_push(struct publication *p, struct outgoing *o)
{
	AUTO_STR spec = str_printf("%s:refs/heads/%s", o->commit, o->branch);
	AUTO_STR in_depot = str_printf("%s/lfs", p->g.git_dir);
	AUTO_STR objects = str_printf("%s/objects", in_depot);
	AUTO_FINI(git_out) r = {0};
	struct git g = p->g;
	AUTO_STR undo = NULL;
	int large = open_large_files(p);
	int rc = OK;

	if (large >= 0) {
		session_show_origin(p->j, &undo);
		rc = push_large_files(p, o, large, objects);
	}

	g.hooks = session_primary(p->j->s)->depot.hooks;
	if (rc == OK)
		rc = git_run(&g, GIT_ARGS("push", "origin", spec), &r, WHY(p));
	if (large >= 0) {
		session_hide_origin(p->j, undo);
		tree_delete(in_depot);
		close(large);
	}
	if (rc != OK)
		return rc;
	if (r.status != 0)
		return refused_push(p, o, &r);
	return OK;
}

/* "SHA\tREF" a line. malloc'ed, "" if it is not there. */
static char *remote_commit(const struct publication *p, const char *branch)
{
	AUTO_STR ref = str_printf("\trefs/heads/%s", branch);
	size_t n = strlen(ref);

	for (const char *line = p->remote; line != NULL && *line != '\0';) {
		size_t len = strcspn(line, "\n");

		if (len > n && memcmp(line + len - n, ref, n) == 0)
			return str_ndup(line, len - n);
		line += len + (line[len] == '\n');
	}
	return str_dup("");
}

static int ask_remote(struct publication *p)
{
	AUTO_STR own = str_printf("refs/heads/%s", p->j->s->branch);
	AUTO_STR beside = str_printf("refs/heads/%s-*", p->j->s->branch);
	bool beside_too = p->n_out > 1 || (p->n_out == 1 && strcmp(p->out[0].branch, p->j->s->branch) != 0);
	int rc;

	str_free(&p->remote);
	rc = git_must(&p->g,
	    beside_too ? GIT_ARGS("ls-remote", "origin", own, beside) : GIT_ARGS("ls-remote", "origin", own),
	    &p->remote, WHY(p));
	return rc == OK ? OK : session_fail_machine(p->j, rc);
}

/* A push that said it was done is believed when the remote shows it. */
int publication_verify(struct publication *p)
{
	int rc = ask_remote(p);

	for (size_t i = 0; rc == OK && i < p->n_out; i++) {
		AUTO_STR there = remote_commit(p, p->out[i].branch);

		if (strcmp(there, p->out[i].commit) != 0)
			return why_set(WHY(p), ERR_CONFLICT,
			    "branch '%.100s' was pushed, but origin shows %.12s there instead of %.12s",
			    p->out[i].branch, there[0] ? there : "nothing", p->out[i].commit);
	}
	return rc;
}

static int64_t number_before(const char *text, const char *word)
{
	const char *at = strstr(text, word);

	if (at == NULL)
		return 0;
	while (at > text && at[-1] == ' ')
		at--;
	while (at > text && at[-1] >= '0' && at[-1] <= '9')
		at--;
	return strtoll(at, NULL, 10);
}

/* Counts are decoration: a base that is gone leaves them at 0. */
static void put_counts(json_t *info, const struct publication *p, const char *head)
{
	const struct session *s = p->j->s;
	struct git g = p->g;
	AUTO_STR merge_base = NULL;
	AUTO_STR stat = NULL;
	AUTO_STR cut = NULL;
	const char *text, *last;

	g.said = NULL;
	if (s->base[0] != '\0' && head[0] != '\0') {
		/* The base may also be a tree: of a repository that had no commit. */
		if (git_must(&g, GIT_ARGS("merge-base", s->base, head), &merge_base, NULL) != OK)
			str_set(&merge_base, s->base);
		IGNORE(
		    git_must(&g, GIT_ARGS("diff", "--no-ext-diff", "--stat=100", merge_base, head, "--"), &stat, NULL));
	}
	text = stat != NULL ? stat : "";
	last = strrchr(text, '\n');
	last = last != NULL ? last + 1 : text;
	json_put_int(info, "filesChanged", number_before(last, "file"));
	json_put_int(info, "linesAdded", number_before(last, "insertion"));
	json_put_int(info, "linesRemoved", number_before(last, "deletion"));
	cut = text_cut_middle(text, strlen(text), MAX_STAT_BYTES, NULL);
	json_put(info, "diffStat", cut);
}

/* A link to a repository that no .gitmodules names is nothing to whoever clones the branch. */
static void note_bare_links(struct publication *p, const char *head)
{
	AUTO_FINI(git_out) o = {0};
	AUTO_STR modules = NULL;
	AUTO_STR file = str_printf("%s:.gitmodules", head);
	struct git g = p->g;

	g.said = NULL;
	if (p->j->s->base[0] == '\0' ||
	    git_run_bytes(&g, GIT_ARGS("diff", "--raw", "-z", "--no-renames", p->j->s->base, head, "--"), &o, NULL) !=
		OK)
		return;
	for (size_t at = 0; o.status == 0 && at < o.out_len;) {
		const char *entry = o.out + at, *path = entry + strlen(entry) + 1;

		at += strlen(entry) + 1;
		if (at >= o.out_len)
			break;
		at += strlen(path) + 1;
		if (strlen(entry) < 15 || memcmp(entry + 8, "160000", 6) != 0)
			continue;
		if (modules == NULL && git_must(&g, GIT_ARGS("show", file), &modules, NULL) != OK)
			modules = str_dup("");
		AUTO_STR named = str_printf("path = %s\n", path);
		AUTO_STR all = str_printf("%s\n", modules);

		if (strstr(all, named) == NULL)
			publication_leave_out(p, path,
			    "only a link to this repository was committed, and nothing says where it is; remove its "
			    ".git folder, or "
			    "make it a submodule");
		else
			session_warn(p->j->warnings,
			    "Submodule %s was moved to another commit; push that to its own remote too.", path);
	}
}

json_t *publication_report(struct publication *p)
{
	const struct session *s = p->j->s;
	json_t *info = json_object(), *branches = json_array();
	const struct outgoing *first = p->n_out > 0 ? &p->out[0] : NULL;
	AUTO_STR there = remote_commit(p, s->branch);
	/* The agent's branch, if origin has it by now; it comes first. */
	bool own = there[0] != '\0';
	const char *head = own ? there : first != NULL ? first->commit : s->tip;

	if (head[0] != '\0')
		note_bare_links(p, head);
	json_put(info, "branch", own ? s->branch : first != NULL ? first->branch : "");
	json_put(info, "repoUrl", s->repo_url);
	json_put(info, "commit", head);
	json_put_bool(info, "committed", p->committed);
	json_put_bool(info, "pushed", first != NULL);
	put_counts(info, p, head);
	for (size_t i = 0; i < p->n_out; i++)
		json_array_append_new(branches,
		    json_pack("{s:s, s:s, s:b}", "branch", p->out[i].branch, "commit", p->out[i].commit, "pushed", 1));
	json_put_new(info, "branches", branches);
	json_put_new(info, "notPublished", json_incref(p->not_published));
	json_put_new(info, "warnings", json_incref(p->j->warnings));
	json_put_new(info, "kept", json_null());
	return info;
}
