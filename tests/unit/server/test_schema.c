/* What schemas say of values that do not fit, and how routes are found. */
#include "base/json.h"
#include "base/mem.h"
#include "server/api/routes.h"
#include "server/api/schema.h"
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <cmocka.h>

static const char schema_text[] =
    "{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"name\"],\"properties\":{"
    "\"name\":{\"type\":\"string\",\"minLength\":2},\"n\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":9,"
    "\"default\":4},"
    "\"low\":{\"type\":\"integer\",\"minimum\":-3},\"any\":{},\"kind\":{\"type\":\"string\",\"enum\":[\"a\",\"b\","
    "\"c\"]},"
    "\"on\":{\"type\":\"boolean\",\"default\":true},\"list\":{\"type\":\"array\",\"maxItems\":2,\"items\":{\"type\":"
    "\"object\","
    "\"additionalProperties\":false,\"required\":[\"id\"],\"properties\":{\"id\":{\"type\":\"string\"}}}},"
    "\"map\":{\"type\":\"object\",\"maxProperties\":2,\"additionalProperties\":{\"type\":\"string\"}},"
    "\"open\":{\"type\":\"object\"}}}";

static void test_a_value_that_does_not_fit_is_named_with_its_place(void **state)
{
	static const struct {
		const char *body, *sentence;
	} cases[] = {
	    {"{\"name\":\"ab\"}", NULL},
	    {"{\"name\":\"ab\",\"n\":1,\"low\":-3,\"any\":null,\"kind\":\"c\",\"on\":false,\"list\":[{\"id\":\"\"}],"
	     "\"map\":{\"x\":\"\",\"y\":\"\"},\"open\":{\"z\":[1]}}",
		NULL},
	    {"[]", "the body must be a JSON object"},
	    {"{}", "'name' is required"},
	    {"{\"x\":1}", "Unrecognized key(s) in the request body: 'x'"},
	    {"{\"name\":null}", "'name' must be a string"},
	    {"{\"name\":\"\"}", "'name' must be a non-empty string"},
	    {"{\"name\":\"ab\",\"n\":0}", "'n' must be an integer from 1 to 9"},
	    {"{\"name\":\"ab\",\"n\":10}", "'n' must be an integer from 1 to 9"},
	    {"{\"name\":\"ab\",\"n\":1.0}", "'n' must be an integer from 1 to 9"},
	    {"{\"name\":\"ab\",\"low\":-4}", "'low' must be an integer of at least -3"},
	    {"{\"name\":\"ab\",\"kind\":\"d\"}", "'kind' must be a, b or c"},
	    {"{\"name\":\"ab\",\"on\":1}", "'on' must be true or false"},
	    {"{\"name\":\"ab\",\"list\":{}}", "'list' must be an array"},
	    {"{\"name\":\"ab\",\"list\":[1]}", "'list[0]' must be an object"},
	    {"{\"name\":\"ab\",\"list\":[{\"id\":\"\"},{}]}", "'list[1].id' is required"},
	    {"{\"name\":\"ab\",\"list\":[{\"id\":\"\",\"x\":1}]}", "Unrecognized key(s) in 'list[0]': 'x'"},
	    {"{\"name\":\"ab\",\"list\":[1,2,3]}", "'list' may have at most 2 entries"},
	    {"{\"name\":\"ab\",\"map\":{\"x\":1}}", "'map.x' must be a string"},
	    {"{\"name\":\"ab\",\"map\":{\"x\":\"\",\"y\":\"\",\"z\":\"\"}}", "'map' may have at most 2 entries"},
	    {"{\"name\":\"ab\",\"open\":[]}", "'open' must be an object"},
	};
	AUTO_JSON schema = schema_parse(schema_text);

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		AUTO_JSON body = NULL;
		struct why why = {0};

		assert_int_equal(json_parse(cases[i].body, strlen(cases[i].body), &body, NULL), OK);
		assert_int_equal(schema_check_body(schema, body, &why), cases[i].sentence == NULL ? OK : ERR_INVALID);
		assert_string_equal(why.text, cases[i].sentence != NULL ? cases[i].sentence : "");
	}
}

static void test_a_text_is_read_by_its_type(void **state)
{
	static const struct {
		const char *name, *text, *json; /* json NULL: refused */
	} cases[] = {
	    {"n", "9", "9"},
	    {"n", "09", "9"},
	    {"n", "10", NULL},
	    {"n", "", NULL},
	    {"n", "99999999999999999999", NULL},
	    {"low", "-3", "-3"},
	    {"on", "true", "true"},
	    {"on", "TRUE", NULL},
	    {"name", "12", "\"12\""},
	    {"name", "", NULL},
	    {"kind", "b", "\"b\""},
	    {"kind", "B", NULL},
	};
	AUTO_JSON schema = schema_parse(schema_text);

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		json_t *rule = json_object_get(json_object_get(schema, "properties"), cases[i].name);
		AUTO_JSON v = NULL;
		struct why why = {0};
		int rc = schema_read_text(rule, cases[i].name, cases[i].text, &v, &why);

		assert_int_equal(rc, cases[i].json != NULL ? OK : ERR_INVALID);
		if (cases[i].json != NULL) {
			AUTO_STR text = json_text(v);

			assert_string_equal(text, cases[i].json);
		}
	}
}

static void test_defaults_fill_what_is_absent(void **state)
{
	AUTO_JSON schema = schema_parse(schema_text);
	AUTO_JSON values = json_pack("{s:i}", "n", 2);

	schema_fill(schema, values);
	assert_int_equal(json_integer_value(json_object_get(values, "n")), 2);
	assert_true(json_is_true(json_object_get(values, "on")));
	assert_int_equal(json_object_size(values), 2);
}

static void expect_route(const char *method, const char *path, const char *name, const char *allowed)
{
	struct route_match m;

	route_find(method, path, &m);
	assert_string_equal(m.known != NULL ? m.known->route->name : "", name);
	if (m.known == NULL)
		assert_string_equal(strbuf_str(&m.allowed), allowed);
	route_match_fini(&m);
}

static void test_a_request_finds_its_route(void **state)
{
	expect_route("GET", "/v1/agents", "listAgents", "");
	expect_route("GET", "/", "pageHome", "");
	expect_route("HEAD", "/v1/agents", "listAgents", "");
	expect_route("POST", "/v1/agents/x/runs/y/cancel", "cancelRun", "");
	expect_route("PUT", "/v1/agents", "", "GET, POST");
	expect_route("GET", "/v1/agents/x/runs/y/cancel", "", "POST");
	static const char *const none[] = {"", "*", "v1/agents", "/v1", "/v1/agents/", "/v1/agents//runs",
	    "/v1/agentsx", "/v1/agent", "/v1/agents/x/runs/y/z", "/a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p",
	    "//////////////////////////"};
	for (size_t i = 0; i < ARRAY_LEN(none); i++)
		expect_route("GET", none[i], "", "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_a_value_that_does_not_fit_is_named_with_its_place),
	    cmocka_unit_test(test_a_text_is_read_by_its_type),
	    cmocka_unit_test(test_defaults_fill_what_is_absent),
	    cmocka_unit_test(test_a_request_finds_its_route),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
