/* The `models` table: what it gives, and what it refuses in which words. */
#include "base/mem.h"
#include "base/toml.h"
#include "server/models/wire_priv.h"
#include <fcntl.h>
#include <stdarg.h>
#include <setjmp.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static int configure(const char *toml, struct why *why)
{
	AUTO_JSON root = NULL;
	struct why bad = {0};

	if (toml_parse(toml, strlen(toml), "test", &root, &bad) != OK)
		fail_msg("%s", bad.text);
	return models_configure(json_object_get(root, "models"), why);
}

static void configured(const char *toml)
{
	struct why why = {0};

	if (configure(toml, &why) != OK)
		fail_msg("%s", why.text);
}

static char *text_of(const json_t *j)
{
	return json_text(j);
}

static int no_environment(void **state)
{
	static const char *const names[] = {"OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_MODEL", "ANTHROPIC_API_KEY",
	    "ANTHROPIC_BASE_URL", "ANTHROPIC_MODEL"};

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		unsetenv(names[i]);
	models_free();
	return 0;
}

static void test_playbook_is_always_there(void **state)
{
	size_t n;
	struct why why;

	assert_int_equal(models_configure(NULL, &why), OK);
	assert_string_equal(models_all(&n)[0].id, "playbook");
	assert_int_equal(n, 1);
	assert_true(models_all(&n)[0].is_default);
	assert_ptr_equal(model_find("auto"), model_find("playbook"));
	configured("[models]\n");
	assert_ptr_equal(model_find(NULL), model_find("playbook"));
}

#define LOCAL "[[models.providers]]\nname='v'\ntype='openai'\nbase_url='http://localhost:8000/v1/'\n"
#define MODEL "[[models.providers.models]]\n"

static void test_models_and_their_order(void **state)
{
	const struct remote *p;
	size_t n;

	configured("[models]\ndefault='zwei'\n" LOCAL MODEL "id='one'\n" MODEL
		   "id='two'\nupstream='org/two'\naliases=['zwei']\ndisplay_name='Two'\ndescription='D'\n"
		   "context_window=1000\nmax_output_tokens=10\nimages=true\n");
	assert_string_equal(models_all(&n)[0].id, "two");
	assert_string_equal(models_all(&n)[1].id, "one");
	assert_string_equal(models_all(&n)[2].id, "playbook");
	assert_int_equal(n, 3);
	assert_ptr_equal(model_find("zwei"), model_find("default"));
	assert_false(model_find("one")->is_default);
	assert_string_equal(model_find("one")->display_name, "one");
	assert_string_equal(model_find("two")->upstream->name, "org/two");
	assert_int_equal(model_find("two")->context_window, 1000);
	assert_true(model_find("two")->takes_images);
	p = (const struct remote *)model_find("two")->provider;
	assert_string_equal(p->url, "http://localhost:8000/v1/chat/completions");
	assert_int_equal(p->stall_timeout_ms, 120000);
	assert_string_equal(p->max_tokens_field, "max_tokens");
	assert_null(p->key);
	assert_null(model_find("three"));
	configured("[models]\ndefault='playbook'\n" LOCAL MODEL "id='one'\n");
	assert_string_equal(models_all(&n)[0].id, "playbook");
}

static void test_addresses(void **state)
{
	static const char *const cases[][3] = {
	    {"anthropic", "", "https://api.anthropic.com/v1/messages"},
	    {"anthropic", "base_url='https://gw/x/v1/'\n", "https://gw/x/v1/messages"},
	    {"anthropic", "base_url='https://gw/x'\n", "https://gw/x/v1/messages"},
	    {"openai", "base_url='https://api.openai.com/v1'\n", "https://api.openai.com/v1/chat/completions"},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		AUTO_STR toml = str_printf(
		    "[[models.providers]]\nname='p'\ntype='%s'\n%s" MODEL "id='m'\n", cases[i][0], cases[i][1]);

		configured(toml);
		assert_string_equal(((const struct remote *)model_find("m")->provider)->url, cases[i][2]);
	}
	assert_string_equal(
	    ((const struct remote *)model_find("m")->provider)->max_tokens_field, "max_completion_tokens");
}

