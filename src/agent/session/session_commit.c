/* The first half of publishing: what is uncommitted is committed in the session's own checkout, in its box, with the
 * hooks that the seed has for it. */
#include "agent/session/session_publish_priv.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include <string.h>
#include <unistd.h>

#define MAX_MESSAGE_BYTES (64 * 1024)

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

void publication_leave_out(struct publication *p, const char *path, const char *reason)
{
	json_array_append_new(
	    p->not_published, json_pack("{s:o, s:s}", "path", json_lossy(path, strlen(path)), "reason", reason));
}

/* In a report; `git add` leaves all of them out. */
#define MAX_NAMED 1000

static int add(struct publication *p, bool *ret_staged)
{
	struct strbuf left_out = STRBUF(SESSION_PATHS_MAX);
	AUTO_JSON private = p->rules_changed ? session_no_longer_ignored(p->j) : json_array();
	AUTO_FINI(git_out) staged = {0};
	size_t i;
	json_t *path;
	int rc = p->untracked ? session_nested(&p->inside, &left_out, WHY(p)) : OK;

	for (size_t at = 0; rc == OK && at < left_out.len && json_array_size(p->not_published) < MAX_NAMED;
	     at += strlen(strbuf_str(&left_out) + at) + 1)
		publication_leave_out(p, strbuf_str(&left_out) + at,
		    "it is a git repository of its own; remove its .git folder to publish its files, or make it a "
		    "submodule");
	json_array_foreach(private, i, path)
	{
		publication_leave_out(p, json_string_value(path),
		    "it came from the worker's folder, where git ignores it; commit it by name to publish it");
		strbuf_add(&left_out, json_string_value(path), json_string_length(path) + 1);
	}
	if (rc == OK && left_out.overflowed)
		rc = why_set(WHY(p), ERR_TOO_LARGE, "too many files are to be left out");
	if (rc == OK)
		rc = session_add_all(&p->inside, &left_out, WHY(p));
	strbuf_fini(&left_out);
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

int publication_commit(struct publication *p)
{
	int rc;

	session_remove_pipes(p->j->s);
	rc = look_at_checkout(p);
	if (rc == OK)
		rc = refuse_unfinished(p);
	if (rc == OK && (p->dirty || p->untracked || has_state(p, "MERGE_HEAD")))
		rc = commit(p);
	if (rc == OK && p->committed)
		p->unborn = false;
	return rc;
}
