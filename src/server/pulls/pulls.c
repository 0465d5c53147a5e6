/* Opening pull requests.
 *
 * Crash argument. The row is 'wanted' before the forge is asked, and its row in the outbox is in the same transaction;
 * the outcome and the end of that row are one transaction, too. A crash in between leaves the row wanted, and somebody
 * tries again: the run's next thread, or a sender. Each try looks for the open pull request of the branch first, so
 * that one which was opened without our knowing is taken and no second one made; a forge refuses a second one in any
 * case, and then it is looked for again. */
#include "server/pulls/pulls.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "server/pulls/pulls_priv.h"
#include <string.h>
#include <time.h>

#define PULLS_MAGIC 0x50554c4cu
#define HEAD_VISIBLE_MS 30000
#define LOOK_MS 300
#define BEFORE_LEASE_END_MS 5000

METRIC_COUNTER(pulls_done, "bullpen_pull_requests_total",
    "Pull requests that were to be opened or changed, by outcome.", "outcome");

struct pulls {
	unsigned magic;
	struct pulls_config cfg;
	struct outbox *sender;
	atomic_bool stop;
	_Atomic(char *) base; /* set once */
};

static const int64_t pauses[] = {1000, 5000, 30000, 120000, 600000};

void pull_done_fini(struct pull_done *d)
{
	str_free(&d->state);
	str_free(&d->url);
	str_free(&d->error);
}

bool pulls_knows(const struct pulls *p, const char *repo_url, struct forge **ret_forge, char **ret_repo)
{
	AUTO_STR repo = NULL;
	struct forge *f = p->cfg.forges != NULL ? forges_of_repo(p->cfg.forges, repo_url, &repo) : NULL;

	if (f != NULL && ret_forge != NULL)
		*ret_forge = f;
	if (f != NULL && ret_repo != NULL)
		*ret_repo = TAKE(repo);
	return f != NULL;
}

void pulls_set_base(struct pulls *p, const char *url)
{
	ENSURE(atomic_load(&p->base) == NULL);
	atomic_store(&p->base, str_dup(url));
}

char *pulls_agent_url(const struct pulls *p, const char *agent_id)
{
	const char *base = atomic_load(&p->base);

	return str_printf("%s/agents/%s", base != NULL ? base : "", agent_id);
}

const struct forges *pulls_forges(const struct pulls *p)
{
	return p->cfg.forges;
}

/* One try. */
struct attempt {
	struct pulls *p;
	struct pull_row row;
	struct forge_call call;
	struct forge_pull pull;
	bool is_new, is_edited;
};

static void attempt_fini(struct attempt *a)
{
	pull_row_fini(&a->row);
	forge_pull_fini(&a->pull);
}

static bool is_stopping(const struct attempt *a)
{
	return a->call.stopped != NULL && a->call.stopped(a->call.ctx);
}

/* After a push the forge needs a moment to see it; until then it says that there is nothing to merge. */
static int wait_for_head(struct attempt *a)
{
	int64_t until = MIN(clock_mono_ms() + HEAD_VISIBLE_MS, a->call.deadline_mono_ms);

	while (a->row.head_commit[0] != '\0') {
		AUTO_STR commit = NULL;
		int rc = forge_branch_get(&a->call, a->row.head, &commit);

		if (rc != OK && rc != ERR_NOT_FOUND)
			return rc;
		if (rc == OK && strcmp(commit, a->row.head_commit) == 0)
			return OK;
		/* Somebody may have pushed since; that is as good. */
		if (clock_mono_ms() >= until || is_stopping(a))
			return rc;
		nanosleep(&(struct timespec){.tv_nsec = LOOK_MS * 1000000L}, NULL); /* interval of polling */
	}
	return OK;
}

static int find_base(struct attempt *a)
{
	AUTO_FINI(forge_repo) repo = {0};
	int rc;

	if (a->row.base[0] != '\0')
		return OK;
	rc = forge_repo_get(&a->call, &repo);
	if (rc == OK)
		str_set(&a->row.base, repo.default_branch);
	return rc;
}

static int open_new(struct attempt *a)
{
	const struct forge_pull_text text = {.head = a->row.head,
	    .base = a->row.base,
	    .title = a->row.title,
	    .body = a->row.body,
	    .draft = a->row.draft};
	int rc = forge_pull_find(&a->call, a->row.head, a->row.base, &a->pull);

	if (rc != ERR_EMPTY)
		return rc;
	rc = forge_pull_create(&a->call, &text, &a->pull);
	a->is_new = rc == OK;
	if (rc == ERR_CONFLICT)
		rc = forge_pull_find(&a->call, a->row.head, a->row.base, &a->pull) == OK
			 ? OK
			 : why_set(&a->call.why, ERR_INVALID,
			       "%s says that there is a pull request of this branch, and shows none",
			       forge_host(a->call.forge));
	return rc;
}

