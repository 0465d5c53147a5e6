/* What an agent could not publish is its own: it is kept in the worker's repository when the session ends, and put back
 * when the agent comes again.
 *
 * Nothing of the session runs any more when it is kept, and nothing that the session could write is asked how: branches
 * come over as in a fetch, files are read as they lie there, with the index as far as it can be read. */
#include "agent/session/beneath.h"
#include "agent/session/session_priv.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_NESTED 1000
#define MAX_ASKED 100
#define MAX_DEPTH 200
#define MAX_LINKS_BYTES (16 * 1024 * 1024)
#define MAX_REFS_BYTES (64 * 1024 * 1024)

char *session_agent_ref(const struct session *s, const char *agent_id, const char *name)
{
	return str_printf("refs/bullpen/agents/%s/%s", agent_id, name);
}

json_t *session_nested(const struct git *inside)
{
	json_t *list = json_array();
	AUTO_FINI(git_out) o = {0};

	if (git_run_bytes(inside, GIT_ARGS("ls-files", "-z", "--others", "--exclude-standard"), &o, NULL) != OK ||
	    o.status != 0)
		return list;
	for (size_t at = 0; at < o.out_len; at += strlen(o.out + at) + 1) {
		size_t len = strlen(o.out + at);

		if (len > 1 && o.out[at + len - 1] == '/' && json_array_size(list) < MAX_NESTED)
			json_array_append_new(list, json_lossy(o.out + at, len - 1));
	}
	return list;
}

int session_add_all(const struct git *g, const json_t *nested, struct why *why)
{
	struct strbuf b = STRBUF(16 * 1024 * 1024);
	struct git own = *g;
	size_t i;
	json_t *path;
	int rc;

	if (json_array_size(nested) == 0)
		return git_must(g, GIT_ARGS("add", "--all", "--sparse", "--", "."), NULL, why);
	strbuf_add(&b, ".", 2);
	json_array_foreach(nested, i, path)
	{
		strbuf_addf(&b, ":(exclude,literal)%s", json_string_value(path));
		strbuf_addc(&b, '\0');
	}
	own.input = strbuf_str(&b);
	own.input_len = b.len;
	rc = git_must(
	    &own, GIT_ARGS("add", "--all", "--sparse", "--pathspec-from-file=-", "--pathspec-file-nul"), NULL, why);
	strbuf_fini(&b);
	return rc;
}

/* One keeping. */
struct keeping {
	struct session_job *j;
	struct git g; /* in the depot */
	char *head; /* "" if there is no commit */
	char *agent_id;
};

/* Whether a repository inside is clean, git asks that repository, and runs the filters that its configuration names:
 * programs of the session, which belong into its box. What the index says of it is kept; nobody looks. */
static int leave_links_alone(const struct git *g, struct why *why)
{
	AUTO_FINI(git_out) o = {0};
	struct strbuf b = STRBUF(MAX_LINKS_BYTES);
	struct git own = *g;
	int rc = git_run_bytes(g, GIT_ARGS("ls-files", "-z", "--stage"), &o, why);

	if (rc == OK && o.status != 0)
		rc = git_failed(g, GIT_ARGS("ls-files"), &o, why);
	for (size_t at = 0; rc == OK && at < o.out_len; at += strlen(o.out + at) + 1) {
		const char *tab = strchr(o.out + at, '\t');

		if (tab != NULL && text_has_prefix(o.out + at, "160000 "))
			rc = strbuf_add(&b, tab + 1, strlen(tab + 1) + 1);
	}
	own.input = strbuf_str(&b);
	own.input_len = b.len;
	if (rc == OK && b.len > 0)
		rc = git_must(&own, GIT_ARGS("update-index", "--skip-worktree", "-z", "--stdin"), NULL, why);
	strbuf_fini(&b);
	return rc;
}

/* The session's index knows what was added by hand. Nothing but a file in the session's own folder. */
static void take_index(const struct session *s)
{
	int fd = open_beneath(s->top, ".git/index", O_RDONLY);

	depot_copy_index(fd, s->agent_dir, "kept-index");
	if (fd >= 0)
		close(fd);
}

