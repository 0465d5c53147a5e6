#include "agent/worker/session_priv.h"
#include "base/mem.h"
#include "base/text.h"
#include <string.h>

#define MAX_MESSAGE_BYTES (64 * 1024)
#define MAX_STAT_BYTES (8 * 1024)

/* What was found out and done so far. */
struct publication {
	char *base; /* "" if unknown */
	char *head; /* "" if there is no commit */
	char *remote; /* the branch's commit on origin; "" if it is not there */
	bool committed;
	bool pushed;
};

static void publication_fini(struct publication *p)
{
	str_free(&p->base);
	str_free(&p->head);
	str_free(&p->remote);
}

static const char *publish_or_default(const char *s, const char *otherwise)
{
	return s != NULL && !text_is_blank(s) ? s : otherwise;
}

static int commit_all(const struct git *g, const struct session_publish *want, bool *ret_committed, struct why *why)
{
	const char *message = publish_or_default(want->message, "Changes by the agent");
	AUTO_STR name = str_printf("user.name=%s", publish_or_default(want->author_name, "Bullpen"));
	AUTO_STR email = str_printf("user.email=%s", publish_or_default(want->author_email, "bullpen@localhost"));
	AUTO_STR text = NULL;
	AUTO_FINI(git_out) staged = {0};
	int rc = git_must(g, GIT_ARGS("add", "--all", "--", "."), NULL, why);

	if (rc == OK)
		rc = git_run(g, GIT_ARGS("diff", "--cached", "--quiet", "--no-ext-diff"), &staged, why);
	if (rc != OK)
		return rc;
	if (staged.status == 0) {
		*ret_committed = false;
		return OK;
	}
	text = str_printf("--message=%.*s", (int)text_utf8_cut(message, strlen(message), MAX_MESSAGE_BYTES), message);
	rc = git_must(g, GIT_ARGS("-c", name, "-c", email, "commit", "--quiet", "--no-gpg-sign", text), NULL, why);
	if (rc == OK)
		*ret_committed = true;
	return rc;
}

static int look(const struct git *g, const char *branch, struct publication *p, struct why *why)
{
	AUTO_STR ref = str_printf("refs/heads/%s", branch);
	int rc = git_must(g, GIT_ARGS("ls-remote", "origin", ref), &p->remote, why);

	if (rc != OK)
		return rc;
	/* "SHA\tREF"; other refs may end like ours. */
	for (char *line = p->remote, *next; line != NULL; line = next) {
		size_t tab = strcspn(line, "\t\n");

		next = strchr(line, '\n');
		if (next != NULL)
			*next++ = '\0';
		if (line[tab] == '\t' && strcmp(line + tab + 1, ref) == 0) {
			line[tab] = '\0';
			str_set(&p->remote, line);
			return OK;
		}
	}
	str_set(&p->remote, "");
	return OK;
}

static int push(const struct git *g, const char *branch, struct publication *p, struct why *why)
{
	AUTO_STR spec = str_printf("HEAD:refs/heads/%s", branch);
	AUTO_FINI(git_out) o = {0};
	AUTO_STR reason = NULL;
	int rc = git_run(g, GIT_ARGS("push", "origin", spec), &o, why);

	if (rc != OK)
		return rc;
	if (o.status == 0) {
		p->pushed = true;
		return OK;
	}
	reason = git_reason(o.err);
	if (strstr(o.err, "(fetch first)") != NULL || strstr(o.err, "(non-fast-forward)") != NULL)
		return why_set(why, ERR_CONFLICT,
		    "branch '%.100s' has moved on origin and was not overwritten; the commit is kept on the worker: "
		    "%.250s",
		    branch, reason);
	return why_set(why, ERR_INVALID, "pushing branch '%.100s' failed; the commit is kept on the worker: %.300s",
	    branch, reason);
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
static void put_counts(json_t *info, const struct git *g, const struct publication *p)
{
	AUTO_STR merge_base = NULL;
	AUTO_STR stat = NULL;
	AUTO_STR cut = NULL;
	const char *text, *last;

	if (p->base[0] != '\0' && p->head[0] != '\0') {
		/* The base may also be a tree: of a repository that had no commit. */
		if (git_must(g, GIT_ARGS("merge-base", p->base, "HEAD"), &merge_base, NULL) != OK)
			str_set(&merge_base, p->base);
		IGNORE(git_must(
		    g, GIT_ARGS("diff", "--no-ext-diff", "--stat=100", merge_base, "HEAD", "--"), &stat, NULL));
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

static json_t *not_pushed(void)
{
	json_t *info = json_object();

	json_put_bool(info, "pushed", false);
	return info;
}

static json_t *report(const struct session *s, const struct git *g, const struct publication *p)
{
	json_t *info = json_object();
	bool nowhere = !p->pushed && p->remote[0] == '\0';

	json_put(info, "branch", nowhere ? "" : s->branch);
	json_put(info, "repoUrl", s->repo_url);
	json_put(info, "commit", p->head);
	json_put_bool(info, "committed", p->committed);
	json_put_bool(info, "pushed", p->pushed);
	put_counts(info, g, p);
	return info;
}

int session_publish(struct session *s, const struct session_publish *want, int cancel_fd, int64_t deadline_mono_ms,
    json_t **ret_info, struct why *why)
{
	AUTO_FINI(publication) p = {0};
	struct git g = {.agent_id = s->agent_id,
	    .scratch_dir = s->scratch,
	    .cancel_fd = cancel_fd,
	    .deadline_mono_ms = deadline_mono_ms};
	int rc;

	OBJ_CHECK(s, SESSION_MAGIC);
	if (s->branch[0] == '\0') {
		*ret_info = not_pushed();
		return OK;
	}
	g.dir = s->top;
	rc = commit_all(&g, want, &p.committed, why);
	if (rc == OK)
		rc = look(&g, s->branch, &p, why);
	if (rc != OK)
		return rc;
	p.base = session_base(&g, s->branch);
	if (git_must(&g, GIT_ARGS("rev-parse", "-q", "--verify", "HEAD"), &p.head, NULL) != OK)
		str_set(&p.head, "");
	/* Pushing again what is there already is how a repeated publish finds that it was done. */
	if (p.head[0] != '\0' && strcmp(p.head, p.base) != 0)
		rc = push(&g, s->branch, &p, why);
	/* Not having found a commit may also mean that nobody was asked. */
	if (rc == OK && !p.pushed)
		rc = git_interrupted(&g, why);
	if (rc == OK)
		*ret_info = report(s, &g, &p);
	return rc;
}
