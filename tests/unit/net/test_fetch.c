/* Which addresses a URL from outside may lead to. */
#include "net/fetch.h"
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <setjmp.h>
#include <string.h>
#include <cmocka.h>

static bool is_public(const char *text)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};

	if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
		return fetch_is_public((struct sockaddr *)&v4);
	assert_int_equal(inet_pton(AF_INET6, text, &v6.sin6_addr), 1);
	return fetch_is_public((struct sockaddr *)&v6);
}

static void test_addresses(void **state)
{
	static const char *const inside[] = {"0.0.0.0", "10.1.2.3", "100.64.0.1", "100.127.255.255", "127.0.0.1",
	    "127.255.255.255", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.168.1.1",
	    "198.18.0.1", "198.19.255.255", "224.0.0.1", "255.255.255.255", "::", "::1", "::ffff:127.0.0.1",
	    "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "fc00::1", "fdff::1", "fe80::1", "febf::1", "ff02::1",
	    "2002:7f00:1::", "2001:db8::1"};
	static const char *const outside[] = {"1.1.1.1", "8.8.8.8", "100.63.255.255", "100.128.0.1", "172.15.255.255",
	    "172.32.0.1", "198.17.255.255", "198.20.0.1", "223.255.255.255", "2606:4700::1111", "::ffff:8.8.8.8"};

	for (size_t i = 0; i < ARRAY_LEN(inside); i++)
		assert_false(is_public(inside[i]));
	for (size_t i = 0; i < ARRAY_LEN(outside); i++)
		assert_true(is_public(outside[i]));
}

static void test_own_addresses(void **state)
{
	struct sockaddr_in foreign = {.sin_family = AF_INET};
	struct ifaddrs *all;
	int n = 0;

	assert_int_equal(getifaddrs(&all), 0);
	for (const struct ifaddrs *i = all; i != NULL; i = i->ifa_next) {
		if (i->ifa_addr == NULL || i->ifa_addr->sa_family != AF_INET)
			continue;
		struct sockaddr_in6 mapped = {.sin6_family = AF_INET6, .sin6_addr.s6_addr = {[10] = 0xff, 0xff}};

		memcpy(mapped.sin6_addr.s6_addr + 12, &((struct sockaddr_in *)i->ifa_addr)->sin_addr, 4);
		assert_true(fetch_is_own(i->ifa_addr));
		assert_true(fetch_is_own((struct sockaddr *)&mapped));
		n++;
	}
	freeifaddrs(all);
	assert_true(n > 0);
	assert_int_equal(inet_pton(AF_INET, "1.1.1.1", &foreign.sin_addr), 1);
	assert_false(fetch_is_own((struct sockaddr *)&foreign));
}

static int fetch(const char *url, struct why *why)
{
	const struct fetch_request req = {.url = url, .max_bytes = 1000, .timeout_ms = 5000, .max_redirects = 1};
	struct strbuf body;
	int rc = fetch_url(&req, &body, why);

	strbuf_fini(&body);
	return rc;
}

/* However the loopback address is written. */
static void test_forms(void **state)
{
	static const char *const denied[] = {"http://127.0.0.1/x", "http://2130706433/", "http://0x7f.1/",
	    "http://017700000001/", "http://[::1]/", "http://[::ffff:7f00:1]/", "http://localhost/",
	    "http://127.1:8080/", "http://0/", "http://1.1.1.1:22/", "https://[fe80::1]:8443/"};
	static const char *const invalid[] = {"ftp://1.1.1.1/", "file:///etc/passwd", "http://u:p@1.1.1.1/",
	    "http://u@1.1.1.1/", "gopher://1.1.1.1/", "no url", "", "http://", "javascript:alert(1)"};
	struct why why;

	for (size_t i = 0; i < ARRAY_LEN(denied); i++) {
		why = (struct why){0};
		if (fetch(denied[i], &why) != ERR_DENIED)
			fail_msg("%s: %s", denied[i], why.text);
		assert_true(why.text[0] != '\0');
	}
	for (size_t i = 0; i < ARRAY_LEN(invalid); i++)
		assert_int_equal(fetch(invalid[i], &why), ERR_INVALID);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_addresses), cmocka_unit_test(test_own_addresses), cmocka_unit_test(test_forms)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