static void test_variants_and_params(void **state)
{
	AUTO_STR parameters = NULL;
	AUTO_STR variants = NULL;
	AUTO_STR chosen = NULL;
	AUTO_JSON full = NULL;
	AUTO_JSON given = json_pack("[{s:s, s:s}]", "id", "fast", "value", "true");
	struct why why = {0};
	static const struct {
		const char *given, *why;
	} bad[] = {
	    {"[{\"id\":\"x\",\"value\":\"1\"}]", "model 'm' has no parameter 'x'"},
	    {"[{\"id\":\"effort\",\"value\":\"max\"}]",
		"parameter 'effort' of model 'm' must be one of low, high, not 'max'"},
	    {"[{\"id\":\"fast\",\"value\":\"true\"},{\"id\":\"fast\",\"value\":\"true\"}]",
		"parameter 'fast' is given twice"},
	};

	configured(LOCAL MODEL
	    "id='m'\ndisplay_name='M'\n[[models.providers.models.options]]\nid='effort'\ndisplay_name='Effort'\n"
	    "values=['low','high']\ndefault='high'\nfield='reasoning_effort'\n"
	    "[[models.providers.models.options]]\nid='fast'\nvalues=[false,true]\nfield='x.fast'\n");
	parameters = text_of(model_find("m")->parameters);
	assert_string_equal(parameters, "[{\"id\":\"effort\",\"displayName\":\"Effort\",\"values\":[{\"value\":\"low\","
					"\"displayName\":\"low\"},{\"value\":\"high\","
					"\"displayName\":\"high\"}]},{\"id\":\"fast\",\"displayName\":\"fast\","
					"\"values\":[{\"value\":\"false\",\"displayName\":\"false\"},"
					"{\"value\":\"true\",\"displayName\":\"true\"}]}]");
	variants = text_of(model_find("m")->variants);
#define VARIANT(e, f, d)                                                                                               \
	"{\"params\":[{\"id\":\"effort\",\"value\":\"" e "\"},{\"id\":\"fast\",\"value\":\"" f                         \
	"\"}],\"displayName\":\"M " e ", " f "\",\"isDefault\":" d "}"
	assert_string_equal(
	    variants, "[" VARIANT("low", "false", "false") "," VARIANT("low", "true", "false") "," VARIANT(
			  "high", "false", "true") "," VARIANT("high", "true", "false") "]");
	assert_int_equal(model_params(model_find("m"), given, &full, &why), OK);
	chosen = text_of(full);
	assert_string_equal(chosen, "[{\"id\":\"effort\",\"value\":\"high\"},{\"id\":\"fast\",\"value\":\"true\"}]");
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		AUTO_JSON params = NULL;
		AUTO_JSON out = NULL;

		assert_int_equal(json_parse(bad[i].given, strlen(bad[i].given), &params, &why), OK);
		assert_int_equal(model_params(model_find("m"), params, &out, &why), ERR_INVALID);
		assert_string_equal(why.text, bad[i].why);
	}
	json_drop(&full);
	assert_int_equal(model_params(model_find("playbook"), NULL, &full, &why), OK);
	assert_int_equal(json_array_size(full), 0);
}

