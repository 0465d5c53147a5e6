/* Publishing: what is uncommitted is committed in the session's own checkout, with the hooks that the seed has for it;
 * then the branches come over into the depot, which pushes them to the true remote and looks whether they are there.
 */
#include "agent/session/beneath.h"
#include "agent/session/session_priv.h"
#include "agent/session/tree_priv.h"
#include "base/clock.h"
#include "base/folder.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define MAX_MESSAGE_BYTES (64 * 1024)
#define MAX_STAT_BYTES (8 * 1024)
#define INSIDE_LIMIT_MS (10 * 60 * 1000)
#define MAX_HEADS 100
#define LARGE_FILES ".git/lfs/objects"

/* A commit and the branch that it goes to. */
struct outgoing {
	char *branch; /* on the remote */
	char *commit;
	const char *from; /* how the session called it, for messages; borrowed from `heads` */
	bool pushed;
};

struct head {
	char *name; /* "" is a HEAD without a branch */
	char *commit;
};

/* What was found out and done so far. */
struct publication {
	struct session_job *j;
	struct git inside, g;
	const struct session_publish *want;
	char *current; /* the branch that is checked out; "" if none */
	bool dirty, untracked, unborn, rules_changed; /* of what is ignored */
	size_t unmerged;
	char *first_unmerged;
	bool committed;
	json_t *not_published; /* [{"path","reason"}] */
	struct head *heads;
	size_t n_heads;
	struct outgoing out[MAX_HEADS];
	size_t n_out;
	char *remote; /* what ls-remote said last; NULL: not asked */
};

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

#define WHY(p) (&(p)->j->fail->why)

static void note_status(struct publication *p, const char *entry)
{
	if (entry[0] != '#' && text_has_suffix(entry, ".gitignore"))
		p->rules_changed = true;
	if (text_has_prefix(entry, "# branch.head "))
		str_set(&p->current, strcmp(entry + 14, "(detached)") == 0 ? "" : entry + 14);
	else if (text_has_prefix(entry, "# branch.oid "))
		p->unborn = strcmp(entry + 13, "(initial)") == 0;
	else if (entry[0] == '?')
		p->untracked = true;
	else if (entry[0] == '1' || entry[0] == '2')
		p->dirty = true;
	else if (entry[0] == 'u') {
		p->dirty = true;
		if (p->unmerged++ == 0) {
			const char *path = entry;

			for (int i = 0; i < 10 && path != NULL; i++)
				path = strchr(path + 1, ' ');
			str_set(&p->first_unmerged, path != NULL ? path + 1 : "?");
		}
	}
}

static int look_at_checkout(struct publication *p)
{
	AUTO_FINI(git_out) o = {0};
	AUTO_STR lock = str_printf("%s/index.lock", p->j->s->git_dir);
	int rc = depot_check_git_dir(p->j->s->git_dir, WHY(p));

	if (rc != OK)
		return rc;
	/* No tool of the session runs now: whoever made it is gone. */
	unlink(lock);
	rc = git_run_bytes(
	    &p->inside, GIT_ARGS("status", "--porcelain=v2", "-z", "--branch", "--untracked-files=normal"), &o, WHY(p));
	if (rc == OK && o.status != 0)
		rc = git_failed(&p->inside, GIT_ARGS("status"), &o, WHY(p));
	if (rc != OK)
		return rc;
	for (size_t at = 0; at < o.out_len; at += strlen(o.out + at) + 1) {
		note_status(p, o.out + at);
		if (o.out[at] == '2') /* the former name follows */
			at += strlen(o.out + at) + 1;
	}
	if (p->current == NULL)
		p->current = str_dup("");
	return OK;
}

static bool has_state(const struct publication *p, const char *name)
{
	AUTO_STR path = str_printf("%s/%s", p->j->s->git_dir, name);

	return access(path, F_OK) == 0;
}

