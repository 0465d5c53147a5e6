/* Publishing: what is uncommitted is committed in the session's own checkout (session_commit.c); then the branches come
 * over into the depot, which pushes them (session_push.c). Here: which of them go where. */
#include "agent/session/session_publish_priv.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include <string.h>
#include <unistd.h>

#define INSIDE_LIMIT_MS (10 * 60 * 1000)
#define KEEP_LIMIT_MS (60 * 1000)
#define MAX_COMMITS_BYTES (16 * 1024 * 1024)

static void publication_fini(struct publication *p)
{
	for (size_t i = 0; i < p->n_heads; i++) {
		free(p->heads[i].name);
		free(p->heads[i].commit);
	}
	for (size_t i = 0; i < p->n_out; i++) {
		free(p->out[i].branch);
		free(p->out[i].commit);
	}
	free(p->heads);
	str_free(&p->current);
	str_free(&p->first_unmerged);
	str_free(&p->remote);
	json_decref(p->not_published);
}

static void add_head(struct publication *p, char *name, char *commit)
{
	p->heads = mem_grow(p->heads, &p->cap_heads, p->n_heads + 1, sizeof *p->heads);
	p->heads[p->n_heads++] = (struct head){.name = name, .commit = commit};
}

/* The branches of the session, its HEAD where that has none, as they are in the depot now. */
static int list_heads(struct publication *p)
{
	AUTO_FINI(git_out) o = {0};
	char *at, *sha, *name;
	int rc = session_list_refs(&p->g, SESSION_HEADS, &o, WHY(p));

	for (at = o.out; rc == OK && session_next_ref(&at, SESSION_HEADS, &sha, &name);)
		add_head(p, str_dup(name), str_dup(sha));
	if (rc == OK && p->current[0] == '\0')
		add_head(
		    p, str_dup(""), depot_ref(&session_primary(p->j->s)->depot, &p->g, "refs/bullpen/session/HEAD"));
	return rc;
}

/* One question for all of them. Where git cannot tell, as in a history that ends early, all are missing. */
static int find_news(struct publication *p)
{
	AUTO_FINI(git_out) news = {0};
	struct strbuf commits = STRBUF(MAX_COMMITS_BYTES);
	bool known;

	for (size_t i = 0; i < p->n_heads; i++)
		if (p->heads[i].commit[0] != '\0')
			strbuf_addf(&commits, "%s\n", p->heads[i].commit);
	known = !commits.overflowed && session_news(p->j, strbuf_str(&commits), false, &news, NULL) == OK;
	for (size_t i = 0; i < p->n_heads; i++) {
		struct head *h = &p->heads[i];

		h->is_missing = h->commit[0] != '\0' && (!known || strstr(news.out, h->commit) != NULL);
		h->is_new = h->is_missing && strcmp(h->commit, p->j->s->tip) != 0;
	}
	strbuf_fini(&commits);
	return git_interrupted(&p->g, WHY(p));
}

static bool publish_is_ancestor(const struct publication *p, const char *a, const char *b)
{
	return git_says_yes(&p->g, GIT_ARGS("merge-base", "--is-ancestor", a, b));
}

static void add_outgoing(struct publication *p, char *branch, const struct head *h)
{
	p->out[p->n_out++] = (struct outgoing){.branch = branch, .commit = str_dup(h->commit), .from = h->name};
}

/* A name for a branch that is not the agent's own, beside it. */
static char *name_beside(const struct session *s, const char *name)
{
	char *branch = str_printf("%s-%s", s->branch, name[0] != '\0' ? name : "detached");

	for (char *c = branch + strlen(s->branch); *c != '\0'; c++)
		if (*c == '/')
			*c = '-';
	return branch;
}

/* The agent's branch goes to its own name. So does what is checked out, or another branch, where that holds everything
 * the agent's branch has; the rest gets names beside it. */