static void test_what_is_refused(void **state)
{
#define P "models.providers[0]"
#define CLAUDE "[[models.providers]]\nname='v'\ntype='anthropic'\nbase_url='http://localhost:8000'\n"
#define BUDGET CLAUDE MODEL "id='m'\n[[models.providers.models.options]]\nid='o'\nfield='thinking_budget'\n"
#define BUDGET_WHY(key)                                                                                                \
	P ".models[0].options[0]." key ": a thinking_budget is a number of tokens from 1024, or 0 for none"
#define OPTION LOCAL MODEL "id='m'\n[[models.providers.models.options]]\n"
	static const struct {
		const char *toml, *why;
	} cases[] = {
	    {"models=1\n", "models must be a table"},
	    {"[models]\nx=1\n", "unknown setting models.x"},
	    {"[models]\ndefault=1\n", "models.default must be a text, not empty, of at most 2000 bytes"},
	    {"[models]\ndefault='gone'\n" LOCAL MODEL "id='m'\n", "models.default: there is no model 'gone'"},
	    {"[models]\nproviders=1\n", "models.providers must be an array"},
	    {"[models]\nproviders=[1]\n", P " must be a table"},
	    {"[[models.providers]]\nname='v'\nkey='k'\n", "unknown setting " P ".key"},
	    {"[[models.providers]]\ntype='openai'\n", P ".name is missing"},
	    {"[[models.providers]]\nname='a b'\n", P ".name must be letters, digits, '-', '_' and '.', at most 60"},
	    {"[[models.providers]]\nname='v'\n", P ".type is missing"},
	    {"[[models.providers]]\nname='v'\ntype='other'\n", P ".type must be \"openai\" or \"anthropic\""},
	    {"[[models.providers]]\nname='v'\ntype='openai'\n", P ".base_url is missing"},
	    {"[[models.providers]]\nname='v'\ntype='openai'\nbase_url='localhost'\n",
		P ".base_url must be a URL like https://host/v1, without user, query and fragment"},
	    {"[[models.providers]]\nname='v'\ntype='openai'\nbase_url='http://u:p@h/'\n",
		P ".base_url must be a URL like https://host/v1, without user, query and fragment"},
	    {"[[models.providers]]\nname='v'\ntype='openai'\nbase_url='http://h/v1/chat/completions'\n",
		P ".base_url must be what stands before /chat/completions or /v1/messages"},
	    {LOCAL "api_key_file='/nowhere/key'\n", P ".api_key_file: cannot read /nowhere/key: not found"},
	    {LOCAL "api_key_file='/dev/null'\n",
		P ".api_key_file must be a name of something that holds a key, and it is empty"},
	    {LOCAL "api_key_env='NOT_SET_ANYWHERE'\n", P ".api_key_env: the environment has no 'NOT_SET_ANYWHERE'"},
	    {LOCAL "api_key_env='A'\napi_key_file='b'\n", P ": give api_key_file or api_key_env, not both"},
	    {LOCAL "ca_file='/nowhere'\n", P ".ca_file: cannot read /nowhere"},
	    {LOCAL "headers={a=1}\n", P ".headers.a must be a text of one line"},
	    {LOCAL "headers={'a:'='x'}\n", P ".headers must be a table of header names and their values"},
	    {LOCAL "stall_timeout=0\n", P ".stall_timeout must be an integer from 1 to 3600"},
	    {LOCAL "retries='3'\n", P ".retries must be an integer from 0 to 100"},
	    {LOCAL "max_tokens_field='x'\n", P ".max_tokens_field must be \"max_tokens\" or \"max_completion_tokens\""},
	    {"[[models.providers]]\nname='a'\ntype='anthropic'\nstream_usage=true\n",
		P ".stream_usage is for type openai only"},
	    {LOCAL, P ".models must be an array of 1 to 1000 models: [[models.providers.models]]"},
	    {LOCAL MODEL "id='m'\n" LOCAL MODEL "id='n'\n", "models.providers[1].name: there are two providers 'v'"},
	    {LOCAL MODEL "upstream='m'\n", P ".models[0].id is missing"},
	    {LOCAL MODEL "id='m'\nx=1\n", "unknown setting " P ".models[0].x"},
	    {LOCAL MODEL "id='a b'\n", P ".models[0].id must be letters, digits and any of -_.:/@+, at most 200"},
	    {LOCAL MODEL "id='auto'\n", P ".models[0].id: 'auto' is taken by Bullpen itself"},
	    {LOCAL MODEL "id='playbook'\n", P ".models[0].id: 'playbook' is taken by Bullpen itself"},
	    {LOCAL MODEL "id='m'\n" MODEL "id='m'\n", P ".models[1].id: there are two models 'm'"},
	    {LOCAL MODEL "id='m'\n" MODEL "id='n'\naliases=['m']\n", P ".models[1].aliases: there are two models 'm'"},
	    {LOCAL MODEL "id='m'\naliases=['m']\n", P ".models[0].aliases: there are two models 'm'"},
	    {LOCAL MODEL "id='m'\naliases=[1]\n", P ".models[0].aliases must be an array of texts"},
	    {LOCAL MODEL "id='m'\nimages='yes'\n", P ".models[0].images must be true or false"},
	    {LOCAL MODEL "id='m'\nparameters={messages=[]}\n", P ".models[0].parameters must not set 'messages'"},
	    {LOCAL MODEL "id='m'\nthinking_budget=2000\n",
		P ".models[0].thinking_budget is for providers of type anthropic"},
	    {OPTION "values=['a']\nfield='f'\n", P ".models[0].options[0].id is missing"},
	    {OPTION "id='o'\nvalues=['a']\n", P ".models[0].options[0].field is missing"},
	    {OPTION "id='o'\nvalues=['a']\nfield='model'\n", P ".models[0].options[0].field must be a member of the "
							       "request that is free, like reasoning_effort or a.b"},
	    {OPTION "id='o'\nvalues=['a']\nfield='a..b'\n", P ".models[0].options[0].field must be a member of the "
							      "request that is free, like reasoning_effort or a.b"},
	    {OPTION "id='o'\nfield='f'\n", P ".models[0].options[0].values must be an array that is not empty"},
	    {OPTION "id='o'\nfield='f'\nvalues=[[]]\n",
		P ".models[0].options[0].values must be an array of texts, numbers or booleans"},
	    {OPTION "id='o'\nfield='f'\nvalues=[1,'1']\n", P ".models[0].options[0].values has '1' twice"},
	    {OPTION "id='o'\nfield='f'\nvalues=['a']\ndefault='b'\n",
		P ".models[0].options[0].default must be one of values"},
	    {OPTION "id='o'\nfield='f'\nvalues=['a']\n[[models.providers.models.options]]\nid='o'\nfield='f'\nvalues=['"
		    "a']\n",
		P ".models[0].options[1].id: there are two options 'o'"},
	    {BUDGET "values=['0','high']\n", BUDGET_WHY("values")},
	    {BUDGET "values=[true]\n", BUDGET_WHY("values")},
	    {BUDGET "values=[500]\n", BUDGET_WHY("values")},
	    {BUDGET "values=[2048.5]\n", BUDGET_WHY("values")},
	    {CLAUDE MODEL "id='m'\nparameters={thinking_budget='2000'}\n",
		P ".models[0].parameters must not set 'thinking_budget': it is a setting"},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct why why = {0};
		size_t n;

		assert_int_equal(configure(cases[i].toml, &why), ERR_INVALID);
		assert_string_equal(why.text, cases[i].why);
		models_all(&n);
		assert_int_equal(n, 0);
	}
}

