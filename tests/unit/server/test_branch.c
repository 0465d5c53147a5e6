/* Names of branches: from the name of the agent, and never one that another agent of the repository has. */
#include "base/mem.h"
#include "base/text.h"
#include "server/runs/runs_priv.h"
#include <ftw.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(path);
}

static char *branch_of(struct tx *tx, char *name, char *repo)
{
	const struct agent a = {.name = name, .repo_url = repo};
	char *branch = NULL;

	assert_int_equal(branch_for(tx, "cursor/", &a, &branch), OK);
	return branch;
}

static void keep(struct tx *tx, int i, const char *branch)
{
	AUTO_STR id = str_printf("bc-%d", i);

	assert_int_equal(tx_exec(tx,
			     "INSERT INTO agents(id, team_id, owner, name, status, env_type, pool, repos, repo_url, "
			     "repo, repo_host, match_repo,"
			     " starting_ref, work_on_current_branch, skip_reviewer_request, open_as_app, model, mode, "
			     "branch, latest_run_id, run_count,"
			     " created_at, updated_at) VALUES($1, 1, 'o', 'n', 'ACTIVE', 'pool', 'p', '[]', "
			     "'https://x/r', 'r', 'x', 'r', '', 0, 0, 0,"
			     " '{}', 'agent', $2, '', 1, 0, 0)",
			     "ss", id, branch),
	    OK);
}

static void test_branches(void **state)
{
	char dir[] = "/tmp/bullpen-branch-XXXXXX";
	struct store *st = NULL;
	struct tx *tx = NULL;
	int64_t distinct = 0;

	assert_non_null(mkdtemp(dir));
	assert_int_equal(store_open(dir, &st, NULL), OK);
	assert_int_equal(tx_begin(st, TX_WRITE, &tx), OK);
	AUTO_STR named = branch_of(tx, "Fix the Parser, please!", "https://x/r");

	assert_true(text_has_prefix(named, "cursor/fix-the-parser-please-"));
	assert_int_equal(strlen(named), strlen("cursor/fix-the-parser-please-") + 4);
	/* Of 65,536 endings: with chance alone this many would not be distinct, but for one time in a million. */
	for (int i = 0; i < 1500; i++) {
		AUTO_STR branch = branch_of(tx, "same", "https://x/r");

		keep(tx, i, branch);
	}
	assert_int_equal(tx_query_int(tx, &distinct, "SELECT COUNT(DISTINCT branch) FROM agents", ""), OK);
	assert_int_equal(distinct, 1500);
	tx_free(&tx);
	store_close(&st);
	nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_branches)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