static int refuse_unfinished(struct publication *p)
{
	const char *what = has_state(p, "rebase-merge") || has_state(p, "rebase-apply") ? "rebase"
			   : has_state(p, "MERGE_HEAD")					? "merge"
			   : has_state(p, "CHERRY_PICK_HEAD")				? "cherry-pick"
			   : has_state(p, "REVERT_HEAD")				? "revert"
											: NULL;

	if (p->unmerged > 0)
		return why_set(WHY(p), ERR_CONFLICT,
		    "a %s is not finished: %zu file%s unresolved conflicts, such as '%.150s'",
		    what != NULL ? what : "merge", p->unmerged, p->unmerged == 1 ? " has" : "s have",
		    p->first_unmerged);
	/* A merge whose conflicts are resolved is finished by the commit; a rebase is not. */
	if (what != NULL && strcmp(what, "rebase") == 0)
		return why_set(WHY(p), ERR_CONFLICT, "a rebase is not finished");
	return OK;
}

static const char *publish_or_default(const char *s, const char *otherwise)
{
	return s != NULL && !text_is_blank(s) ? s : otherwise;
}

static void note_not_published(struct publication *p, const char *path, const char *reason)
{
	json_array_append_new(
	    p->not_published, json_pack("{s:o, s:s}", "path", json_lossy(path, strlen(path)), "reason", reason));
}

static int add(struct publication *p, bool *ret_staged)
{
	AUTO_JSON nested = p->untracked ? session_nested(&p->inside) : json_array();
	AUTO_JSON private = p->rules_changed ? session_no_longer_ignored(p->j) : json_array();
	AUTO_FINI(git_out) staged = {0};
	AUTO_JSON left_out = json_copy(nested);
	size_t i;
	json_t *path;
	int rc;

	json_array_extend(left_out, private);
	rc = session_add_all(&p->inside, left_out, WHY(p));

	json_array_foreach(nested, i, path)
	{
		note_not_published(p, json_string_value(path),
		    "it is a git repository of its own; remove its .git folder to publish its files, or make it a "
		    "submodule");
	}
	json_array_foreach(private, i, path)
	{
		note_not_published(p, json_string_value(path),
		    "it came from the worker's folder, where git ignores it; commit it by name to publish it");
	}
	if (rc == OK)
		rc = git_run(&p->inside, GIT_ARGS("diff", "--cached", "--quiet", "--no-ext-diff"), &staged, WHY(p));
	if (rc == OK)
		*ret_staged = staged.status != 0;
	return rc;
}

static int commit(struct publication *p)
{
	const char *message = publish_or_default(p->want->message, "Changes by the agent");
	AUTO_STR name = str_printf("user.name=%s", publish_or_default(p->want->author_name, "Bullpen"));
	AUTO_STR email = str_printf("user.email=%s", publish_or_default(p->want->author_email, "bullpen@localhost"));
	AUTO_STR text =
	    str_printf("--message=%.*s", (int)text_utf8_cut(message, strlen(message), MAX_MESSAGE_BYTES), message);
	struct git g = p->inside;
	bool staged = false;
	int rc = add(p, &staged);

	if (rc != OK || (!staged && !has_state(p, "MERGE_HEAD")))
		return rc;
	g.hooks = session_primary(p->j->s)->depot.session_hooks;
	rc = git_must(&g, GIT_ARGS("-c", name, "-c", email, "commit", "--quiet", "--no-gpg-sign", text), NULL, WHY(p));
	if (rc == OK)
		p->committed = true;
	/* A hook that says no is not the machine. */
	return rc == ERR_NET ? ERR_INVALID : rc;
}

