/* Command lines: the forms of options, the refusals, and what --help prints. */
#include "base/mem.h"
#include "base/options.h"
#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>
#include <string.h>

static struct {
	const char *repo, *pool;
	bool detach, pool_given;
	const char *dirs[2];
	struct option_list list;
} got;
static struct option_words words;
static struct why why;

static bool is_command(const char *word)
{
	return strcmp(word, "start") == 0;
}

static const struct option_row rows[] = {
    {.name = "repo", .letter = 'r', .value = "URL", .text = &got.repo, .help = "one\ntwo"},
    {.name = "pool", .value = "NAME", .optional = true, .text = &got.pool, .given = &got.pool_given, .help = "a pool"},
    {.name = "dir", .value = "PATH", .list = &got.list, .help = "again and again", .of = "other"},
    {.name = "detach", .letter = 'd', .given = &got.detach, .help = "no value"}, {0}};
static struct options o = {.usage = "program [options]", .about = "About it.", .rows = rows, .footer = "The end."};

/* Splits at blanks; `''` is an empty word. */
static int parse(const char *line)
{
	static char copy[512];
	char *argv[32] = {"program"};
	int argc = 1;

	memset(&got, 0, sizeof got);
	got.list = (struct option_list){.v = got.dirs, .max = ARRAY_LEN(got.dirs)};
	why = (struct why){0};
	snprintf(copy, sizeof copy, "%s", line);
	for (char *p = copy, *save; (p = strtok_r(p, " ", &save)) != NULL; p = NULL)
		argv[argc++] = strcmp(p, "''") == 0 ? "" : p;
	return options_parse(&o, argc, argv, 2, &words, &why);
}

static int setup(void **state)
{
	o.values_without_dash = o.stop_at_word = false;
	o.is_command = NULL;
	return 0;
}

static void test_forms(void **state)
{
	static const char *const lines[] = {
	    "--repo x -d", "--repo=x --detach", "-r x -d", "-rx -d", "-r=x -d", "-dr x", "--repo a -d --repo x"};

	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		assert_int_equal(parse(lines[i]), OK);
		assert_string_equal(got.repo, "x");
		assert_true(got.detach);
		assert_int_equal(words.n, 0);
	}
	assert_int_equal(parse("--repo a=b=c"), OK);
	assert_string_equal(got.repo, "a=b=c");
	assert_int_equal(parse("--repo=a=b"), OK);
	assert_string_equal(got.repo, "a=b");
	assert_int_equal(parse("--repo -"), OK);
	assert_string_equal(got.repo, "-");
	assert_int_equal(parse("--repo -x"), OK);
	assert_string_equal(got.repo, "-x");
}

static void test_words(void **state)
{
	assert_int_equal(parse("a -d -"), OK);
	assert_int_equal(words.n, 2);
	assert_string_equal(words.v[0], "a");
	assert_string_equal(words.v[1], "-");
	assert_true(got.detach);
	assert_int_equal(parse("-- --repo -d"), OK);
	assert_int_equal(words.n, 2);
	assert_string_equal(words.v[1], "-d");
	assert_false(got.detach);
	assert_int_equal(parse("a b c"), ERR_INVALID);
	assert_string_equal(why.text, "unexpected argument c");
	assert_int_equal(parse("a -- b c"), ERR_INVALID);
	assert_string_equal(why.text, "unexpected argument c");
}