/* The tree of all files as they are. With an index that git does not want, from the commit that was checked out. */
static int write_tree(struct keeping *k, char **ret_tree)
{
	struct session *s = k->j->s;
	AUTO_STR index = str_printf("%s/kept-index", s->agent_dir);
	struct git g = k->g;
	int rc = ERR_INVALID;

	g.dir = g.work_tree = s->top;
	g.index = index;
	take_index(s);
	for (int i = 0; i < 2 && rc != OK; i++) {
		AUTO_JSON nested = NULL;

		rc = OK;
		if (access(index, F_OK) != 0)
			rc = git_must(&g,
			    k->head[0] != '\0' ? GIT_ARGS("read-tree", k->head) : GIT_ARGS("read-tree", "--empty"),
			    NULL, &k->j->fail->why);
		if (rc == OK)
			rc = leave_links_alone(&g, &k->j->fail->why);
		nested = session_nested(&g);
		if (rc == OK)
			rc = session_add_all(&g, nested, &k->j->fail->why);
		if (rc == OK)
			rc = git_must(&g, GIT_ARGS("write-tree"), ret_tree, &k->j->fail->why);
		if (rc != OK)
			unlink(index);
	}
	unlink(index);
	return rc;
}

/* On top of what was checked out, if there is anything that it does not have. */
static int commit_rest(struct keeping *k, char **ret_work)
{
	AUTO_STR tree = NULL;
	AUTO_STR of_head = NULL;
	AUTO_STR spec = str_printf("%s^{tree}", k->head);
	int rc = write_tree(k, &tree);

	if (rc != OK)
		return rc;
	if (k->head[0] == '\0')
		of_head = str_dup("4b825dc642cb6eb9a060e54bf8d69288fbee4904");
	else if (git_must(&k->g, GIT_ARGS("rev-parse", "--verify", spec), &of_head, NULL) != OK)
		of_head = str_dup("");
	if (strcmp(tree, of_head) == 0) {
		*ret_work = str_dup(k->head);
		return OK;
	}
	return git_must(&k->g,
	    k->head[0] != '\0' ? GIT_ARGS("-c", "user.name=Bullpen", "-c", "user.email=bullpen@localhost",
				     "commit-tree", "-p", k->head, "-m", DEPOT_WIP, tree)
			       : GIT_ARGS("-c", "user.name=Bullpen", "-c", "user.email=bullpen@localhost",
				     "commit-tree", "-m", DEPOT_WIP, tree),
	    ret_work, &k->j->fail->why);
}

bool session_is_on_origin(const struct session_job *j, const char *commit)
{
	static const char *const branches[] = {"refs/remotes/origin", NULL};
	const struct depot *k = &session_primary(j->s)->depot;
	struct git g = depot_git(k, &j->g);
	struct strbuf refs = STRBUF(MAX_REFS_BYTES), not_in = STRBUF(MAX_REFS_BYTES);
	AUTO_STR left = NULL;
	bool ok;

	depot_list_refs(k->dir, branches, &refs);
	/* Every line has its end, unless there are too many. */
	for (const char *line = refs.overflowed ? "" : strbuf_str(&refs); *line != '\0';
	     line += strcspn(line, "\n") + 1)
		strbuf_addf(&not_in, "^%.*s\n", (int)strcspn(line, " "), line);
	g.said = NULL;
	g.input = strbuf_str(&not_in);
	g.input_len = not_in.len;
	ok = !refs.overflowed && !not_in.overflowed &&
	     git_must(&g, GIT_ARGS("rev-list", "-n", "1", "--stdin", commit, "--not", "--remotes=origin"), &left,
		 NULL) == OK &&
	     left[0] == '\0';
	strbuf_fini(&refs);
	strbuf_fini(&not_in);
	return ok;
}

/* git reads .gitattributes and the like, and looks into repositories inside, without asking whether that is a file: a
 * pipe would be waited for until there is no time left to keep anything. */
static void remove_pipes(int parent, const char *name, bool in_git, int depth)
{
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *e;

	if (d == NULL && fd >= 0)
		close(fd);
	while (d != NULL && (e = readdir(d)) != NULL) {
		bool of_git = text_has_prefix(e->d_name, ".git");

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
			continue;
		if (e->d_type == DT_FIFO && (in_git || of_git))
			IGNORE(unlinkat(dirfd(d), e->d_name, 0));
		/* The session's own git folder was looked at before. */
		else if (e->d_type == DT_DIR && depth < MAX_DEPTH && !(depth == 0 && strcmp(e->d_name, ".git") == 0))
			remove_pipes(dirfd(d), e->d_name, in_git || strcmp(e->d_name, ".git") == 0, depth + 1);
	}
	if (d != NULL)
		closedir(d);
}

