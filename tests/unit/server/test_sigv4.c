/* Signatures: the examples that AWS publishes (S3: "Authenticating Requests"; the test suite of Signature Version 4).
 */
#include "base/mem.h"
#include "server/artifacts/sigv4.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define HOST "examplebucket.s3.amazonaws.com"
#define AT "20130524T000000Z"
#define PUT_HASH "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"

static const struct sigv4_who S3 = {.access_key = "AKIAIOSFODNN7EXAMPLE",
    .secret_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    .region = "us-east-1",
    .service = "s3"};
static const struct sigv4_who SUITE = {.access_key = "AKIDEXAMPLE",
    .secret_key = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    .region = "us-east-1",
    .service = "service"};

static void check(const struct sigv4_who *who, const char *at, const struct sigv4_request *rq, const char *headers,
    const char *signature)
{
	AUTO_STR got = sigv4_authorization(who, rq, at);
	AUTO_STR wanted =
	    str_printf("AWS4-HMAC-SHA256 Credential=%s/%.8s/%s/%s/aws4_request,SignedHeaders=%s,Signature=%s",
		who->access_key, at, who->region, who->service, headers, signature);

	assert_string_equal(got, wanted);
}

static void examples_of_s3(void **state)
{
	AUTO_STR path = sigv4_encode("/test$file.text", false);
	/* In no order. */
	const struct sigv4_pair get[] = {
	    {"x-amz-date", AT}, {"range", "bytes=0-9"}, {"host", HOST}, {"x-amz-content-sha256", EMPTY}};
	const struct sigv4_pair put[] = {{"x-amz-storage-class", "REDUCED_REDUNDANCY"}, {"host", HOST},
	    {"x-amz-content-sha256", PUT_HASH}, {"x-amz-date", AT}, {"date", "Fri, 24 May 2013 00:00:00 GMT"}};
	const struct sigv4_pair plain[] = {{"host", HOST}, {"x-amz-content-sha256", EMPTY}, {"x-amz-date", AT}};
	const struct sigv4_pair lifecycle[] = {{"lifecycle", ""}};
	const struct sigv4_pair list[] = {{"prefix", "J"}, {"max-keys", "2"}};

	assert_string_equal(path, "/test%24file.text");
	check(&S3, AT,
	    &(struct sigv4_request){
		.method = "GET", .path = "/test.txt", .headers = get, .n_headers = 4, .payload = EMPTY},
	    "host;range;x-amz-content-sha256;x-amz-date",
	    "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
	check(&S3, AT,
	    &(struct sigv4_request){.method = "PUT", .path = path, .headers = put, .n_headers = 5, .payload = PUT_HASH},
	    "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
	    "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
	check(&S3, AT,
	    &(struct sigv4_request){.method = "GET",
		.path = "/",
		.query = lifecycle,
		.n_query = 1,
		.headers = plain,
		.n_headers = 3,
		.payload = EMPTY},
	    "host;x-amz-content-sha256;x-amz-date", "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
	check(&S3, AT,
	    &(struct sigv4_request){.method = "GET",
		.path = "/",
		.query = list,
		.n_query = 2,
		.headers = plain,
		.n_headers = 3,
		.payload = EMPTY},
	    "host;x-amz-content-sha256;x-amz-date", "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

static void an_address_of_s3(void **state)
{
	const struct sigv4_pair host = {"host", HOST};
	const struct sigv4_request rq = {
	    .method = "GET", .path = "/test.txt", .headers = &host, .n_headers = 1, .payload = SIGV4_UNSIGNED};
	AUTO_STR query = sigv4_presign(&S3, &rq, AT, 86400);

	assert_string_equal(query,
	    "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%"
	    "2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"
	    "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404");
}

/* get-vanilla, get-vanilla-query-order-key-case, get-header-value-trim of the suite. */
static void cases_of_the_suite(void **state)
{
	static const char at[] = "20150830T123600Z";
	const struct sigv4_pair plain[] = {{"host", "example.amazonaws.com"}, {"x-amz-date", at}};
	const struct sigv4_pair query[] = {{"Param2", "value2"}, {"Param1", "value1"}};
	const struct sigv4_pair blanks[] = {{"host", "example.amazonaws.com"}, {"my-header1", " value1"},
	    {"my-header2", " \"a   b   c\""}, {"x-amz-date", at}};

	check(&SUITE, at,
	    &(struct sigv4_request){.method = "GET", .path = "/", .headers = plain, .n_headers = 2, .payload = EMPTY},
	    "host;x-amz-date", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31");
	check(&SUITE, at,
	    &(struct sigv4_request){.method = "GET",
		.path = "/",
		.query = query,
		.n_query = 2,
		.headers = plain,
		.n_headers = 2,
		.payload = EMPTY},
	    "host;x-amz-date", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500");
	check(&SUITE, at,
	    &(struct sigv4_request){.method = "GET", .path = "/", .headers = blanks, .n_headers = 4, .payload = EMPTY},
	    "host;my-header1;my-header2;x-amz-date",
	    "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736");
}

static void names_and_times(void **state)
{
	const struct sigv4_pair query[] = {{"b", "2"}, {"a", "z"}, {"a", "a b"}, {"a-", "\xc3\xbc/?&=+~*"}};
	AUTO_STR text = sigv4_query(query, 4);
	AUTO_STR path = sigv4_encode("a b/c+d", false);
	char at[SIGV4_TIME_LEN];

	assert_string_equal(text, "a=a%20b&a=z&a-=%C3%BC%2F%3F%26%3D%2B~%2A&b=2");
	assert_string_equal(path, "a%20b/c%2Bd");
	sigv4_time(1369353600999, at);
	assert_string_equal(at, AT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(examples_of_s3),
	    cmocka_unit_test(an_address_of_s3),
	    cmocka_unit_test(cases_of_the_suite),
	    cmocka_unit_test(names_and_times),
	};

	id_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