static void test_refusals(void **state)
{
	static const struct {
		const char *line, *sentence;
	} cases[] = {{"--frob", "unknown option --frob"}, {"--frob=1", "unknown option --frob"},
	    {"-x", "unknown option -x"}, {"-dx", "unknown option -x"}, {"--rep x", "unknown option --rep"},
	    {"--rep=x", "unknown option --rep"}, {"--rep", "unknown option --rep"}, {"--d", "unknown option --d"},
	    {"--det=1", "unknown option --det"}, {"--repo", "option --repo needs a value"},
	    {"-r", "option --repo needs a value"}, {"--repo=", "option --repo has an empty value"},
	    {"--repo ''", "option --repo has an empty value"}, {"--pool=", "option --pool has an empty value"},
	    {"--detach=1", "option --detach takes no value"}, {"--help=1", "option --help takes no value"},
	    {"--help --frob", "unknown option --frob"}};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_int_equal(parse(cases[i].line), ERR_INVALID);
		assert_string_equal(why.text, cases[i].sentence);
	}
}

static void test_a_value_without_a_dash(void **state)
{
	o.values_without_dash = true;
	assert_int_equal(parse("--repo --detach"), ERR_INVALID);
	assert_string_equal(why.text, "option --repo needs a value");
	assert_int_equal(parse("--repo=--detach"), OK);
	assert_string_equal(got.repo, "--detach");
	assert_int_equal(parse("-r -"), OK);
}

static void test_a_value_that_may_be_left_out(void **state)
{
	assert_int_equal(parse("--pool"), OK);
	assert_true(got.pool_given);
	assert_null(got.pool);
	assert_int_equal(parse("--pool x --pool"), OK);
	assert_string_equal(got.pool, "x");
	assert_int_equal(parse("--pool=start"), OK);
	assert_string_equal(got.pool, "start");
	assert_int_equal(parse("--pool -d"), OK);
	assert_null(got.pool);
	assert_true(got.detach);
	o.is_command = is_command;
	assert_int_equal(parse("--pool start"), OK);
	assert_null(got.pool);
	assert_string_equal(words.v[0], "start");
	assert_int_equal(parse("start --pool start"), OK);
	assert_string_equal(got.pool, "start");
}

static void test_repeated(void **state)
{
	assert_int_equal(parse("--dir a --dir=b --dir c"), OK);
	assert_int_equal(got.list.n, 3); /* more than there is room for */
	assert_string_equal(got.dirs[0], "a");
	assert_string_equal(got.dirs[1], "b");
}

static void test_reading_ends_at_a_command(void **state)
{
	o.stop_at_word = true;
	assert_int_equal(parse("-d --repo x run --frob"), OK);
	assert_int_equal(words.end, 4);
	assert_string_equal(got.repo, "x");
	assert_int_equal(parse("-d"), OK);
	assert_int_equal(words.end, 2);
}

static void test_help(void **state)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	assert_int_equal(parse("--help a"), ERR_EMPTY);
	assert_int_equal(parse("-h"), ERR_EMPTY);
	options_help(&o, f);
	fclose(f);
	assert_string_equal(text, "Usage: program [options]\n\nAbout it.\n\nOptions\n"
				  "  -r, --repo URL     one\n"
				  "                     two\n"
				  "      --pool [NAME]  a pool\n"
				  "      --dir PATH     again and again\n"
				  "  -d, --detach       no value\n"
				  "  -h, --help         this text\n\nThe end.\n");
	str_free(&text);
	f = open_memstream(&text, &len);
	o.command = "this";
	options_help(&o, f);
	o.command = NULL;
	fclose(f);
	assert_null(strstr(text, "--dir"));
	str_free(&text);
}

int main(void)
{
	const struct CMUnitTest t[] = {
	    cmocka_unit_test_setup(test_forms, setup),
	    cmocka_unit_test_setup(test_words, setup),
	    cmocka_unit_test_setup(test_refusals, setup),
	    cmocka_unit_test_setup(test_a_value_without_a_dash, setup),
	    cmocka_unit_test_setup(test_a_value_that_may_be_left_out, setup),
	    cmocka_unit_test_setup(test_repeated, setup),
	    cmocka_unit_test_setup(test_reading_ends_at_a_command, setup),
	    cmocka_unit_test_setup(test_help, setup),
	};

	return cmocka_run_group_tests(t, NULL, NULL);
}
