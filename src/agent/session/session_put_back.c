/* What was kept for an agent is put back into its next session here. An opening never fails because that does not go
 * together with what is there now: then it stays aside, under a ref that no later publication removes, and is named. */
#include "agent/session/session_priv.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include <string.h>

#define KEPT "refs/bullpen/kept/heads/"
#define MAX_UPDATES_BYTES (64 * 1024 * 1024)

/* malloc'ed: the ref it is under. */
static char *lay_aside(const struct session_job *j, const char *commit)
{
	AUTO_STR name = str_printf("aside/%.12s", commit);
	struct git g = session_git_depot(j);
	char *ref = session_agent_ref(j->s, j->s->agent_id, name);

	g.said = NULL;
	IGNORE(git_says_yes(&g, GIT_ARGS("update-ref", ref, commit)));
	return ref;
}

/* The name that a kept branch gets in the session: its own, if what is there by now has nothing that would be lost. */
static char *name_for(const struct session_job *j, const struct git *inside, const char *name, const char *commit)
{
	const struct session *s = j->s;
	AUTO_STR ref = str_printf("refs/heads/%s", name);
	AUTO_STR there = NULL;
	bool own = strcmp(name, s->branch) == 0;

	if (own)
		there = str_dup(s->tip);
	else if (git_must(inside, GIT_ARGS("rev-parse", "-q", "--verify", ref), &there, NULL) != OK)
		return str_dup(name);
	if (git_says_yes(inside, GIT_ARGS("merge-base", "--is-ancestor", commit, there)))
		return NULL;
	if (!own && git_says_yes(inside, GIT_ARGS("merge-base", "--is-ancestor", there, commit)))
		return str_dup(name);
	return str_printf("%s-before-%.8s", name, commit);
}

static void put_heads(struct session_job *j, const struct git *inside, const char *list)
{
	struct strbuf updates = STRBUF(MAX_UPDATES_BYTES);
	struct git g = *inside;

	for (const char *line = list; *line != '\0';) {
		size_t n = strcspn(line, "\n"), sha = strcspn(line, " ");
		AUTO_STR commit = str_ndup(line, sha);
		AUTO_STR name =
		    sha < n ? str_ndup(line + sha + 1 + strlen(KEPT), n - sha - 1 - strlen(KEPT)) : str_dup("");
		AUTO_STR to = name[0] != '\0' ? name_for(j, inside, name, commit) : NULL;

		if (to != NULL)
			strbuf_addf(&updates, "update refs/heads/%s %s\n", to, commit);
		line += n + (line[n] == '\n');
	}
	g.said = NULL;
	g.input = strbuf_str(&updates);
	g.input_len = updates.len;
	/* All or none: a branch may be where another one needs a folder. */
	if (updates.len > 0 && (updates.overflowed || !git_says_yes(&g, GIT_ARGS("update-ref", "--stdin"))))
		for (const char *line = list; *line != '\0';) {
			AUTO_STR commit = str_ndup(line, strcspn(line, " "));
			AUTO_STR ref = lay_aside(j, commit);

			session_warn(j->warnings,
			    "A branch of this agent's could not be put back; on the worker it is %s.", ref);
			line += strcspn(line, "\n");
			line += *line == '\n';
		}
	strbuf_fini(&updates);
}

/* Objects of an agent are where no session can read them: what is its own is handed to its session. */
int session_bring_kept(struct session_job *j)
{
	const struct session *s = j->s;
	struct git g = session_git_depot(j), inside = session_git_inside(j);
	AUTO_STR work = session_agent_ref(s, s->agent_id, "work");
	AUTO_STR heads = session_agent_ref(s, s->agent_id, "heads/");
	AUTO_STR work_spec = str_printf("+%s:refs/bullpen/kept/work", work);
	AUTO_STR heads_spec = str_printf("+%s*:" KEPT "*", heads);
	AUTO_FINI(git_out) list = {0};
	struct box *box;
	int lock, rc;

	if (!s->has_kept)
		return OK;
	rc = session_lock_depot(j, session_primary(s), &lock);
	if (rc != OK)
		return rc;
	g.box = box = session_own_box(s);
	rc = git_must(
	    &g, GIT_ARGS("push", "--quiet", "--no-verify", s->git_dir, work_spec, heads_spec), NULL, &j->fail->why);
	box_close(&box, 0, CLOSE_GIVE_UP_MS);
	depot_unlock(&lock);
	if (rc == OK)
		rc = git_run_bytes(
		    &inside, GIT_ARGS("for-each-ref", "--format=%(objectname) %(refname)", KEPT), &list, &j->fail->why);
	if (rc == OK)
		put_heads(j, &inside, list.out);
	return rc != OK ? rc : git_interrupted(&inside, &j->fail->why);
}

static int does_not_go(struct session_job *j, const struct git *inside, const char *work)
{
	AUTO_STR ref = lay_aside(j, work);

	session_warn(j->warnings,
	    "It does not go together with what came from origin meanwhile; it is commit %s, on the worker %s.", work,
	    ref);
	return j->s->tip[0] == '\0' ? OK
				    : git_must(inside, GIT_ARGS("reset", "--hard", "--quiet"), NULL, &j->fail->why);
}

int session_put_back(struct session_job *j)
{
	const struct session *s = j->s;
	const struct depot *k = &session_primary(s)->depot;
	struct git inside = session_git_inside(j), g = session_git_depot(j);
	AUTO_STR ref = session_agent_ref(s, s->agent_id, "work");
	AUTO_STR work = s->has_kept ? depot_ref(k, &g, ref) : str_dup("");
	AUTO_STR subject = NULL;
	AUTO_STR parent = NULL;
	AUTO_STR first = str_printf("%s^", work);
	bool ok;

	if (work[0] == '\0' || git_must(&g, GIT_ARGS("log", "-1", "--format=%s", work, "--"), &subject, NULL) != OK)
		return OK;
	session_warn(j->warnings, "Work that this agent did not publish before was put back.");
	if (strcmp(subject, DEPOT_WIP) != 0)
		return OK;
	/* Changes on top of the commit that they were made on; onto another one they are merged, as far as that goes.
	 */
	parent = depot_ref(k, &g, first);
	if (strcmp(parent, s->tip) == 0)
		ok = git_says_yes(&inside, GIT_ARGS("read-tree", "-m", "-u", "HEAD", work)) ||
		     (s->tip[0] == '\0' && git_says_yes(&inside, GIT_ARGS("read-tree", "--reset", "-u", work)));
	else
		ok = git_says_yes(&inside, GIT_ARGS("-c", "user.name=Bullpen", "-c", "user.email=bullpen@localhost",
					       "cherry-pick", "--no-commit", work));
	if (git_interrupted(&inside, &j->fail->why) != OK)
		return git_interrupted(&inside, &j->fail->why);
	if (!ok)
		return does_not_go(j, &inside, work);
	return s->tip[0] == '\0' ? OK : git_must(&inside, GIT_ARGS("reset", "--mixed", "--quiet"), NULL, &j->fail->why);
}
