#include "workbench.h"
#include "base/repo_url.h"

static void check(const char *url, const char *label, const char *host)
{
	AUTO_STR got_host = NULL;
	AUTO_STR got = repo_url_label(url, &got_host);

	if (label == NULL) {
		if (got != NULL)
			fail_msg("%s gave %s", url, got);
		return;
	}
	if (got == NULL)
		fail_msg("%s gave nothing", url);
	assert_string_equal(got, label);
	assert_string_equal(got_host, host);
}

static void test_labels(void **state)
{
	check("git@github.com:acme/web.git", "acme/web", "github.com");
	check("ssh://git@git.acme.io:2222/acme/web.git", "acme/web", "git.acme.io");
	check("https://github.com/acme/web.git", "acme/web", "github.com");
	check("https://github.com/acme/web/", "acme/web", "github.com");
	check("https://user:tok@github.com/acme/web", "acme/web", "github.com");
	check("git://host/acme/web.git", "acme/web", "host");
	check("http://host/acme/web", "acme/web", "host");
	check("git@gitlab.acme.io:grp/sub/web.git", "grp/sub/web", "gitlab.acme.io");
	check("https://dev.azure.com/org/proj/_git/web", "org/proj/web", "dev.azure.com");
	check("git@ssh.dev.azure.com:v3/org/proj/web", "org/proj/web", "dev.azure.com");
	check("file:///srv/git/acme/web.git", "acme/web", REPO_URL_LOCAL);
	check("/srv/git/acme/web.git", "acme/web", REPO_URL_LOCAL);
	check("/web.git", NULL, NULL);
	check("https://github.com/web.git", NULL, NULL);
	check("git@github.com:web", NULL, NULL);
	check("../acme/web", NULL, NULL);
	check("acme/web", NULL, NULL);
}

static void test_odd_addresses(void **state)
{
	check("HTTPS://GitHub.COM/Acme/Web.git?x=1#f", "Acme/Web", "github.com");
	check("ssh://git@[::1]:22/acme/web", "acme/web", "[::1]");
	check("git@[::1]:acme/web", "acme/web", "[::1]");
	check("host:/srv/acme/web.git", "srv/acme/web", "host");
	check("https://host/a/../b", NULL, NULL);
	check("https://host/a//b", NULL, NULL);
	check("https://host/./b", NULL, NULL);
	check("https://host/a\nb/c", NULL, NULL);
	check("https:///acme/web", NULL, NULL);
	check("https://host/_git/web", "_git/web", "host");
	check("", NULL, NULL);
	check(":", NULL, NULL);
	check("/", NULL, NULL);
	check("https://", NULL, NULL);
	check("a:b", NULL, NULL);
}

static void test_no_options(void **state)
{
	check("ssh://-oProxyCommand=x/a/b", NULL, NULL);
	check("ssh://-oX@host/a/b", NULL, NULL);
	check("ssh://git@-oX/a/b", NULL, NULL);
	check("ssh://host/-oX/b", NULL, NULL);
	check("-oX@host:a/b", NULL, NULL);
	check("git@-oX:a/b", NULL, NULL);
	check("git@host:-oX/b", NULL, NULL);
	check("https://-x/a/b", NULL, NULL);
	check("-u/a/b", NULL, NULL);
	check("https://host/a/-b", "a/-b", "host");
	check("/-srv/a/b", "a/b", REPO_URL_LOCAL);
}

static void test_same(void **state)
{
	assert_true(repo_url_same("git@github.com:Acme/web.git", "https://github.com/acme/WEB"));
	/* A folder is no host's repository, and all folders with that name are alike. */
	assert_false(repo_url_same("/srv/git/acme/web.git", "https://github.com/acme/web"));
	assert_true(repo_url_same("/srv/git/acme/web.git", "file:///mnt/acme/web"));
	assert_false(repo_url_same("https://gitlab.com/acme/web", "https://github.com/acme/web"));
	assert_false(repo_url_same("https://github.com/acme/web", "https://github.com/acme/web2"));
	assert_true(repo_url_same("/web.git", "/web.git"));
	assert_false(repo_url_same("/web.git", "/other.git"));
}

static void test_redact(void **state)
{
	AUTO_STR a = repo_url_redact("fatal: https://me:tok@h/x and https://h/y@z, ssh://u@h2/p@q");
	AUTO_STR b = repo_url_redact("git@github.com:acme/web.git");
	AUTO_STR c = repo_url_redact("https://u:p@w@host/x");

	assert_string_equal(a, "fatal: https://h/x and https://h/y@z, ssh://h2/p@q");
	assert_string_equal(b, "git@github.com:acme/web.git");
	assert_string_equal(c, "https://host/x");
	AUTO_STR d = repo_url_redact(
	    "cannot access 'https://h/acme/web.git?private_token=tok#frag/': 401, see http://x/y#z now");
	AUTO_STR e = repo_url_redact("ssh://h/a/b?k=\"v\" is it? yes");

	assert_string_equal(d, "cannot access 'https://h/acme/web.git': 401, see http://x/y now");
	assert_string_equal(e, "ssh://h/a/b\"v\" is it? yes");
	/* A URL in the path of another. */
	AUTO_STR f = repo_url_redact("https://me:tok@mirror/https://you:tok2@h/x.git?k=v and http://p/ssh://u@h:22/y");
	AUTO_STR g = repo_url_redact("https://u:p://x@h/y");

	assert_string_equal(f, "https://mirror/https://h/x.git and http://p/ssh://h:22/y");
	assert_string_equal(g, "https://u:p://h/y");
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_labels), cmocka_unit_test(test_odd_addresses),
	    cmocka_unit_test(test_no_options), cmocka_unit_test(test_same), cmocka_unit_test(test_redact)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
