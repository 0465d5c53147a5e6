/* One event on its way to an agent.
 *
 * Crash argument. The agent, its conversation, the end of the event's row and the note to its asker are one
 * transaction, so an event makes one agent however often it is tried; what happened at the service before (reading what
 * stands around it) changes nothing there. */
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "base/seal.h"
#include "base/text.h"
#include "server/access/linked.h"
#include "server/api/route.h"
#include "server/notices/notices.h"
#include "server/triggers/surface.h"
#include <string.h>

#define BEFORE_LEASE_END_MS 5000
#define CONTEXT_MAX ((size_t)128 * 1024)
#define MENTIONS_MAX 20 /* of the settings */
#define NOT_YOURS "You cannot follow up on this agent. Start your own with `agent …`."

METRIC_COUNTER(events, "bullpen_trigger_events_total",
    "Events of other services that were worked off, by surface and outcome.", "surface", "outcome");

void asked_fini(struct asked *a)
{
	char **const texts[] = {&a->account, &a->login, &a->text, &a->repo_url, &a->pull_url, &a->context, &a->note,
	    &a->pool, &a->worker, &a->repo, &a->agent_id, &a->email, &a->default_pool, &a->default_machine,
	    &a->repo_instead, &a->note_of_new, &a->names[0], &a->names[1]};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		str_free(texts[i]);
	json_drop(&a->images);
	json_drop(&a->at);
}

struct work {
	struct triggers *t;
	const struct surface *surface;
	struct inbox_row row;
	struct asked asked;
	struct trigger_options options;
	struct principal *who;
	struct target target;
	char *agent_id; /* of the conversation, NULL: it has none */
	struct why *why;
	int64_t deadline_mono_ms;
};

static void work_fini(struct work *w)
{
	inbox_row_fini(&w->row);
	asked_fini(&w->asked);
	trigger_options_fini(&w->options);
	principal_free(&w->who);
	json_drop(&w->target.env);
	str_free(&w->agent_id);
}

static int end_event(struct work *w, const char *state, const char *reason)
{
	AUTO(tx) tx = NULL;
	int rc = tx_begin(triggers_cfg(w->t)->store, TX_WRITE, &tx);

	if (rc == OK)
		rc = inbox_end(tx, w->row.id, state, reason, NULL);
	if (rc == OK)
		rc = tx_commit(&tx);
	if (rc == OK)
		metric_add(&events, 1, w->surface->name, state);
	log_info("trigger.end", "surface=%s place=%s event=%s state=%s reason=%s", w->surface->name,
	    log_quote(w->row.place), log_quote(w->row.event), state, log_quote(reason));
	return rc;
}

/* She hears it, and nobody else where the surface can do that. */
static int answer(struct work *w, struct tx *tx, const char *state, const char *reason, const char *text)
{
	AUTO_JSON note = json_pack("{s:s, s:s, s:s, s:O, s:s}", "tell", "rejected", "surface", w->surface->name,
	    "place", w->row.place, "at", w->asked.at, "text", text);
	int rc = inbox_end(tx, w->row.id, state, reason, NULL);

	json_put(note, "event", w->row.id);
	return rc == OK ? note_add(tx, w->row.id, note, clock_wall_ms()) : rc;
}

/* The asker hears why. One who may not be answered does not. */
static int reject(struct work *w, const char *text)
{
	AUTO(tx) tx = NULL;
	int rc;

	if (!w->asked.may_be_answered)
		return end_event(w, "ignored", text);
	rc = tx_begin(triggers_cfg(w->t)->store, TX_WRITE, &tx);
	if (rc == OK)
		rc = answer(w, tx, "rejected", text, text);
	if (rc == OK)
		rc = tx_commit(&tx);
	if (rc == OK)
		metric_add(&events, 1, w->surface->name, "rejected");
	return rc;
}

/* The words that call us; NULL-terminated. */
static void words_of(const struct work *w, const char *ret[MENTIONS_MAX + 3])
{
	size_t n = 0;

	for (char **m = triggers_settings(w->t)->mentions; *m != NULL && n < MENTIONS_MAX; m++)
		ret[n++] = *m;
	for (size_t i = 0; i < ARRAY_LEN(w->asked.names); i++)
		if (w->asked.names[i] != NULL)
			ret[n++] = w->asked.names[i];
	ret[n] = NULL;
}