static void write_key(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

static void test_keys(void **state)
{
	char path[] = "/tmp/bullpen-key-XXXXXX";
	int fd = mkstemp(path);
	AUTO_STR toml = str_printf(LOCAL "api_key_file='%s'\n" MODEL "id='m'\n", path);
	struct why why = {0};

	assert_true(fd >= 0);
	close(fd);
	write_key(path, " \tsk-abc\n\n");
	configured(toml);
	assert_string_equal(((const struct remote *)model_find("m")->provider)->key, "sk-abc");
	write_key(path, "sk-abc\nsk-def\n");
	assert_int_equal(configure(toml, &why), ERR_INVALID);
	assert_null(strstr(why.text, "sk-"));
	unlink(path);
	setenv("SOME_KEY_OF_MINE", "sk-env", 1);
	configured(LOCAL "api_key_env='SOME_KEY_OF_MINE'\n" MODEL "id='m'\n");
	assert_string_equal(((const struct remote *)model_find("m")->provider)->key, "sk-env");
	unsetenv("SOME_KEY_OF_MINE");
}

static void test_the_environment(void **state)
{
	struct why why = {0};
	size_t n;

	setenv("ANTHROPIC_API_KEY", "sk-ant", 1);
	assert_int_equal(models_configure(NULL, &why), OK);
	assert_string_equal(
	    ((const struct remote *)models_all(&n)[0].provider)->url, "https://api.anthropic.com/v1/messages");
	setenv("OPENAI_API_KEY", "sk-1", 1);
	assert_int_equal(models_configure(NULL, &why), OK);
	assert_string_equal(
	    ((const struct remote *)models_all(&n)[0].provider)->url, "https://api.openai.com/v1/chat/completions");
	assert_true(n > 3);
	setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1", 1);
	setenv("OPENAI_MODEL", "a, org/b", 1);
	assert_int_equal(models_configure(NULL, &why), OK);
	assert_string_equal(models_all(&n)[0].id, "a");
	assert_string_equal(models_all(&n)[1].id, "org/b");
	/* Nobody answers: no reason not to start. */
	unsetenv("OPENAI_MODEL");
	unsetenv("ANTHROPIC_API_KEY");
	assert_int_equal(models_configure(NULL, &why), OK);
	assert_string_equal(models_all(&n)[0].id, "playbook");
	/* With a table the environment says nothing. */
	configured("[models]\n");
	models_all(&n);
	assert_int_equal(n, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(test_playbook_is_always_there, no_environment, no_environment),
	    cmocka_unit_test_setup_teardown(test_models_and_their_order, no_environment, no_environment),
	    cmocka_unit_test_setup_teardown(test_addresses, no_environment, no_environment),
	    cmocka_unit_test_setup_teardown(test_variants_and_params, no_environment, no_environment),
	    cmocka_unit_test_setup_teardown(test_what_is_refused, no_environment, no_environment),
	    cmocka_unit_test_setup_teardown(test_keys, no_environment, no_environment),
	    cmocka_unit_test_setup_teardown(test_the_environment, no_environment, no_environment),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
