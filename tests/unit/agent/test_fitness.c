/* What a worker says of itself: once for each change, also while it has no connection. */
#include "agent/worker/worker_priv.h"
#include "base/mem.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static struct identity identity = {.worker_id = "w", .host = "h"};

static void worker_init(struct worker_process *w)
{
	const struct link_config cfg = {.role = LINK_WORKER, .incarnation = 1};

	*w = (struct worker_process){.magic = WORKER_MAGIC, .cfg = {.identity = &identity}, .link = link_new(&cfg)};
	assert_int_equal(uv_loop_init(&w->loop), 0);
	assert_int_equal(uv_timer_init(&w->loop, &w->timer), 0);
	w->timer.data = w;
}

static void worker_fini(struct worker_process *w)
{
	link_free(&w->link);
	free(w->unfit_code);
	free(w->unfit_reason);
	uv_close((uv_handle_t *)&w->timer, NULL);
	uv_run(&w->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&w->loop), 0);
}

/* Whether this word is one that is sent. */
static bool says(struct worker_process *w, const char *code, const char *reason)
{
	size_t before = link_unacked_bytes(w->link);

	worker_fitness(w, code, reason);
	return link_unacked_bytes(w->link) > before;
}

static void a_word_is_said_once(void **state)
{
	struct worker_process w;

	worker_init(&w);
	assert_false(says(&w, "", ""));
	assert_true(says(&w, "no_space", "has 3 MB left"));
	assert_false(says(&w, "no_space", "has 3 MB left"));
	assert_true(says(&w, "no_space", "has 2 MB left"));
	assert_string_equal(w.unfit_code, "no_space");
	assert_true(says(&w, "origin", "cannot reach\norigin"));
	assert_string_equal(w.unfit_reason, "cannot reach origin");
	assert_true(says(&w, "", "whatever"));
	assert_null(w.unfit_code);
	assert_false(says(&w, "", ""));
	worker_fini(&w);
}

static void a_reason_is_cut_to_what_the_peer_takes(void **state)
{
	struct worker_process w;
	char reason[3000];

	memset(reason, 'r', sizeof reason - 1);
	reason[sizeof reason - 1] = '\0';
	worker_init(&w);
	assert_true(says(&w, "no_space", reason));
	assert_int_equal(strlen(w.unfit_reason), 1024);
	worker_fini(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_word_is_said_once), cmocka_unit_test(a_reason_is_cut_to_what_the_peer_takes)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