static int read_event(struct work *w)
{
	const char *words[MENTIONS_MAX + 3];
	AUTO_JSON body = NULL;
	int rc = json_parse(w->row.body, strlen(w->row.body), &body, w->why);
	struct trigger_text text = {.keys = w->surface->keys,
	    .strict = triggers_settings(w->t)->strict,
	    .drops_comments = w->surface->drops_comments};

	if (rc == OK)
		rc = w->surface->read(w->t, &w->row, body, &w->asked, w->why);
	if (rc != OK)
		return rc == ERR_INVALID ? why_set(w->why, ERR_EMPTY, "the body is not as it should be") : rc;
	/* Nobody wrote it, so there is nothing to be read out of it. */
	if (w->asked.handed != HANDED_NOT) {
		str_set(&w->options.prompt, w->asked.text);
		return OK;
	}
	text.text = w->asked.text;
	words_of(w, words);
	text.mentions = w->asked.needs_mention ? words : NULL;
	rc = trigger_options_read(&text, &w->options, w->why);
	if (rc == ERR_EMPTY)
		return why_set(w->why, rc, "it mentions nobody here");
	if (rc == ERR_INVALID) /* a sentence for the person: said when it is known that she may be answered */
		str_set(&w->asked.text, NULL);
	return OK;
}

/* Asks the service for what the event does not say. */
static int look_around(struct work *w)
{
	AUTO_JSON body = NULL;
	int rc = json_parse(w->row.body, strlen(w->row.body), &body, w->why);

	return rc == OK && w->surface->look != NULL
		   ? w->surface->look(w->t, &w->row, body, &w->asked, w->deadline_mono_ms, w->why)
		   : rc;
}

/* What stands around the text holds where the text says nothing. */
static void take_labels(struct work *w)
{
	struct trigger_options *o = &w->options;

	if (o->repo == NULL)
		str_set(&o->repo, w->asked.repo);
	if (o->self_hosted == 0 || o->pool != NULL || o->worker != NULL)
		return;
	if (w->asked.worker != NULL)
		str_set(&o->worker, w->asked.worker);
	else
		str_set(&o->pool, w->asked.pool);
}

static int find_person(struct work *w, struct tx *tx)
{
	int64_t user = 0;
	int rc = linked_find(tx, w->surface->name, w->row.place, w->asked.account, &user);

	if (rc == ERR_NOT_FOUND && w->asked.email != NULL)
		rc = linked_find_email(tx, w->asked.email, &user);
	if (rc == OK)
		rc = access_principal_of_user(tx, user, &w->who);
	return rc == OK && !principal_has_scope(w->who, SCOPE_AGENTS_WRITE)
		   ? why_set(
			 w->why, ERR_INVALID, "An auditor reads everything and starts, continues and stops nothing.")
		   : rc;
}

static int find_conversation(struct work *w, struct tx *tx)
{
	AUTO(query) q = NULL;
	int rc;

	if (w->asked.forces_new || (w->row.thread[0] == '\0' && w->asked.agent_id == NULL))
		return OK;
	if (w->asked.agent_id != NULL)
		rc = tx_query(tx, &q,
		    "SELECT c.agent_id FROM conversations c JOIN agents a ON a.id = c.agent_id AND a.status "
		    "NOT IN ('DELETED', 'ARCHIVED') WHERE c.agent_id = $1 AND c.surface = $2 AND c.place = $3",
		    "sss", w->asked.agent_id, w->surface->name, w->row.place);
	else
		rc = tx_query(tx, &q,
		    "SELECT c.agent_id FROM conversations c JOIN agents a ON a.id = c.agent_id AND a.status "
		    "NOT IN "
		    "('DELETED', 'ARCHIVED')"
		    " WHERE c.surface = $1 AND c.place = $2 AND c.thread = $3 ORDER BY c.created_at DESC LIMIT 1",
		    "sss", w->surface->name, w->row.place, w->row.thread);
	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc == ERR_EMPTY ? OK : rc;
	w->agent_id = str_dup(query_str(q, 0));
	return OK;
}

