/* pulls/pulls.h: pull requests of agents, each opened exactly once.
 *
 * What is promised: a pull request that was wanted in a committed transaction is opened once or ends as none (there was
 * nothing to merge) or failed (with the forge's words), whatever crashes in between. The forge itself is the judge: a
 * branch has one open pull request, so before each try the open one is looked for and, if there is one, taken.
 *
 * Threads: pull_… in the caller's transaction; pulls_perform on any thread, it blocks; the outbox' handler is this
 * room's own. */
#pragma once
#include "server/forges/forges.h"
#include "server/outbox/outbox.h"

struct pulls;

struct pulls_config {
	struct store *store;
	const struct forges *forges;
	const char *node_id;
	/* A body as the forge gets it, made of the one that is stored: malloc'ed. NULL: they are the same. */
	int (*fill)(void *ctx, const char *agent_id, const char *body, char **ret);
	void *fill_ctx;
};

struct pulls *pulls_new(const struct pulls_config *cfg);
int pulls_start(struct pulls *p, struct why *why) MUST_USE;
/* Gives up what is under way; the store has it. NULL is fine. */
void pulls_free(struct pulls **p);

/* The server's address for browsers; once, before agents need it. */
void pulls_set_base(struct pulls *p, const char *url);
/* The agent's page; malloc'ed. */
char *pulls_agent_url(const struct pulls *p, const char *agent_id);

/* Whether the repository is on a forge of the settings; *ret_forge, *ret_repo (malloc'ed) may be NULL. */
bool pulls_knows(const struct pulls *p, const char *repo_url, struct forge **ret_forge, char **ret_repo);
const struct forges *pulls_forges(const struct pulls *p);

struct pull_want {
	const char *agent_id, *run_id, *owner; /* owner: as agents.owner */
	const char *repo_url, *head, *head_commit; /* head_commit "": not known */
	const char *base; /* "": the default branch */
	const char *title, *body;
	bool ask_review;
};
/* The pull request shall be there and say this. *ret_id (malloc'ed) is for pulls_perform; without that call a sender
 * does it after PULL_HEAD_START_MS. ERR_NOT_FOUND: the repository is on no forge of the settings. */
#define PULL_HEAD_START_MS 90000
int pull_want(struct pulls *p, struct tx *tx, const struct pull_want *want, char **ret_id) MUST_USE;
/* The one that an agent was given to work on: it is shown, and pushes go to it. */
int pull_given(struct tx *tx, const char *agent_id, const struct forge *forge, const char *repo,
    const struct forge_pull *pull) MUST_USE;
/* How it stands with the one of that branch: *ret_state as pulls.state. ERR_EMPTY: there is none. */
int pull_state(struct tx *tx, const char *agent_id, const char *head, char **ret_state) MUST_USE;
/* The agent is deleted. */
int pull_drop(struct tx *tx, const char *agent_id) MUST_USE;

struct pull_done {
	char *state, *url, *error; /* url, error: NULL if there is none */
	bool is_new, is_edited;
	int64_t retry_ms; /* with ERR_FULL: how long the forge wants to be left alone */
};
void pull_done_fini(struct pull_done *d);
struct pull_time {
	int64_t deadline_mono_ms;
	bool (*stopped)(void *ctx); /* true: give up soon; NULL: never */
	void *ctx;
};
/* Does it, until the deadline at most, and writes the outcome. OK: there is an outcome; else it stays wanted and a
 * sender tries again. */
int pulls_perform(
    struct pulls *p, const char *id, const struct pull_time *time, struct pull_done *ret, struct why *why) MUST_USE;

/* The caller's own try did not get through: a sender begins soon, but not before the forge wants it (retry_ms; 0). */
int pulls_hand_over(struct pulls *p, const char *id, int64_t retry_ms) MUST_USE;

/* Text of a model for a forge: names that would call people, references and words that would close issues are kept from
 * doing that, outside of code. malloc'ed. */
char *pull_neutral_text(const char *text);
/* What stands at the end of the body of a pull request of the agent. */
char *pull_marker(const char *agent_id);