/* Other branches of the session whose commits are not on origin. Thousands of branches are asked about once for each
 * commit, and beyond some number not at all: then they are kept. */
static int keep_heads(struct keeping *k, bool *ret_any)
{
	AUTO_FINI(git_out) o = {0};
	AUTO_STR prefix = session_agent_ref(k->j->s, k->agent_id, "heads/");
	struct strbuf b = STRBUF(MAX_LINKS_BYTES);
	struct git own = k->g;
	const char *last = ""; /* of those that are on origin */
	size_t asked = 0;
	int rc = git_run_bytes(&k->g,
	    GIT_ARGS(
		"for-each-ref", "--sort=objectname", "--format=%(objectname) %(refname)", "refs/bullpen/session/heads"),
	    &o, &k->j->fail->why);

	for (char *line = o.out, *next; rc == OK && line != NULL && *line != '\0'; line = next) {
		char *nl = strchr(line, '\n'), *name = strchr(line, ' ');

		next = nl != NULL ? nl + 1 : line + strlen(line);
		if (nl != NULL)
			*nl = '\0';
		if (name == NULL)
			continue;
		*name++ = '\0';
		if (strcmp(line, k->head) == 0 || strcmp(line, last) == 0)
			continue;
		if (asked < MAX_ASKED && ++asked > 0 && session_is_on_origin(k->j, line)) {
			last = line;
			continue;
		}
		strbuf_addf(&b, "update %s%s %s\n", prefix, name + strlen("refs/bullpen/session/heads/"), line);
		*ret_any = true;
	}
	own.input = strbuf_str(&b);
	own.input_len = b.len;
	if (rc == OK && b.len > 0)
		rc = git_must(&own, GIT_ARGS("update-ref", "--stdin"), NULL, &k->j->fail->why);
	strbuf_fini(&b);
	return rc;
}

static void delete_refs(const struct git *g, const char *one, const char *other)
{
	AUTO_FINI(git_out) o = {0};
	struct git own = *g;

	own.said = NULL;
	if (git_run(&own, GIT_ARGS("for-each-ref", "--format=delete %(refname)", one, other), &o, NULL) != OK ||
	    o.out[0] == '\0')
		return;
	AUTO_STR input = str_printf("%s\n", o.out);

	own.input = input;
	own.input_len = strlen(input);
	IGNORE(git_must(&own, GIT_ARGS("update-ref", "--stdin"), NULL, NULL));
}

void session_forget_kept(struct session_job *j)
{
	AUTO_STR work = session_agent_ref(j->s, j->s->agent_id, "work");
	AUTO_STR heads = session_agent_ref(j->s, j->s->agent_id, "heads");
	struct git g = session_git_depot(j);

	delete_refs(&g, work, heads);
}

/* What the session's git directory has. One without a commit at HEAD has its branches; one that the agent destroyed
 * gives nothing, and what an earlier session left here is not this agent's. Its files are there still. */
static int take_over(struct keeping *k)
{
	const struct session *s = k->j->s;
	const struct depot *depot = &session_primary(s)->depot;
	int rc;

	if (depot_take_over(depot, &k->g, s->git_dir, true, NULL) == OK) {
		k->head = depot_ref(depot, &k->g, "refs/bullpen/session/HEAD");
		return OK;
	}
	rc = git_interrupted(&k->g, &k->j->fail->why);
	if (rc != OK)
		return rc;
	k->head = str_dup(s->tip);
	if (depot_take_over(depot, &k->g, s->git_dir, false, NULL) != OK)
		delete_refs(&k->g, "refs/bullpen/session/heads", "refs/bullpen/session/HEAD");
	return git_interrupted(&k->g, &k->j->fail->why);
}

static int keep_all(struct keeping *k, const char *reason, json_t **ret_kept)
{
	const struct session *s = k->j->s;
	AUTO_STR ref = session_agent_ref(s, k->agent_id, "work");
	AUTO_STR work = NULL;
	bool any = false;
	int rc;

	rc = take_over(k);
	if (rc != OK)
		return rc;
	remove_pipes(AT_FDCWD, s->top, false, 0);
	rc = commit_rest(k, &work);
	if (rc == OK)
		session_forget_kept(k->j);
	if (rc == OK)
		rc = keep_heads(k, &any);
	if (rc != OK)
		return rc;
	if (work[0] == '\0' || session_is_on_origin(k->j, work)) {
		if (!any)
			return OK;
	}
	/* Also when only another branch is kept: it says where the agent was. */
	rc = git_must(&k->g, GIT_ARGS("update-ref", ref, work), NULL, &k->j->fail->why);
	if (rc == OK)
		*ret_kept = json_pack("{s:s, s:s, s:s}", "ref", ref, "commit", work, "reason", reason);
	return rc;
}