/* Never a reason for the pull request to fail: the person may be its author, or no collaborator. */
static void ask_review(struct attempt *a)
{
	int rc = a->row.reviewer != NULL ? forge_pull_ask_review(&a->call, a->pull.number, a->row.reviewer) : OK;

	if (rc != OK)
		log_warn("pull.review", "agent=%s url=%s reviewer=%s error=%s", a->row.agent_id, log_quote(a->pull.url),
		    log_quote(a->row.reviewer), log_quote(a->call.why.text));
}

static bool is_as_we_left_it(const struct attempt *a)
{
	char hash[SHA256_HEX_LEN];

	sha256_hex(a->pull.body, strlen(a->pull.body), hash);
	return a->row.body_sent != NULL && strcmp(hash, a->row.body_sent) == 0;
}

/* ERR_EMPTY: it is closed or merged, a new one is wanted. */
static int bring_up_to_date(struct attempt *a)
{
	int rc = forge_pull_get(&a->call, a->row.number, &a->pull);

	if (rc != OK)
		return rc == ERR_NOT_FOUND ? ERR_EMPTY : rc;
	if (!a->pull.is_open) {
		forge_pull_fini(&a->pull);
		return ERR_EMPTY;
	}
	if (!is_as_we_left_it(a) || strcmp(a->pull.body, a->row.body) == 0)
		return OK;
	rc = forge_pull_edit(&a->call, a->pull.number, NULL, a->row.body);
	if (rc == OK) {
		a->is_edited = true;
		str_set(&a->pull.body, a->row.body);
	}
	return rc;
}

static int do_attempt(struct attempt *a)
{
	int rc = ERR_EMPTY;

	if (a->row.number != 0)
		rc = bring_up_to_date(a);
	if (rc != ERR_EMPTY || strcmp(a->row.state, "given") == 0)
		return rc == ERR_EMPTY ? OK : rc;
	rc = wait_for_head(a);
	if (rc == OK)
		rc = find_base(a);
	/* The agent worked on the very branch that it would be merged into. */
	if (rc == OK && strcmp(a->row.base, a->row.head) == 0)
		return ERR_EMPTY;
	if (rc == OK)
		rc = open_new(a);
	if (rc == OK)
		ask_review(a);
	return rc;
}

/* What will be the same the next time. */
static bool is_final(int rc)
{
	return rc == ERR_INVALID || rc == ERR_DENIED || rc == ERR_NOT_FOUND || rc == ERR_UNAUTHORIZED ||
	       rc == ERR_CONFLICT || rc == ERR_TOO_LARGE;
}

static int write_outcome(struct attempt *a, int rc, struct pull_done *ret)
{
	char hash[SHA256_HEX_LEN] = "";
	AUTO_STR marker = pull_marker(a->row.agent_id);
	bool ours =
	    rc == OK && a->pull.body != NULL && (a->is_new || a->is_edited || strstr(a->pull.body, marker) != NULL);
	struct pull_outcome o = {.state = rc == OK ? "open" : rc == ERR_EMPTY ? "none" : "failed"};

	if (rc == OK && a->pull.number == 0) { /* given and gone: it stays as it is */
		ret->state = str_dup(a->row.state);
		return OK;
	}
	if (rc == OK && strcmp(a->row.state, "given") == 0)
		o.state = "given";
	if (ours)
		sha256_hex(a->pull.body, strlen(a->pull.body), hash);
	if (rc == OK) {
		o.number = a->pull.number;
		o.url = a->pull.url;
		/* One that a person changed stays a person's. */
		o.body_sent = ours && (a->is_new || a->is_edited || a->row.body_sent == NULL) ? hash : a->row.body_sent;
	} else if (rc != ERR_EMPTY) {
		o.error = a->call.why.text[0] != '\0' ? a->call.why.text : err_text(rc);
	}
	ret->state = str_dup(o.state);
	ret->url = str_dup(o.url);
	ret->error = str_dup(o.error);
	ret->is_new = a->is_new;
	ret->is_edited = a->is_edited;
	return pull_row_mark(a->p->cfg.store, &a->row, &o);
}

static int fill_body(struct pulls *p, struct pull_row *row)
{
	AUTO_STR body = NULL;
	int rc = p->cfg.fill != NULL ? p->cfg.fill(p->cfg.fill_ctx, row->agent_id, row->body, &body) : OK;

	if (rc == OK && body != NULL)
		str_set(&row->body, body);
	return rc;
}

