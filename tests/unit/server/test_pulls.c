/* Text of models on its way to a forge, and which forge an address belongs to. */
#include "base/json.h"
#include "base/mem.h"
#include "server/forges/forges_priv.h"
#include "server/pulls/pulls.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define J "\xe2\x80\x8d"

static void check(const char *in, const char *want)
{
	AUTO_STR got = pull_neutral_text(in);

	assert_string_equal(got, want);
}

static void test_neutral(void **state)
{
	static const char *const same[] = {"", "plain", "a@b.c is an address", "`@name`", "``a ` @name``",
	    "```\n@name #1 closes #2\n```\n", "~~~sh\n@x\n~~~", "```\n@x without an end", "C# and F#", "fix the build",
	    "closes the door", "100%! yes", "email: me@example.com"};

	for (size_t i = 0; i < ARRAY_LEN(same); i++)
		check(same[i], same[i]);
	check("@ann", "@" J "ann");
	check("(@acme/owners)", "(@" J "acme/owners)");
	check("see #12", "see #" J "12");
	check("x#12", "x#" J "12");
	check("!7", "!" J "7");
	check("Closes #1", "C" J "loses #" J "1");
	check("fixes: #1", "f" J "ixes: #" J "1");
	check("resolved https://git.test/a/b/issues/1", "r" J "esolved https://git.test/a/b/issues/1");
	check("fixes acme/web#4", "f" J "ixes acme/web#" J "4");
	check("`code` then @ann", "`code` then @" J "ann");
	check("` no partner @ann", "` no partner @" J "ann");
	check("```\ncode\n```\n@ann", "```\ncode\n```\n@" J "ann");
	check("<!-- hidden -->", "&lt;!-- hidden -->");
}

static struct forges *forges_from(const char *text)
{
	AUTO_JSON j = NULL;
	struct forges *f = NULL;
	struct why why = {0};
	int rc = json_parse(text, strlen(text), &j, &why);

	assert_int_equal(rc, OK);
	rc = forges_new(j, &f, &why);
	if (rc != OK)
		print_error("%s\n", why.text);
	assert_int_equal(rc, OK);
	return f;
}

static char token_file[] = "/tmp/bullpen-forge-XXXXXX";

static void of_repo(const struct forges *f, const char *url, const char *forge, const char *want)
{
	AUTO_STR repo = NULL;
	const struct forge *got = forges_of_repo(f, url, &repo);

	assert_string_equal(got != NULL ? forge_name(got) : "", forge);
	assert_string_equal(repo != NULL ? repo : "", want);
}

static void of_pull(const struct forges *f, const char *url, const char *want)
{
	AUTO_STR repo = NULL;
	AUTO_STR got = NULL;
	int64_t n = 0;
	const struct forge *forge = forges_of_pull(f, url, &repo, &n);

	got = forge != NULL ? str_printf("%s %s %lld", forge_name(forge), repo, (long long)n) : str_dup("");
	assert_string_equal(got, want);
}

static void test_addresses(void **state)
{
	AUTO_STR text = str_printf(
	    "[{\"kind\":\"github\",\"token_file\":\"%s\"},"
	    "{\"kind\":\"gitlab\",\"name\":\"lab\",\"url\":\"https://lab.test/git/\",\"token_file\":\"%s\"},"
	    "{\"kind\":\"forgejo\",\"name\":\"tea\",\"url\":\"http://tea.test:3000\",\"token_file\":\"%s\"}]",
	    token_file, token_file, token_file);
	struct forges *f = forges_from(text);

	of_repo(f, "https://github.com/acme/web.git", "github.com", "acme/web");
	of_repo(f, "git@github.com:acme/web.git", "github.com", "acme/web");
	of_repo(f, "https://GitHub.com/Acme/Web", "github.com", "Acme/Web");
	of_repo(f, "https://github.com/acme/web/extra", "", "");
	of_repo(f, "https://github.com.evil.test/acme/web", "", "");
	of_repo(f, "https://lab.test/git/group/sub/web.git", "lab", "group/sub/web");
	of_repo(f, "https://lab.test/group/sub/web.git", "", "");
	of_repo(f, "ssh://git@tea.test:22/acme/web.git", "tea", "acme/web");
	of_pull(f, "https://github.com/acme/web/pull/7", "github.com acme/web 7");
	of_pull(f, "https://github.com/acme/web/pull/7/files#x", "github.com acme/web 7");
	of_pull(f, "https://lab.test/git/g/s/web/-/merge_requests/3?tab=x", "lab g/s/web 3");
	of_pull(f, "http://tea.test:3000/acme/web/pulls/1", "tea acme/web 1");
	of_pull(f, "https://github.com/acme/web/pull/", "");
	of_pull(f, "https://github.com/acme/web/pull/7x", "");
	of_pull(f, "https://github.com/acme/web/pull/0", "");
	of_pull(f, "https://github.com/acme/../web/pull/7", "");
	of_pull(f, "https://github.com/acme/pull/7", "");
	of_pull(f, "https://github.com.evil.test/acme/web/pull/7", "");
	of_pull(f, "http://github.com/acme/web/pull/7", "");
	forges_free(&f);
	assert_null(f);
}