/* The branches of the session, its HEAD where that has none, as they are in the depot now. */
static int list_heads(struct publication *p)
{
	AUTO_FINI(git_out) o = {0};
	size_t cap = 0;
	const size_t skip = strlen("refs/bullpen/session/heads/");
	int rc = git_run_bytes(&p->g,
	    GIT_ARGS("for-each-ref", "--count=100", "--format=%(objectname) %(refname)", "refs/bullpen/session/heads"),
	    &o, WHY(p));

	for (char *line = o.out, *next; rc == OK && line != NULL && *line != '\0'; line = next) {
		char *nl = strchr(line, '\n'), *name = strchr(line, ' ');

		next = nl != NULL ? nl + 1 : line + strlen(line);
		if (nl != NULL)
			*nl = '\0';
		if (name == NULL || strlen(name + 1) <= skip)
			continue;
		p->heads = mem_grow(p->heads, &cap, p->n_heads + 2, sizeof *p->heads);
		p->heads[p->n_heads++] =
		    (struct head){.name = str_dup(name + 1 + skip), .commit = str_ndup(line, (size_t)(name - line))};
	}
	if (rc == OK && p->current[0] == '\0') {
		p->heads = mem_grow(p->heads, &cap, p->n_heads + 1, sizeof *p->heads);
		p->heads[p->n_heads++] = (struct head){.name = str_dup(""),
		    .commit = depot_ref(&session_primary(p->j->s)->depot, &p->g, "refs/bullpen/session/HEAD")};
	}
	return rc;
}

static bool is_new(const struct publication *p, const char *commit)
{
	return commit[0] != '\0' && strcmp(commit, p->j->s->tip) != 0 && !session_is_on_origin(p->j, commit);
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
static void plan(struct publication *p)
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

			if (h != own && here == (pass == 0) && is_new(p, h->commit) &&
			    (own == NULL || publish_is_ancestor(p, own->commit, h->commit)))
				best = h;
		}
	if (best == NULL && own != NULL && (is_new(p, own->commit) || strcmp(own->commit, s->tip) != 0))
		best = own;
	/* Also a branch without new commits, if commits were not there when the session began: kept ones. */
	if (best == NULL && own != NULL && strcmp(own->commit, s->base) != 0)
		best = own;
	if (best != NULL)
		add_outgoing(p, str_dup(s->branch), best);
	for (size_t i = 0; i < p->n_heads && p->n_out < MAX_HEADS; i++) {
		const struct head *h = &p->heads[i];

		if (h == best || !is_new(p, h->commit) ||
		    (best != NULL && publish_is_ancestor(p, h->commit, best->commit)))
			continue;
		add_outgoing(p, name_beside(s, h->name), h);
	}
}

static int refused_push(struct publication *p, const struct outgoing *o, const struct git_out *r)
{
	AUTO_STR reason = git_reason(r->err);

	p->j->fail->machine = git_is_machines_fault(r->err);
	free(p->j->fail->said);
	p->j->fail->said = git_said(r->err);
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

static int push(struct publication *p, struct outgoing *o)
{
	AUTO_STR spec = str_printf("%s:refs/heads/%s", o->commit, o->branch);
	AUTO_STR in_depot = str_printf("%s/lfs", p->g.git_dir);
	AUTO_STR objects = str_printf("%s/objects", in_depot);
	AUTO_FINI(git_out) r = {0};
	struct git g = p->g;
	/* Wherever the session made it lead to, it stays in the session. */
	int large = open_beneath(p->j->s->top, LARGE_FILES, O_RDONLY | O_DIRECTORY);
	int rc = large >= 0 ? push_large_files(p, o, large, objects) : OK;

	g.hooks = session_primary(p->j->s)->depot.hooks;
	if (rc == OK)
		rc = git_run(&g, GIT_ARGS("push", "origin", spec), &r, WHY(p));
	if (large >= 0) {
		tree_delete(in_depot);
		close(large);
	}
	if (rc != OK)
		return rc;
	if (r.status != 0)
		return refused_push(p, o, &r);
	o->pushed = true;
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
	int rc;

	str_free(&p->remote);
	rc = git_must(&p->g,
	    p->n_out > 1 ? GIT_ARGS("ls-remote", "origin", own, beside) : GIT_ARGS("ls-remote", "origin", own),
	    &p->remote, WHY(p));
	return rc == OK ? OK : session_fail_machine(p->j, rc);
}

/* A push that said it was done is believed when the remote shows it. */
static int verify(struct publication *p)
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
			note_not_published(p, path,
			    "only a link to this repository was committed, and nothing says where it is; remove its "
			    ".git folder, or "
			    "make it a submodule");
		else
			session_warn(p->j->warnings,
			    "Submodule %s was moved to another commit; push that to its own remote too.", path);
	}
}

