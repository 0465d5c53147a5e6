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

#define MAX_DEPTH 200
#define MAX_LINKS_BYTES (16 * 1024 * 1024)
#define MAX_REFS_BYTES (64 * 1024 * 1024)

char *session_agent_ref(const struct session *s, const char *agent_id, const char *name)
{
	return str_printf("refs/bullpen/agents/%s/%s", agent_id, name);
}

int session_nested(const struct git *inside, struct strbuf *ret, struct why *why)
{
	AUTO_FINI(git_out) o = {0};
	int rc = git_run_bytes(inside, GIT_ARGS("ls-files", "-z", "--others", "--exclude-standard"), &o, why);

	/* Hundreds of thousands of files: `git add` says it of those that it cannot add. */
	if (rc == ERR_TOO_LARGE)
		return OK;
	if (rc == OK && o.status != 0)
		rc = git_failed(inside, GIT_ARGS("ls-files"), &o, why);
	for (size_t at = 0; rc == OK && at < o.out_len; at += strlen(o.out + at) + 1) {
		size_t len = strlen(o.out + at);

		if (len > 1 && o.out[at + len - 1] == '/') {
			strbuf_add(ret, o.out + at, len - 1);
			rc = strbuf_addc(ret, '\0');
		}
	}
	return rc;
}

int session_add_all(const struct git *g, const struct strbuf *left_out, struct why *why)
{
	struct strbuf b = STRBUF(2 * SESSION_PATHS_MAX);
	const char *paths = strbuf_str(left_out);
	struct git own = *g;
	int rc = OK;

	if (left_out->len == 0)
		return git_must(g, GIT_ARGS("add", "--all", "--sparse", "--", "."), NULL, why);
	strbuf_add(&b, ".", 2);
	for (size_t at = 0; rc == OK && at < left_out->len; at += strlen(paths + at) + 1) {
		strbuf_addf(&b, ":(exclude,literal)%s", paths + at);
		rc = strbuf_addc(&b, '\0');
	}
	own.input = strbuf_str(&b);
	own.input_len = b.len;
	if (rc == OK)
		rc = git_must(&own,
		    GIT_ARGS("add", "--all", "--sparse", "--pathspec-from-file=-", "--pathspec-file-nul"), NULL, why);
	strbuf_fini(&b);
	return rc;
}