static void refused(const char *text, const char *want)
{
	AUTO_JSON j = NULL;
	AUTO_STR full = str_printf(text, token_file);
	struct forges *f = NULL;
	struct why why = {0};

	assert_int_equal(json_parse(full, strlen(full), &j, &why), OK);
	assert_int_equal(forges_new(j, &f, &why), ERR_INVALID);
	if (strstr(why.text, want) == NULL)
		fail_msg("'%s' does not say '%s'", why.text, want);
	assert_null(f);
}

static void test_settings(void **state)
{
	refused("[{\"token_file\":\"%s\"}]", "forges[0].kind is missing");
	refused("[{\"kind\":\"svn\",\"token_file\":\"%s\"}]", "forges[0].kind must be github");
	refused("[{\"kind\":\"gitea\",\"token_file\":\"%s\"}]", "forges[0].url is missing");
	refused("[{\"kind\":\"gitea\",\"url\":\"ftp://x\",\"token_file\":\"%s\"}]", "forges[0].url must be a URL");
	refused("[{\"kind\":\"github\",\"token\":\"%s\"}]", "unknown setting forges[0].token");
	refused("[{\"kind\":\"github\"}, \"%s\"]", "forges[0]: token_file is missing (or app_id");
	refused("[{\"kind\":\"github\",\"app_id\":\"1\",\"private_key_file\":\"%s\"}]", "no RSA private key");
	refused("[{\"kind\":\"github\",\"app_id\":\"%s\"}]", "belong together");
	refused("[{\"kind\":\"gitlab\",\"url\":\"https://x.test\",\"app_id\":\"1\",\"private_key_file\":\"%s\"}]",
	    "only GitHub has apps");
	refused("[{\"kind\":\"github\",\"token_file\":\"%s.not\"}]", "cannot read");
	refused("{\"kind\":\"%s\"}", "forges must be an array of tables");
}

static void cursor(const char *link, const char *want)
{
	AUTO_STR got = forge_next_cursor(link);

	assert_true((got == NULL) == (want == NULL));
	if (want != NULL)
		assert_string_equal(got, want);
}

static void test_cursors(void **state)
{
	static const char *const none[] = {"", "<", ">", "<>; rel=\"next\"", "<https://x?cursor=v1_7",
	    "<https://x?cursor=v1_7>; rel=\"prev\"", "<https://x?page=2>; rel=\"next\"",
	    "<https://x?nocursor=v1_7>; rel=\"next\"", "<https://x?cursor=>; rel=\"next\"",
	    "<https://x?cursor=a b>; rel=\"next\"", "<https://x?cursor=a#b>; rel=\"next\"",
	    "<https://x>; rel=\"next\", cursor=v1_7"};

	for (size_t i = 0; i < ARRAY_LEN(none); i++)
		cursor(none[i], NULL);
	cursor("<https://x?per_page=100&cursor=v1_7>; rel=\"next\"", "v1_7");
	cursor("<https://x?cursor=v1_7&per_page=100>; rel=\"next\"", "v1_7");
	cursor("<https://x?cursor=a>; rel=\"prev\", <https://x?cursor=b%3D>; rel=\"next\"", "b%3D");
}

static int make_token(void **state)
{
	int fd = mkstemp(token_file);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "secret\n", 7), 7);
	close(fd);
	return 0;
}

static int remove_token(void **state)
{
	return unlink(token_file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_neutral), cmocka_unit_test(test_addresses),
	    cmocka_unit_test(test_settings), cmocka_unit_test(test_cursors)};

	return cmocka_run_group_tests(tests, make_token, remove_token);
}