static int plan(struct publication *p)
{
	const struct session *s = p->j->s;
	const struct head *own = NULL, *best = NULL;

	for (size_t i = 0; i < p->n_heads; i++)
		if (strcmp(p->heads[i].name, s->branch) == 0)
			own = &p->heads[i];
	for (int pass = 0; pass < 2 && best == NULL; pass++)
		for (size_t i = 0; i < p->n_heads && best == NULL; i++) {
			const struct head *h = &p->heads[i];
			bool here = strcmp(h->name, p->current) == 0;

			if (h != own && here == (pass == 0) && h->is_new &&
			    (own == NULL || publish_is_ancestor(p, own->commit, h->commit)))
				best = h;
		}
	/* Also a branch without new commits, if commits were not there when the session began: kept ones. */
	if (best == NULL && own != NULL &&
	    (own->is_new || strcmp(own->commit, s->tip) != 0 || strcmp(own->commit, s->base) != 0 ||
		(s->has_kept && own->is_missing)))
		best = own;
	if (best != NULL)
		add_outgoing(p, str_dup(s->branch), best);
	for (size_t i = 0; i < p->n_heads; i++) {
		const struct head *h = &p->heads[i];

		if (h == best || !h->is_new || (best != NULL && publish_is_ancestor(p, h->commit, best->commit)))
			continue;
		if (p->n_out == MAX_OUT)
			return why_set(WHY(p), ERR_TOO_LARGE,
			    "more than %d branches have new commits; delete or merge those that are not needed",
			    MAX_OUT);
		add_outgoing(p, name_beside(s, h->name), h);
	}
	return OK;
}

static json_t *not_pushed(void)
{
	json_t *info = json_object();

	json_put_bool(info, "pushed", false);
	return info;
}

/* Nothing of the session runs until box_resume. Where there is no box there is nothing to be held by. */
static int hold_still(const struct session *s, struct why *why)
{
	if (s->box == NULL || box_has_ended(s->box))
		return OK;
	for (int i = 0; i < 3; i++)
		if (box_pause(s->box))
			return OK;
	box_resume(s->box);
	return why_set(why, ERR_CONFLICT, "programs of the session do not stand still while its branches are read");
}

/* What the session has is in the depot, and where each of it goes is planned. */
static int bring_over(struct publication *p)
{
	struct git g = p->g;
	struct box *own;
	int rc;

	/* What is read shall be what was checked. */
	rc = hold_still(p->j->s, WHY(p));
	if (rc != OK)
		return rc;
	own = g.box = session_own_box(p->j->s);
	rc = depot_take_over(&session_primary(p->j->s)->depot, &g, p->j->s->git_dir, !p->unborn, WHY(p));
	box_close(&own, 0, CLOSE_GIVE_UP_MS);
	box_resume(p->j->s->box);
	if (rc == OK)
		rc = list_heads(p);
	if (rc == OK)
		rc = find_news(p);
	if (rc == OK)
		rc = plan(p);
	return git_interrupted(&p->g, WHY(p)) != OK ? git_interrupted(&p->g, WHY(p)) : rc;
}

/* The next publication, and the agent's next session, count from here. */
static void remember(struct publication *p)
{
	struct session *s = p->j->s;

	if (p->n_out == 0)
		return;
	for (size_t i = 0; i < p->n_out; i++) {
		AUTO_STR ref = str_printf("refs/remotes/origin/%s", p->out[i].branch);

		IGNORE(git_says_yes(&p->g, GIT_ARGS("update-ref", ref, p->out[i].commit)));
		IGNORE(git_says_yes(&p->inside, GIT_ARGS("update-ref", ref, p->out[i].commit)));
		if (strcmp(p->out[i].branch, s->branch) != 0 || strcmp(p->out[i].from, s->branch) != 0)
			session_warn(p->j->warnings, "What was on %s%s was pushed as branch %s.",
			    p->out[i].from[0] != '\0' ? "branch " : "no branch", p->out[i].from, p->out[i].branch);
	}
	if (strcmp(p->out[0].branch, s->branch) == 0)
		str_set(&s->tip, p->out[0].commit);
}