static char *repo_wanted(const struct work *w)
{
	if (w->options.repo == NULL)
		return str_dup(w->asked.repo_url);
	if (strstr(w->options.repo, "://") != NULL)
		return str_dup(w->options.repo);
	/* owner/name at the first forge; host/owner/name says itself. */
	if (strchr(strchr(w->options.repo, '/') + 1, '/') != NULL)
		return str_printf("https://%s", w->options.repo);
	if (forges_count(triggers_cfg(w->t)->forges) > 0)
		return forge_repo_url(forges_at(triggers_cfg(w->t)->forges, 0), w->options.repo);
	return str_printf("https://github.com/%s", w->options.repo);
}

static char *prompt_of(const struct work *w)
{
	AUTO_STR cut = w->asked.context != NULL
			   ? text_cut_middle(w->asked.context, strlen(w->asked.context), CONTEXT_MAX, NULL)
			   : NULL;

	return cut == NULL || cut[0] == '\0' ? str_dup(w->options.prompt)
					     : str_printf("%s\n\n%s", w->options.prompt, cut);
}

static json_t *body_of(const struct work *w, const char *repo_url, const char *prompt, const char *agent_id)
{
	json_t *body =
	    json_pack("{s:{s:s}, s:s, s:O}", "prompt", "text", prompt, "agentId", agent_id, "env", w->target.env);
	json_t *repo;

	if (w->asked.images != NULL && json_array_size(w->asked.images) > 0)
		json_object_set(json_object_get(body, "prompt"), "images", w->asked.images);
	if (repo_url != NULL) {
		repo = json_pack("{s:s}", "url", repo_url);
		json_put(repo, "prUrl", w->options.branch == NULL ? w->asked.pull_url : NULL);
		json_put(repo, "startingRef", w->options.branch);
		json_put_new(body, "repos", json_pack("[o]", repo));
		if (w->asked.on_pull && w->options.branch == NULL)
			json_put_bool(body, "workOnCurrentBranch", true);
		else if (w->options.autopr != 0)
			json_put_bool(body, "autoCreatePR", true);
	}
	if (w->options.model != NULL) {
		json_t *model = json_pack("{s:s}", "id", w->options.model);

		if (json_array_size(w->options.model_params) > 0)
			json_object_set(model, "params", w->options.model_params);
		json_put_new(body, "model", model);
	}
	return body;
}

static void add_line(char **text, const char *line)
{
	AUTO_STR before = TAKE(*text);

	if (line == NULL)
		*text = TAKE(before);
	else
		*text = str_printf("%s%s%s", before != NULL ? before : "", before != NULL ? "\n" : "", line);
}

/* In the transaction that makes or continues the agent. */
static int write_beside(void *ctx, struct tx *tx, const char *agent_id)
{
	struct work *w = ctx;
	AUTO_STR at = json_text(w->asked.at);
	AUTO_JSON note =
	    json_pack("{s:s, s:s}", "tell", w->agent_id != NULL ? "queued" : "started", "event", w->row.id);
	AUTO_STR text = NULL;
	int64_t now = clock_wall_ms();
	int rc = OK;

	add_line(&text, w->target.note);
	add_line(&text, w->agent_id == NULL ? w->asked.note_of_new : NULL);
	add_line(&text, w->asked.note);
	json_put(note, "text", text);
	json_put_new(note, "at", json_incref(w->asked.at));
	if (w->agent_id == NULL)
		rc = tx_exec(tx,
		    "INSERT INTO conversations(agent_id, surface, place, thread, user_id, at, created_at) VALUES($1, "
		    "$2, $3, $4, $5, $6, $7)",
		    "ssssisi", agent_id, w->surface->name, w->row.place, w->row.thread, w->who->user_id, at, now);
	else
		rc = tx_exec(tx, "UPDATE conversations SET at = $2 WHERE agent_id = $1", "ss", agent_id, at);
	if (rc == OK)
		rc = note_add(tx, agent_id, note, now);
	return rc == OK ? inbox_end(tx, w->row.id, "done", NULL, agent_id) : rc;
}

