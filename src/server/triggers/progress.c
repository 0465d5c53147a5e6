/* How far runs are, said where they were asked for: every few seconds, where it has changed. It goes through the
 * outbox like all that is said, behind what was said before and before the end.
 *
 * Threads: one of its own. What it remembers is lost with it, and then said again. */
#include "base/clock.h"
#include "base/mem.h"
#include "server/notices/notices.h"
#include "server/triggers/slack_priv.h"
#include <string.h>
#include <time.h>

#define PROGRESS_MAGIC 0x50524f47u
#define EVERY_MS 3000
#define RUNS_MAX 200

struct progress {
	unsigned magic;
	struct triggers *triggers;
	pthread_t thread;
	pthread_mutex_t mtx; /* guards stopping */
	pthread_cond_t wake;
	bool started, stopping;
	json_t *said; /* by run, the line; the thread's own */
};

/* What was said last must have arrived. */
static int is_behind(struct tx *tx, const char *agent_id, bool *ret)
{
	int64_t n = 0;
	int rc = tx_query_int(tx, &n,
	    "SELECT COUNT(*) FROM outbox WHERE kind = '" NOTICE_KIND
	    "' AND subject = $1 AND state = 'waiting' AND seq > "
	    "0",
	    "s", agent_id);

	*ret = n > 0;
	return rc;
}

static int say_line(struct progress *p, const char *agent_id, const char *run_id, const char *line)
{
	AUTO(tx) tx = NULL;
	AUTO_JSON note = json_pack("{s:s, s:s, s:s}", "tell", "progress", "run", run_id, "text", line);
	int64_t n = 0;
	bool behind = false;
	int rc = tx_begin(triggers_cfg(p->triggers)->store, TX_WRITE, &tx);

	/* Not behind the end. */
	if (rc == OK)
		rc = tx_query_int(tx, &n,
		    "SELECT COUNT(*) FROM runs WHERE id = $1 AND status IN ('CREATING', 'RUNNING')", "s", run_id);
	if (rc == OK)
		rc = is_behind(tx, agent_id, &behind);
	if (rc == OK && n > 0 && !behind) {
		rc = note_add(tx, agent_id, note, clock_wall_ms());
		if (rc == OK)
			rc = tx_commit(&tx);
		if (rc == OK)
			json_put(p->said, run_id, line);
	}
	return rc;
}

/* [[agent, run, surface, line]] of what works now. */
static int look(struct progress *p, json_t *list)
{
	AUTO(tx) tx = NULL;
	AUTO(query) q = NULL;
	json_t *row;
	size_t i;
	int rc = tx_begin(triggers_cfg(p->triggers)->store, TX_READ, &tx);

	if (rc == OK)
		rc = tx_query(tx, &q,
		    "SELECT c.agent_id, r.id, c.surface FROM runs r JOIN conversations c ON c.agent_id = r.agent_id "
		    "AND "
		    "c.surface IN ('slack', 'linear') WHERE r.status IN ('CREATING', 'RUNNING') LIMIT $1",
		    "i", (int64_t)RUNS_MAX);
	while (rc == OK && (rc = query_next(q)) == OK)
		json_array_append_new(list, json_pack("[s, s, s]", query_str(q, 0), query_str(q, 1), query_str(q, 2)));
	rc = rc == ERR_EMPTY ? OK : rc;
	json_array_foreach(list, i, row)
	{
		const struct surface *surface = surface_named(json_string_value(json_array_get(row, 2)));
		AUTO_STR line = NULL;

		if (rc == OK && surface != NULL && surface->describe != NULL)
			rc = surface->describe(tx, json_string_value(json_array_get(row, 1)), &line);
		json_array_append_new(row, json_string(line != NULL ? line : ""));
	}
	return rc;
}

static void go_round(struct progress *p)
{
	AUTO_JSON list = json_array();
	AUTO_JSON before = TAKE(p->said);
	const json_t *row;
	size_t i;
	int rc = look(p, list);

	p->said = json_object();
	json_array_foreach(list, i, row)
	{
		const char *agent = json_string_value(json_array_get(row, 0));
		const char *run = json_string_value(json_array_get(row, 1));
		const char *line = json_string_value(json_array_get(row, 3)), *last = json_word(before, run);
		bool known = json_object_get(before, run) != NULL;

		/* One that is seen for the first time was told a moment ago that it begins. */
		json_put(p->said, run, last);
		if (rc == OK && known && line[0] != '\0' && strcmp(line, last) != 0)
			rc = say_line(p, agent, run, line);
	}
}

static void *progress_main(void *arg)
{
	struct progress *p = OBJ_FROM(progress, arg, PROGRESS_MAGIC);
	bool stopping = false;

	while (!stopping) {
		int64_t until = clock_wall_ms() + EVERY_MS;
		const struct timespec t = {.tv_sec = until / 1000, .tv_nsec = until % 1000 * 1000000};

		go_round(p);
		triggers_wake_senders(p->triggers);
		pthread_mutex_lock(&p->mtx);
		while (!p->stopping && clock_wall_ms() < until)
			pthread_cond_timedwait(&p->wake, &p->mtx, &t);
		stopping = p->stopping;
		pthread_mutex_unlock(&p->mtx);
	}
	return NULL;
}

int progress_start(struct triggers *t, struct progress **ret, struct why *why)
{
	struct progress *p;

	if (triggers_slack(t) == NULL && triggers_linear(t) == NULL)
		return OK;
	p = NEW(struct progress);
	p->magic = PROGRESS_MAGIC;
	p->triggers = t;
	p->said = json_object();
	pthread_mutex_init(&p->mtx, NULL);
	pthread_cond_init(&p->wake, NULL);
	p->started = pthread_create(&p->thread, NULL, progress_main, p) == 0;
	*ret = p;
	return p->started ? OK : why_set(why, ERR_INTERNAL, "no thread for the progress of runs could be started");
}

void progress_free(struct progress **pp)
{
	struct progress *p = TAKE(*pp);

	if (p == NULL)
		return;
	pthread_mutex_lock(&p->mtx);
	p->stopping = true;
	pthread_cond_broadcast(&p->wake);
	pthread_mutex_unlock(&p->mtx);
	if (p->started)
		pthread_join(p->thread, NULL);
	pthread_mutex_destroy(&p->mtx);
	pthread_cond_destroy(&p->wake);
	json_drop(&p->said);
	p->magic = 0;
	free(p);
}