int pulls_perform(struct pulls *p, const char *id, const struct pull_time *time, struct pull_done *ret, struct why *why)
{
	__attribute__((cleanup(attempt_fini))) struct attempt a = {.p = p};
	int rc, written;

	OBJ_CHECK(p, PULLS_MAGIC);
	rc = pull_row_load(p->cfg.store, id, &a.row);
	if (rc == OK)
		rc = fill_body(p, &a.row);
	if (rc != OK)
		return rc;
	a.call = (struct forge_call){.forge = forges_named(p->cfg.forges, a.row.forge),
	    .repo = a.row.repo,
	    .deadline_mono_ms = time->deadline_mono_ms,
	    .stopped = time->stopped,
	    .ctx = time->ctx,
	    .by_token = a.row.by_token};
	if (a.call.forge == NULL)
		rc = why_set(&a.call.why, ERR_INVALID, "the forge '%s' is not in the settings any more", a.row.forge);
	else
		rc = do_attempt(&a);
	if (rc != OK && rc != ERR_EMPTY && !is_final(rc)) {
		log_warn("pull.wanted", "agent=%s repo=%s head=%s error=%s", a.row.agent_id, log_quote(a.row.repo),
		    log_quote(a.row.head), log_quote(a.call.why.text));
		metric_add(&pulls_done, 1, "later");
		ret->retry_ms = rc == ERR_FULL ? a.call.retry_ms : 0;
		return why_set(why, rc, "%s", a.call.why.text);
	}
	written = write_outcome(&a, rc, ret);
	if (written != OK)
		return written;
	metric_add(&pulls_done, 1, a.is_new ? "opened" : a.is_edited ? "changed" : rc == OK ? "found" : ret->state);
	log_info("pull.done", "agent=%s repo=%s head=%s state=%s url=%s new=%d error=%s", a.row.agent_id,
	    log_quote(a.row.repo), log_quote(a.row.head), ret->state, log_quote(ret->url != NULL ? ret->url : ""),
	    a.is_new, log_quote(ret->error != NULL ? ret->error : ""));
	return OK;
}

int pulls_hand_over(struct pulls *p, const char *id, int64_t retry_ms)
{
	int64_t pause = MAX(pauses[0], MIN(retry_ms, OUTBOX_HOLD_MAX_MS));
	AUTO(tx) tx = NULL;
	int rc = tx_begin(p->cfg.store, TX_WRITE, &tx);

	if (rc == OK)
		rc = outbox_bring_forward(tx, PULL_KIND, id, clock_wall_ms() + pause);
	if (rc == OK)
		rc = tx_commit(&tx);
	if (rc == OK)
		outbox_wake(p->sender);
	return rc;
}

static bool is_freed(void *ctx)
{
	const struct pulls *p = ctx;

	return atomic_load(&p->stop);
}

/* The last try: nobody shall wait for it any more. */
static int give_up(struct pulls *p, const char *id, const struct why *why)
{
	__attribute__((cleanup(pull_row_fini))) struct pull_row row = {0};
	int rc = pull_row_load(p->cfg.store, id, &row);
	const struct pull_outcome o = {.state = "failed", .error = why->text};

	return rc == OK ? pull_row_mark(p->cfg.store, &row, &o) : rc;
}

/* Sender's thread. */
static int send_pull(void *ctx, const struct outbox_item *item, struct why *why)
{
	struct pulls *p = OBJ_FROM(pulls, ctx, PULLS_MAGIC);
	const struct pull_time time = {
	    .deadline_mono_ms = item->deadline_mono_ms - BEFORE_LEASE_END_MS, .stopped = is_freed, .ctx = p};
	AUTO_FINI(pull_done) done = {0};
	int rc = pulls_perform(p, item->subject, &time, &done, why);

	outbox_hold(item, done.retry_ms);
	if (rc == ERR_EMPTY)
		return why_set(why, ERR_INVALID, "the agent is gone");
	if (rc != OK && item->attempt > (int64_t)ARRAY_LEN(pauses) && give_up(p, item->subject, why) == OK)
		return ERR_INVALID;
	return rc;
}

struct pulls *pulls_new(const struct pulls_config *cfg)
{
	struct pulls *p = NEW(struct pulls);
	const struct outbox_config outbox = {
	    .store = cfg->store, .node_id = cfg->node_id, .pauses_ms = pauses, .n_pauses = ARRAY_LEN(pauses)};

	p->magic = PULLS_MAGIC;
	p->cfg = *cfg;
	p->sender = outbox_new(&outbox);
	outbox_handle(p->sender, PULL_KIND, send_pull, p);
	return p;
}

int pulls_start(struct pulls *p, struct why *why)
{
	return outbox_start(p->sender, why);
}

void pulls_free(struct pulls **pp)
{
	struct pulls *p = TAKE(*pp);

	if (p == NULL)
		return;
	atomic_store(&p->stop, true);
	outbox_free(&p->sender);
	free(atomic_load(&p->base));
	p->magic = 0;
	free(p);
}