/* A picture beside a request is no reason to refuse it. */
static void drop_unseen_images(struct work *w)
{
	AUTO_STR before = TAKE(w->asked.note);

	if (json_array_size(w->asked.images) == 0 || inside_takes_images(w->options.model)) {
		w->asked.note = TAKE(before);
		return;
	}
	json_drop(&w->asked.images);
	w->asked.note = str_printf("%s%sThis model takes no images, so I work without them.",
	    before != NULL ? before : "", before != NULL ? "\n" : "");
}

static int create(struct work *w)
{
	AUTO_STR repo_url = repo_wanted(w);
	AUTO_STR prompt = prompt_of(w);
	AUTO_STR agent_id = str_printf("bc-%s", w->row.id);
	AUTO_JSON body = body_of(w, repo_url, prompt, agent_id);
	__attribute__((cleanup(inside_made_fini))) struct inside_made made = {0};
	struct problem p = {.code = API_validation_error};
	int rc = inside_create(triggers_api(w->t), w->who, body, &(struct inside_also){write_beside, w}, &made, &p);

	/* No forge for pull requests is no reason not to work. */
	if (rc == ERR_INVALID && p.code == API_integration_not_connected) {
		json_object_del(body, "autoCreatePR");
		rc = inside_create(triggers_api(w->t), w->who, body, &(struct inside_also){write_beside, w}, &made, &p);
	}
	if (rc == ERR_INVALID && p.code == API_service_unavailable)
		return why_set(w->why, ERR_NET, "%s", p.why.text);
	if (rc == ERR_INVALID && p.code == API_repository_required)
		return reject(w, "I could not tell which repository you mean. Add `repo=owner/name`.");
	if (rc == ERR_INVALID)
		return reject(w, p.why.text);
	if (rc == ERR_CONFLICT)
		return end_event(w, "done", "the agent is there already");
	if (rc == OK) {
		metric_add(&events, 1, w->surface->name, "created");
		log_info("trigger.created", "surface=%s place=%s agent=%s user=%lld", w->surface->name,
		    log_quote(w->row.place), made.agent_id, (long long)w->who->user_id);
	}
	return rc;
}

static int continue_agent(struct work *w)
{
	AUTO_STR prompt = prompt_of(w);
	__attribute__((cleanup(inside_made_fini))) struct inside_made made = {0};
	struct problem p = {.code = API_validation_error};
	int rc;

	if (w->asked.stops) {
		rc = w->asked.archives ? inside_archive(triggers_api(w->t), w->who, w->agent_id)
				       : inside_stop(triggers_api(w->t), w->who, w->agent_id);
		if (rc == ERR_DENIED)
			return reject(w, NOT_YOURS);
		return rc == OK || rc == ERR_CONFLICT ? end_event(w, "done", "stopped") : rc;
	}
	/* Where an agent runs is decided once. */
	if (w->options.pool != NULL || w->options.worker != NULL || w->options.self_hosted >= 0)
		w->target.note = "Options of where to run hold for new agents only, so they were left out here.";
	rc = inside_continue(triggers_api(w->t), w->who, w->agent_id,
	    &(struct prompt){.text = prompt, .images = w->asked.images}, &(struct inside_also){write_beside, w}, &made,
	    &p);
	if (rc == ERR_DENIED)
		return reject(w, NOT_YOURS);
	if (rc == ERR_INVALID)
		return reject(w, p.why.text);
	if (rc == OK)
		metric_add(&events, 1, w->surface->name, "continued");
	return rc;
}

static int offer_link(struct work *w)
{
	AUTO(tx) tx = NULL;
	AUTO_STR secret = NULL;
	AUTO_STR text = NULL;
	const char *base = inside_web_base(triggers_api(w->t));
	const struct linked account = {w->surface->name, w->row.place, w->asked.account, w->asked.login};
	int rc;

	if (!w->asked.may_be_answered || !w->asked.trusted)
		return end_event(w, "ignored", "the account is linked to nobody here");
	rc = tx_begin(triggers_cfg(w->t)->store, TX_WRITE, &tx);
	if (rc == OK)
		rc = link_offer(tx, &account, clock_wall_ms(), &secret);
	if (rc == OK)
		rc = tx_commit(&tx);
	if (rc != OK)
		return rc;
	text = str_printf("Connect your account to start agents: %s/link#%s (once, within ten minutes)",
	    base != NULL ? base : "", secret);
	explicit_bzero(secret, strlen(secret));
	rc = reject(w, text);
	explicit_bzero(text, strlen(text));
	return rc;
}