/* One keeping. */
struct keeping {
	struct session_job *j;
	struct git g; /* in the depot */
	char *head; /* "" if there is no commit */
	bool has_heads;
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

/* A filter is a program that the person chose for the files of the person. Here it would read the session's, outside of
 * its box, and may be looked up among them (python -m, ./tools). What is kept is as the files are; only git-lfs, which
 * looks for nothing there, goes on. */
static int leave_filters_out(const struct git *g, struct why *why)
{
	AUTO_FINI(git_out) o = {0};
	int rc = git_run_bytes(
	    g, GIT_ARGS("config", "-z", "--get-regexp", "^filter\\..*\\.(clean|process|required)$"), &o, why);

	/* 1: there is none. */
	if (rc == OK && o.status > 1)
		rc = git_failed(g, GIT_ARGS("config"), &o, why);
	for (size_t at = 0, next; rc == OK && o.status == 0 && at < o.out_len; at = next) {
		char *key = o.out + at, *value = strchr(key, '\n');
		bool required;

		next = at + strlen(key) + 1;
		if (value != NULL)
			*value++ = '\0';
		required = text_has_suffix(key, ".required");
		if (text_has_prefix(key, "filter.lfs.") &&
		    (required || text_has_prefix(value != NULL ? value : "", "git-lfs ")))
			continue;
		rc = git_must(
		    g, GIT_ARGS("config", "--local", "--replace-all", key, required ? "false" : ""), NULL, why);
	}
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
	rc = leave_filters_out(&k->g, &k->j->fail->why);
	if (rc != OK)
		return rc;
	rc = ERR_INVALID;
	for (int i = 0; i < 2 && rc != OK; i++) {
		struct strbuf nested = STRBUF(SESSION_PATHS_MAX);

		rc = OK;
		if (access(index, F_OK) != 0)
			rc = git_must(&g,
			    k->head[0] != '\0' ? GIT_ARGS("read-tree", k->head) : GIT_ARGS("read-tree", "--empty"),
			    NULL, &k->j->fail->why);
		if (rc == OK)
			rc = leave_links_alone(&g, &k->j->fail->why);
		if (rc == OK)
			rc = session_nested(&g, &nested, &k->j->fail->why);
		if (rc == OK)
			rc = session_add_all(&g, &nested, &k->j->fail->why);
		strbuf_fini(&nested);
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
	/* Without a commit and without a file there may be other branches: they need one that says where the agent was.
	 */
	if (strcmp(tree, of_head) == 0 && (k->head[0] != '\0' || !k->has_heads)) {
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

/* git reads .gitattributes and the like, and looks into repositories inside, without asking whether that is a file: a
 * pipe would be waited for until there is no time left to publish or keep anything. */
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

void session_remove_pipes(const struct session *s)
{
	remove_pipes(AT_FDCWD, s->top, false, 0);
}

/* Commits of the session's branches that are not on origin; if that cannot be told, all are. */
static int find_news(struct keeping *k, const char *heads, struct git_out *ret, bool *ret_known)
{
	struct strbuf commits = STRBUF(MAX_LINKS_BYTES);
	int rc;

	for (const char *line = heads; *line != '\0';
	     line += line[strcspn(line, "\n")] == '\n' ? strcspn(line, "\n") + 1 : strlen(line))
		strbuf_addf(&commits, "%.*s\n", (int)strcspn(line, " "), line);
	rc = commits.overflowed ? ERR_TOO_LARGE : session_news(k->j, strbuf_str(&commits), false, ret, NULL);
	strbuf_fini(&commits);
	*ret_known = rc == OK;
	return git_interrupted(&k->g, &k->j->fail->why);
}

/* Other branches of the session whose commits are not on origin. */
static int keep_heads(struct keeping *k, bool *ret_any)
{
	AUTO_FINI(git_out) o = {0};
	AUTO_FINI(git_out) news = {0};
	AUTO_STR prefix = session_agent_ref(k->j->s, k->agent_id, "heads/");
	struct strbuf b = STRBUF(MAX_REFS_BYTES);
	struct git own = k->g;
	char *sha, *name;
	bool known = false;
	int rc = session_list_refs(&k->g, SESSION_HEADS, &o, &k->j->fail->why);

	if (rc == OK && o.out[0] != '\0')
		rc = find_news(k, o.out, &news, &known);
	for (char *at = o.out; rc == OK && session_next_ref(&at, SESSION_HEADS, &sha, &name);) {
		if (strcmp(sha, k->head) == 0 || (known && strstr(news.out, sha) == NULL))
			continue;
		rc = strbuf_addf(&b, "update %s%s %s\n", prefix, name, sha);
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
		delete_refs(&k->g, SESSION_HEADS, "refs/bullpen/session/HEAD");
	return git_interrupted(&k->g, &k->j->fail->why);
}

static int keep_all(struct keeping *k, const char *reason, json_t **ret_kept)
{
	const struct session *s = k->j->s;
	AUTO_STR ref = session_agent_ref(s, k->agent_id, "work");
	AUTO_FINI(git_out) heads = {0};
	AUTO_STR work = NULL;
	bool any = false;
	int rc;

	rc = take_over(k);
	if (rc != OK)
		return rc;
	session_remove_pipes(s);
	rc = session_list_refs(&k->g, SESSION_HEADS, &heads, &k->j->fail->why);
	k->has_heads = rc == OK && heads.out[0] != '\0';
	if (rc == OK)
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
	struct box *own;
	int lock, rc = session_lock_depot(j, session_primary(j->s), &lock);

	if (rc != OK)
		return rc;
	own = session_own_box(j->s);
	k.g.box = own;
	rc = keep_all(&k, reason, ret_kept);
	box_close(&own, 0, CLOSE_GIVE_UP_MS);
	depot_unlock(&lock);
	free(k.head);
	return rc;
}