static json_t *publish_report(struct publication *p)
{
	const struct session *s = p->j->s;
	json_t *info = json_object(), *branches = json_array();
	bool pushed = p->n_out > 0;
	AUTO_STR there = remote_commit(p, s->branch);
	const char *head = p->n_out > 0 ? p->out[0].commit : there[0] != '\0' ? there : s->tip;

	if (head[0] != '\0')
		note_bare_links(p, head);
	json_put(info, "branch", pushed || there[0] != '\0' ? s->branch : "");
	json_put(info, "repoUrl", s->repo_url);
	json_put(info, "commit", head);
	json_put_bool(info, "committed", p->committed);
	json_put_bool(info, "pushed", pushed);
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

static json_t *not_pushed(void)
{
	json_t *info = json_object();

	json_put_bool(info, "pushed", false);
	return info;
}

/* What the session has is in the depot, and where each of it goes is planned. */
static int bring_over(struct publication *p)
{
	struct git g = p->g;
	struct box *own;
	int rc;

	/* A branch that was never born has nothing. */
	if (p->unborn)
		return OK;
	/* What is read shall be what was checked. */
	box_pause(p->j->s->box);
	own = g.box = session_own_box(p->j->s);
	rc = depot_take_over(&session_primary(p->j->s)->depot, &g, p->j->s->git_dir, WHY(p));
	box_close(&own, 0, CLOSE_GIVE_UP_MS);
	box_resume(p->j->s->box);
	if (rc == OK)
		rc = list_heads(p);
	if (rc == OK)
		plan(p);
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
	str_set(&s->tip, p->out[0].commit);
}

static int publish(struct publication *p)
{
	int rc = look_at_checkout(p);

	if (rc == OK)
		rc = refuse_unfinished(p);
	if (rc == OK && (p->dirty || p->untracked || has_state(p, "MERGE_HEAD")))
		rc = commit(p);
	if (rc == OK && p->committed)
		p->unborn = false;
	if (rc == OK)
		rc = bring_over(p);
	/* Pushing again what is there already is how a repeated publish finds that it was done. */
	for (size_t i = 0; rc == OK && i < p->n_out; i++)
		rc = push(p, &p->out[i]);
	if (rc == OK)
		rc = p->n_out > 0 ? verify(p) : ask_remote(p);
	if (rc == OK)
		remember(p);
	if (rc == OK)
		session_forget_kept(p->j);
	return rc;
}

/* Not published, so kept: named in the failure. */
static void keep_instead(struct session_job *j)
{
	struct session_failure unused = {0};
	struct session_job again = *j;
	int64_t limit = j->g.deadline_mono_ms;

	again.fail = &unused;
	again.g.said = NULL;
	again.g.cancel_fd = -1;
	again.g.deadline_mono_ms = MAX(limit, 0);
	if (session_keep(&again, j->fail->why.text, &j->fail->kept) != OK)
		session_warn(j->warnings, "It could not be kept either: %s", unused.why.text);
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
		atomic_store(&s->touched, json_array_size(p.not_published) > 0);
		*ret_info = publish_report(&p);
		session_put_resources(s, *ret_info);
	} else if (rc != ERR_CANCELLED) {
		keep_instead(&j);
	}
	return rc;
}