int session_keep(struct session_job *j, const char *reason, json_t **ret_kept)
{
	struct keeping k = {.j = j, .g = session_git_depot(j), .agent_id = j->s->agent_id};
	struct box *own = session_own_box(j->s);
	int rc;

	k.g.box = own;
	rc = keep_all(&k, reason, ret_kept);
	box_close(&own, 0, CLOSE_GIVE_UP_MS);
	free(k.head);
	return rc;
}

/* Objects of an agent are where no session can read them: what is its own is handed to its session. */
int session_bring_kept(struct session_job *j)
{
	const struct session *s = j->s;
	struct git g = session_git_depot(j), inside = session_git_inside(j);
	AUTO_STR work = session_agent_ref(s, s->agent_id, "work");
	AUTO_STR heads = session_agent_ref(s, s->agent_id, "heads/");
	AUTO_STR work_spec = str_printf("+%s:refs/bullpen/kept/work", work);
	AUTO_STR heads_spec = str_printf("+%s*:refs/bullpen/kept/heads/*", heads);
	AUTO_STR not_own = str_printf("^refs/bullpen/kept/heads/%s", s->branch);
	AUTO_STR own = str_printf("refs/bullpen/kept/heads/%s", s->branch);
	AUTO_STR aside = str_printf("refs/heads/%s-before", s->branch);
	AUTO_STR commit = NULL;
	int rc;

	if (!s->has_kept)
		return OK;
	rc = git_must(
	    &g, GIT_ARGS("push", "--quiet", "--no-verify", s->git_dir, work_spec, heads_spec), NULL, &j->fail->why);
	if (rc == OK)
		rc = git_must(&inside,
		    GIT_ARGS("-c", "protocol.file.allow=always", "fetch", "--quiet", "--no-tags",
			"--no-write-fetch-head", ".", "refs/bullpen/kept/heads/*:refs/heads/*", not_own),
		    NULL, &j->fail->why);
	/* Its own branch is where the work is; what was on it and is not under that is beside it. */
	if (rc == OK && git_must(&inside, GIT_ARGS("rev-parse", "-q", "--verify", own), &commit, NULL) == OK &&
	    !git_says_yes(&inside, GIT_ARGS("merge-base", "--is-ancestor", commit, s->tip)))
		rc = git_must(&inside, GIT_ARGS("update-ref", aside, commit), NULL, &j->fail->why);
	return rc;
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
	int rc = OK;

	if (work[0] == '\0' || git_must(&g, GIT_ARGS("log", "-1", "--format=%s", work, "--"), &subject, NULL) != OK)
		return rc;
	session_warn(j->warnings, "Work that this agent did not publish before was put back.");
	if (strcmp(subject, DEPOT_WIP) != 0)
		return OK;
	/* Changes on top of the commit that they were made on; onto another one they are merged, as far as that goes.
	 */
	parent = depot_ref(k, &g, first);
	if (strcmp(parent, s->tip) == 0) {
		rc = git_must(&inside, GIT_ARGS("read-tree", "-m", "-u", "HEAD", work), NULL, &j->fail->why);
		if (rc != OK && s->tip[0] == '\0')
			rc = git_must(&inside, GIT_ARGS("read-tree", "--reset", "-u", work), NULL, &j->fail->why);
	} else if (!git_says_yes(&inside, GIT_ARGS("-c", "user.name=Bullpen", "-c", "user.email=bullpen@localhost",
					      "cherry-pick", "--no-commit", work))) {
		session_warn(j->warnings,
		    "It does not go together with what came from origin meanwhile; it is commit %s.", work);
		return git_must(&inside, GIT_ARGS("reset", "--hard", "--quiet"), NULL, &j->fail->why);
	}
	if (rc == OK && s->tip[0] != '\0')
		rc = git_must(&inside, GIT_ARGS("reset", "--mixed", "--quiet"), NULL, &j->fail->why);
	return rc;
}
