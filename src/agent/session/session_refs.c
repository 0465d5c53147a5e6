/* Branches of a session as they came over into the worker's repository, and which of their commits origin lacks. */
#include "agent/session/session_priv.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include <string.h>

#define MAX_REFS_BYTES (64 * 1024 * 1024)

int session_list_refs(const struct git *g, const char *prefix, struct git_out *ret, struct why *why)
{
	const char *const args[] = {"for-each-ref", "--format=%(objectname) %(refname)", prefix, NULL};
	int rc = git_run_bytes(g, args, ret, why);

	return rc == OK && ret->status != 0 ? git_failed(g, args, ret, why) : rc;
}

bool session_next_ref(char **at, const char *prefix, char **ret_sha, char **ret_name)
{
	size_t len = strlen(prefix);

	while (*at != NULL && **at != '\0') {
		char *line = *at, *nl = strchr(line, '\n'), *name = strchr(line, ' ');

		*at = nl != NULL ? nl + 1 : line + strlen(line);
		if (nl != NULL)
			*nl = '\0';
		if (name == NULL || !text_has_prefix(name + 1, prefix) || name[1 + len] != '/' || name[2 + len] == '\0')
			continue;
		*name = '\0';
		*ret_sha = line;
		*ret_name = name + 1 + len + 1;
		return true;
	}
	return false;
}

/* "^SHA" a line for every branch of origin that the worker has heard of. */
static int put_origin(const struct depot *k, struct strbuf *b)
{
	static const char *const branches[] = {"refs/remotes/origin", NULL};
	struct strbuf refs = STRBUF(MAX_REFS_BYTES);
	int rc;

	depot_list_refs(k->dir, branches, &refs);
	rc = refs.overflowed ? ERR_TOO_LARGE : OK;
	/* Every line has its end, unless there are too many. */
	for (const char *line = strbuf_str(&refs); rc == OK && *line != '\0'; line += strcspn(line, "\n") + 1)
		rc = strbuf_addf(b, "^%.*s\n", (int)strcspn(line, " "), line);
	strbuf_fini(&refs);
	return rc;
}

int session_news(const struct session_job *j, const char *commits, bool one, struct git_out *ret, struct why *why)
{
	const struct depot *k = &session_primary(j->s)->depot;
	struct git g = depot_git(k, &j->g);
	struct strbuf b = STRBUF(2 * MAX_REFS_BYTES);
	int rc;

	strbuf_adds(&b, commits);
	/* An empty line would be the last that git reads. */
	if (b.len > 0 && commits[b.len - 1] != '\n')
		strbuf_addc(&b, '\n');
	rc = put_origin(k, &b);
	if (rc != OK)
		rc = why_set(why, rc, "there are too many branches on origin to be compared with");
	g.said = NULL;
	g.input = strbuf_str(&b);
	g.input_len = b.len;
	if (rc == OK)
		rc = git_run_bytes(&g,
		    GIT_ARGS(
			"rev-list", one ? "--max-count=1" : "--max-count=-1", "--stdin", "--not", "--remotes=origin"),
		    ret, why);
	if (rc == OK && ret->status != 0)
		rc = git_failed(&g, GIT_ARGS("rev-list"), ret, why);
	strbuf_fini(&b);
	return rc;
}

bool session_is_on_origin(const struct session_job *j, const char *commit)
{
	AUTO_FINI(git_out) o = {0};

	return session_news(j, commit, true, &o, NULL) == OK && o.out[0] == '\0';
}

static bool update_refs(const struct session_job *j, const char *commands)
{
	struct git g = depot_git(&session_primary(j->s)->depot, &j->g);

	g.said = NULL;
	g.input = commands;
	g.input_len = strlen(commands);
	return git_says_yes(&g, GIT_ARGS("update-ref", "--stdin"));
}

/* git-lfs asks the remote itself whether a branch is still there and at that commit, so that one that has moved since
 * is only of no use. The same holds if they cannot be shown: it sends more. If the worker dies in between they stay:
 * what they name was on origin, and put_origin counts it as that anyway. */
void session_show_origin(const struct session_job *j, char **ret_undo)
{
	static const char *const branches[] = {"refs/remotes/origin", NULL};
	const struct depot *k = &session_primary(j->s)->depot;
	struct strbuf theirs = STRBUF(MAX_REFS_BYTES), ours = STRBUF(MAX_REFS_BYTES);
	struct strbuf create = STRBUF(2 * MAX_REFS_BYTES), undo = STRBUF(2 * MAX_REFS_BYTES);
	AUTO_JSON has = json_object(); /* by name: there may be many of both */
	char *sha, *name, *at;

	depot_list_refs(k->dir, branches, &theirs);
	depot_list_refs(k->own, branches, &ours);
	AUTO_STR list = str_dup(strbuf_str(&theirs));
	AUTO_STR own = str_dup(strbuf_str(&ours));

	for (at = own; session_next_ref(&at, branches[0], &sha, &name);)
		json_object_set_new(has, name, json_true());
	for (at = list; session_next_ref(&at, branches[0], &sha, &name);) {
		if (json_object_get(has, name) != NULL)
			continue;
		strbuf_addf(&create, "create %s/%s %s\n", branches[0], name, sha);
		strbuf_addf(&undo, "delete %s/%s %s\n", branches[0], name, sha);
	}
	*ret_undo = NULL;
	if (create.len > 0 && !create.overflowed && !undo.overflowed && update_refs(j, strbuf_str(&create)))
		*ret_undo = str_dup(strbuf_str(&undo));
	strbuf_fini(&theirs);
	strbuf_fini(&ours);
	strbuf_fini(&create);
	strbuf_fini(&undo);
}

void session_hide_origin(const struct session_job *j, const char *undo)
{
	if (undo != NULL)
		IGNORE(update_refs(j, undo));
}
