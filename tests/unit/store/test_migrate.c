/* A store that an earlier version wrote keeps what was in it. */
#include "base/mem.h"
#include "base/text.h"
#include "store/store.h"
#include <ftw.h>
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static char dir[64];

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

static int setup(void **state)
{
	snprintf(dir, sizeof dir, "/tmp/bullpen-migrate-XXXXXX");
	assert_non_null(mkdtemp(dir));
	return 0;
}

static int teardown(void **state)
{
	nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	return 0;
}

static void script(sqlite3 *db, const char *sql)
{
	char *why = NULL;

	if (sqlite3_exec(db, sql, NULL, NULL, &why) != SQLITE_OK)
		fail_msg("%s: %.200s", why, sql);
}

static void apply_step(sqlite3 *db, const char *file)
{
	AUTO_STR path = str_printf("%s/%s", MIGRATIONS, file);
	AUTO_STR text = NULL;
	size_t len;

	assert_int_equal(text_read_file(path, 1 << 20, &text, &len), OK);
	script(db, text);
}

/* As version 2 of the schema left it: an agent with two runs, one of them in the middle of a call. */
static void write_version_2(void)
{
	AUTO_STR path = str_printf("%s/bullpen.db", dir);
	sqlite3 *db = NULL;

	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	script(db, "PRAGMA journal_mode = WAL; CREATE TABLE schema_version(version BIGINT NOT NULL)");
	apply_step(db, "0001_first.sql");
	apply_step(db, "0002_models.sql");
	script(db, "INSERT INTO schema_version VALUES(2)");
	script(db,
	    "INSERT INTO agents(id, team_id, owner, name, status, env_type, env_name, pool, repos, repo_url, repo, "
	    "repo_host,"
	    " match_repo, starting_ref, work_on_current_branch, skip_reviewer_request, open_as_app, model, mode, "
	    "branch,"
	    " latest_run_id, turns, created_at, updated_at) VALUES('bc-1', 1, 'user:1', 'n', 'ACTIVE', 'pool', 'p', "
	    "'p', '[]',"
	    " '', '', '', '', '', 0, 0, 0, '{}', 'agent', 'b', 'run-2', 2, 5, 6);"
	    "INSERT INTO runs(id, agent_id, turn, status, mode, model, request_id, created_at, updated_at, step, "
	    "step_seq,"
	    " input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, owner_epoch, last_seq, last_ms, "
	    "last_n)"
	    " VALUES('run-1', 'bc-1', 1, 'FINISHED', 'plan', '{\"id\":\"a\"}', 'q', 5, 6, 2, 7, 1, 2, 3, 4, 1, 9, 8, "
	    "0),"
	    " ('run-2', 'bc-1', 2, 'RUNNING', 'agent', '{\"id\":\"b\"}', 'q', 6, 7, 1, 3, 0, 0, 0, 0, 2, 4, 9, 1);"
	    "INSERT INTO run_texts(run_id, prompt, session_info) VALUES('run-1', 'first', '{\"os\":\"linux\"}'), "
	    "('run-2',"
	    " 'second', NULL);"
	    "INSERT INTO steps(run_id, step, text, calls, created_at) VALUES('run-1', 0, 'said', 0, 5), ('run-2', 0, "
	    "'', 1, 6);"
	    "INSERT INTO tool_calls(id, run_id, step, idx, kind, name, args, state, created_at) VALUES('call-1', "
	    "'run-2', 0, 0,"
	    " 'tool', 't', '{}', 'pending', 6);"
	    "INSERT INTO run_images(run_id, idx, mime_type, data) VALUES('run-1', 0, 'image/png', 'xx');"
	    "INSERT INTO compactions(agent_id, seq, run_id, step, summarised, shortened, result_max, created_at)"
	    " VALUES('bc-1', 1, 'run-1', 1, 1, 0, 0, 5);"
	    "INSERT INTO events(run_id, seq, id_ms, id_n, kind, data) VALUES('run-2', 4, 9, 1, 'assistant', '{}');"
	    "INSERT INTO claims(agent_id, team_id, worker_id, created_at) VALUES('bc-1', 1, 'w', 6);"
	    "INSERT INTO worker_epochs(team_id, worker_id, epoch) VALUES(1, 'w', 3)");
	assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void expect_text(struct store *st, const char *sql, const char *expected)
{
	AUTO(tx) tx = NULL;
	AUTO(query) q = NULL;

	assert_int_equal(tx_begin(st, TX_READ, &tx), OK);
	assert_int_equal(tx_query(tx, &q, sql, ""), OK);
	assert_int_equal(query_next(q), OK);
	assert_string_equal(query_str(q, 0), expected);
	assert_int_equal(query_next(q), ERR_EMPTY);
}

static void test_version_2_becomes_the_newest(void **state)
{
	struct store *st = NULL;
	struct why why = {0};

	write_version_2();
	for (int i = 0; i < 2; i++) { /* the second time there is nothing to do */
		int rc = store_open(dir, &st, &why);

		if (rc != OK)
			fail_msg("%s", why.text);
		expect_text(st,
		    "SELECT id || run_id || conversation_id || seq || model || mode || step || step_seq FROM loops"
		    " WHERE id = 'run-1'",
		    "run-1run-1bc-11{\"id\":\"a\"}plan27");
		expect_text(st, "SELECT prompt FROM loop_texts WHERE loop_id = 'run-2'", "second");
		expect_text(st, "SELECT session_info FROM run_sessions", "{\"os\":\"linux\"}");
		expect_text(st, "SELECT text FROM steps WHERE loop_id = 'run-1'", "said");
		expect_text(st, "SELECT executor || state FROM tool_calls WHERE loop_id = 'run-2'", "workerpending");
		expect_text(st, "SELECT data FROM prompt_images WHERE loop_id = 'run-1'", "xx");
		expect_text(st, "SELECT loop_id FROM compactions WHERE conversation_id = 'bc-1'", "run-1");
		expect_text(st, "SELECT run_count FROM agents", "2");
		expect_text(st, "SELECT number FROM runs WHERE id = 'run-2'", "2");
		expect_text(st, "SELECT id FROM claims", "claim-bc-1");
		expect_text(st, "SELECT COALESCE(parent_call_id, 'none') FROM events", "none");
		store_close(&st);
	}
}

int main(void)
{
	const struct CMUnitTest t[] = {
	    cmocka_unit_test_setup_teardown(test_version_2_becomes_the_newest, setup, teardown),
	};

	return cmocka_run_group_tests(t, NULL, NULL);
}
