/* What is due, by a clock of the test's own: each time once however many servers look, and what is missed is stated. */
#include "../store_fixture.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/json.h"
#include "server/automations/automations.h"
#include "server/automations/runner.h"
#include <pthread.h>

#define MINUTE ((int64_t)60 * 1000)
#define HOUR (60 * MINUTE)
#define START ((int64_t)1774742400000) /* 2026-03-29T00:00:00Z, an hour before clocks in Berlin are put forward */

static void add(struct store *st, const char *id, const char *cron, const char *zone, const char *missed, int64_t now)
{
	AUTO(automation) a = NEW(struct automation);
	struct tx *tx = NULL;
	struct why why = {0};

	a->id = str_dup(id);
	a->team_id = 1;
	a->owner = str_dup("user:1");
	a->name = str_dup("n");
	a->prompt = str_dup("p");
	a->launch = json_object();
	a->concurrency = str_dup("skip");
	a->enabled = a->timestamped = true;
	a->cron = str_dup(cron);
	a->time_zone = str_dup(zone);
	a->missed = str_dup(missed);
	if (automation_plan(a, now, &why) != OK)
		fail_msg("%s", why.text);
	assert_int_equal(tx_begin(st, TX_WRITE, &tx), OK);
	assert_int_equal(automation_insert(tx, a), OK);
	assert_int_equal(tx_commit(&tx), OK);
}

static int64_t number(struct store *st, const char *state)
{
	AUTO(tx) tx = NULL;
	int64_t n = -1;

	assert_int_equal(tx_begin(st, TX_READ, &tx), OK);
	assert_int_equal(tx_query_int(tx, &n, "SELECT COUNT(*) FROM automation_runs WHERE state = $1", "s", state), OK);
	return n;
}

static char *newest(struct store *st, const char *state)
{
	AUTO(tx) tx = NULL;
	char *text = NULL;

	assert_int_equal(tx_begin(st, TX_READ, &tx), OK);
	assert_int_equal(tx_query_text(tx, &text,
			     "SELECT tick || '|' || COALESCE(reason, '') FROM automation_runs WHERE state = $1 ORDER "
			     "BY at DESC LIMIT 1",
			     "s", state),
	    OK);
	return text;
}

static struct automations *server(struct store *st)
{
	return automations_new(&(struct automations_config){.store = st, .node_id = "n"});
}

static void look(struct automations *m, int64_t now, int64_t want_next)
{
	int64_t next = 0;

	assert_int_equal(automations_look(m, now, &next), OK);
	assert_int_equal(next, want_next);
}

static void test_each_time_once(void **state)
{
	struct store *st = *state;
	struct automations *a = server(st), *b = server(st);

	look(a, START, INT64_MAX);
	add(st, "auto-1", "0 * * * *", "UTC", "skip", START);
	look(a, START, START + HOUR);
	look(a, START + HOUR - 1, START + HOUR);
	assert_int_equal(number(st, "new"), 0);
	look(a, START + HOUR, START + 2 * HOUR);
	look(b, START + HOUR + 1, START + 2 * HOUR);
	look(a, START + HOUR, START + 2 * HOUR); /* its clock was put back */
	assert_int_equal(number(st, "new"), 1);
	look(b, START + 2 * HOUR + 5 * MINUTE, START + 3 * HOUR); /* late, but on time */
	assert_int_equal(number(st, "new"), 2);
	assert_int_equal(number(st, "missed"), 0);
	automations_free(&a);
	automations_free(&b);
}