static int know_person(struct work *w)
{
	AUTO(tx) tx = NULL;
	int rc = tx_begin(triggers_cfg(w->t)->store, TX_READ, &tx);

	return rc == OK ? find_person(w, tx) : rc;
}

static int look_up(struct work *w)
{
	AUTO(tx) tx = NULL;
	AUTO_STR repo_url = NULL;
	int rc = tx_begin(triggers_cfg(w->t)->store, TX_READ, &tx);

	if (rc == OK)
		rc = find_conversation(w, tx);
	if (rc == OK && w->agent_id == NULL && w->asked.agent_id != NULL)
		return why_set(w->why, ERR_INVALID, "This agent is not there any more. Start one with `agent …`.");
	if (rc == OK && w->surface->settle != NULL)
		rc = w->surface->settle(w->t, tx, w->who, &w->row, &w->asked, &w->options, w->why);
	if (rc == OK && w->agent_id == NULL && !w->asked.stops) {
		repo_url = repo_wanted(w);
		rc = target_choose(w->t, tx, w->surface, w->who, &w->asked, &w->options, repo_url, &w->target, w->why);
	}
	return rc;
}

/* ERR_EMPTY: it is no command. */
static int obey(struct work *w)
{
	AUTO(tx) tx = NULL;
	AUTO_STR text = NULL;
	int rc = tx_begin(triggers_cfg(w->t)->store, TX_WRITE, &tx);

	if (rc == OK)
		rc = w->surface->command(w->t, tx, w->who, &w->row, &w->asked, &text);
	if (rc == OK)
		rc = answer(w, tx, "done", "a command", text);
	if (rc == OK)
		rc = tx_commit(&tx);
	if (rc == OK)
		metric_add(&events, 1, w->surface->name, "obeyed");
	return rc;
}

static int work_off(struct work *w)
{
	int rc = read_event(w);

	if (rc == OK)
		rc = look_around(w);
	if (rc == OK)
		take_labels(w);
	if (rc == ERR_EMPTY)
		return end_event(w, "ignored", w->why->text);
	if (rc == OK && w->asked.text == NULL) {
		const struct why said = *w->why;

		return reject(w, said.text);
	}
	if (rc == OK)
		rc = know_person(w);
	if (rc == ERR_NOT_FOUND)
		return offer_link(w);
	if (rc == OK && w->surface->command != NULL && (rc = obey(w)) != ERR_EMPTY)
		return rc;
	if (rc == OK || rc == ERR_EMPTY)
		rc = look_up(w);
	if (rc == ERR_EMPTY)
		return end_event(w, "ignored", w->why->text);
	if (rc == ERR_INVALID) {
		const struct why said = *w->why;

		return reject(w, said.text);
	}
	if (rc != OK)
		return rc;
	if (w->asked.stops && w->agent_id == NULL)
		return end_event(w, "ignored", "there is nothing to stop");
	if (!w->asked.stops && text_is_blank(w->options.prompt))
		return reject(w, "Say what is to be done, behind the mention.");
	if (w->agent_id != NULL && w->asked.handed != HANDED_NOT)
		return end_event(w, "ignored", "the issue has an agent");
	if (w->agent_id != NULL)
		return continue_agent(w);
	drop_unseen_images(w);
	return create(w);
}

int process_event(void *ctx, const struct outbox_item *item, struct why *why)
{
	struct triggers *t = ctx;
	__attribute__((cleanup(work_fini))) struct work w = {.t = t,
	    .why = why,
	    .options = {.self_hosted = -1, .autopr = -1},
	    .deadline_mono_ms = item->deadline_mono_ms - BEFORE_LEASE_END_MS};
	int rc = inbox_load(triggers_cfg(t)->store, item->payload, &w.row);

	if (rc == ERR_EMPTY)
		return OK; /* done before a crash */
	if (rc != OK)
		return rc;
	w.surface = surface_named(w.row.surface);
	if (w.surface == NULL)
		return why_set(why, ERR_INVALID, "the surface %s is not known here", w.row.surface);
	rc = work_off(&w);
	outbox_hold(item, rc == ERR_FULL ? w.asked.retry_ms : 0);
	return rc;
}