/* A push may take as long as a hook or the network likes, so others have the depot meanwhile: it names commits, whose
 * objects nobody takes away. Only where history ends here, and large files on their way, would be mixed up with theirs.
 */
static bool pushes_apart(const struct publication *p)
{
	AUTO_STR shallow = str_printf("%s/shallow", p->g.git_dir);

	return access(shallow, F_OK) != 0 && !publication_has_large_files(p);
}

static int push_all(struct publication *p, int *lock)
{
	const struct session_root *r = session_primary(p->j->s);
	bool apart = p->n_out > 0 && pushes_apart(p);
	int again, rc = OK;

	if (apart)
		depot_unlock(lock);
	/* Pushing again what is there already is how a repeated publish finds that it was done. */
	for (size_t i = 0; rc == OK && i < p->n_out; i++)
		rc = publication_push(p, &p->out[i]);
	if (rc == OK)
		rc = publication_verify(p);
	if (!apart || rc != OK)
		return rc;
	rc = session_lock_depot(p->j, r, &again);
	*lock = again;
	return rc;
}

static int publish_by_depot(struct publication *p, int *lock)
{
	int rc = bring_over(p);

	if (rc == OK)
		rc = push_all(p, lock);
	if (rc == OK)
		remember(p);
	if (rc == OK)
		session_forget_kept(p->j);
	return rc;
}

static int publish(struct publication *p)
{
	int lock, rc = publication_commit(p);

	if (rc == OK)
		rc = session_lock_depot(p->j, session_primary(p->j->s), &lock);
	if (rc != OK)
		return rc;
	rc = publish_by_depot(p, &lock);
	depot_unlock(&lock);
	return rc;
}

/* Not published, so kept: named in the failure. */
static void keep_instead(struct session_job *j)
{
	struct session_failure unused = {0};
	struct session_job again = *j;

	again.fail = &unused;
	again.g.said = NULL;
	again.g.cancel_fd = -1;
	/* Also when it failed because there was no time left. */
	again.g.deadline_mono_ms = clock_mono_ms() + KEEP_LIMIT_MS;
	/* Programs that do not stand still are ended with the session; then it is tried again. */
	if (hold_still(j->s, &unused.why) == OK) {
		if (session_keep(&again, j->fail->why.text, &j->fail->kept) != OK)
			log_warn("worker.keep.failed", "agent=%s branch=%s reason=%s", j->s->agent_id,
			    log_quote(j->s->branch), log_quote(unused.why.text));
		box_resume(j->s->box);
	}
	session_failure_fini(&unused);
}

int session_publish(struct session *s, const struct session_publish *want, int cancel_fd, int64_t deadline_mono_ms,
    json_t **ret_info, struct session_failure *fail)
{
	AUTO_JSON warnings = json_array();
	struct session_job j = {.s = s,
	    .g = {.dir = s->top,
		.agent_id = s->agent_id,
		.scratch_dir = s->scratch,
		.cancel_fd = cancel_fd,
		.deadline_mono_ms = deadline_mono_ms,
		.said = &fail->said},
	    .warnings = warnings,
	    .fail = fail};
	AUTO_FINI(publication) p = {.j = &j, .want = want, .not_published = json_array()};
	int rc;

	OBJ_CHECK(s, SESSION_MAGIC);
	if (s->branch[0] == '\0') {
		*ret_info = not_pushed();
		session_put_resources(s, *ret_info);
		return OK;
	}
	p.inside = session_git_inside(&j);
	/* What the session left can keep git waiting for ever; a push may rightly take long. */
	p.inside.deadline_mono_ms = MIN(deadline_mono_ms, clock_mono_ms() + INSIDE_LIMIT_MS);
	p.g = session_git_depot(&j);
	rc = publish(&p);
	if (rc == OK) {
		/* What runs on may go on writing. */
		atomic_store(&s->touched, json_array_size(p.not_published) > 0 || session_has_background(s));
		*ret_info = publication_report(&p);
		session_put_resources(s, *ret_info);
	} else if (rc != ERR_CANCELLED) {
		keep_instead(&j);
	}
	return rc;
}