static void test_what_is_missed_is_stated(void **state)
{
	struct store *st = *state;
	struct automations *m = server(st);
	AUTO_STR missed = NULL;
	AUTO_STR made = NULL;

	add(st, "auto-1", "0 * * * *", "UTC", "skip", START);
	look(m, START + 3 * HOUR + 6 * MINUTE, START + 4 * HOUR);
	assert_int_equal(number(st, "new"), 0);
	missed = newest(st, "missed");
	assert_string_equal(missed, "missed/2026-03-29T01:00:00.000Z|3 times from 2026-03-29T01:00:00.000Z on were "
				    "missed: no server was there");
	add(st, "auto-2", "0 * * * *", "UTC", "once", START);
	look(m, START + 3 * HOUR + 6 * MINUTE, START + 4 * HOUR);
	made = newest(st, "new");
	assert_string_equal(made, "schedule/2026-03-29T03:00:00.000Z|late: it makes up for what was missed");
	assert_int_equal(number(st, "missed"), 2);
	/* Two were missed, the third is on time. */
	add(st, "auto-3", "0 * * * *", "UTC", "skip", START);
	look(m, START + 3 * HOUR + MINUTE, START + 4 * HOUR);
	assert_int_equal(number(st, "new"), 2);
	assert_int_equal(number(st, "missed"), 3);
	automations_free(&m);
}

/* A year away of every minute: an end, and a next time. */
static void test_a_long_absence(void **state)
{
	struct store *st = *state;
	struct automations *m = server(st);
	AUTO_STR missed = NULL;
	int64_t now = START + 365 * 24 * HOUR;

	add(st, "auto-1", "* * * * *", "Europe/Berlin", "skip", START);
	look(m, now, now + MINUTE);
	missed = newest(st, "missed");
	assert_non_null(strstr(missed, "|at least 1000 times from"));
	automations_free(&m);
}

static void test_clocks_are_put_forward_and_back(void **state)
{
	struct store *st = *state;
	struct automations *m = server(st);
	AUTO_STR made = NULL;

	add(st, "auto-1", "30 2 * * *", "Europe/Berlin", "skip", START);
	look(m, START + HOUR, START + 24 * HOUR + 30 * MINUTE);
	made = newest(st, "new");
	assert_string_equal(made, "schedule/2026-03-29T01:00:00.000Z|");
	automations_free(&m);
}

struct looker {
	struct automations *m;
	int64_t now;
};

static void *look_often(void *arg)
{
	struct looker *l = arg;
	int64_t next;

	for (int i = 0; i < 30; i++)
		if (automations_look(l->m, l->now + i * MINUTE, &next) != OK)
			return arg;
	return NULL;
}

static void test_several_servers_at_once(void **state)
{
	struct store *st = *state;
	struct looker l[4];
	pthread_t thread[4];

	add(st, "auto-1", "* * * * *", "UTC", "skip", START);
	add(st, "auto-2", "*/2 * * * *", "UTC", "skip", START);
	for (int i = 0; i < 4; i++) {
		l[i] = (struct looker){server(st), START + MINUTE};
		assert_int_equal(pthread_create(&thread[i], NULL, look_often, &l[i]), 0);
	}
	for (int i = 0; i < 4; i++) {
		void *failed = NULL;

		pthread_join(thread[i], &failed);
		assert_null(failed);
		automations_free(&l[i].m);
	}
	/* Each is a row of the outbox, too. What one was late for is not fired twice. */
	assert_int_equal(number(st, "new"), 30 + 15);
	assert_int_equal(number(st, "missed"), 0);
	AUTO(tx) tx = NULL;
	int64_t n = 0;

	assert_int_equal(tx_begin(st, TX_READ, &tx), OK);
	assert_int_equal(tx_query_int(tx, &n, "SELECT COUNT(*) FROM outbox WHERE kind = 'automation'", ""), OK);
	assert_int_equal(n, 45);
}

static void test_the_agents_id_is_the_ticks(void **state)
{
	char a[AGENT_ID_LEN], b[AGENT_ID_LEN], c[AGENT_ID_LEN];

	automation_agent_id("auto-1", "schedule/x", a);
	automation_agent_id("auto-1", "schedule/x", b);
	automation_agent_id("auto-1", "schedule/y", c);
	assert_string_equal(a, b);
	assert_string_not_equal(a, c);
	assert_true(id_is(a, "bc-"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_each_time_once, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_what_is_missed_is_stated, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_a_long_absence, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_clocks_are_put_forward_and_back, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_several_servers_at_once, store_setup, store_teardown),
	    cmocka_unit_test(test_the_agents_id_is_the_ticks)};

	id_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
