/* Command lines: our table becomes one for getopt_long, and its findings are told in our words. */
#include "base/options.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include <getopt.h>
#include <string.h>

#define ROWS_MAX 40
#define HELP_COLUMN_MAX 30
#define IS_WORD 1 /* getopt's, in its mode that keeps the order */
#define ROW_BASE 256 /* codes of rows: beyond all letters */

static const struct option_row help_row = {.name = "help", .letter = 'h', .help = "this text"};

/* All rows of a command in one list, and the same for getopt. */
struct option_table {
	const struct option_row *rows[ROWS_MAX];
	size_t n;
	struct option names[ROWS_MAX + 1];
	char letters[2 * ROWS_MAX + 4];
};

static void add_row(struct option_table *t, const struct option_row *row)
{
	ENSURE(t->n < ROWS_MAX);
	t->names[t->n] = (struct option){.name = row->name,
	    .has_arg = row->value == NULL ? no_argument
		       : row->optional	  ? optional_argument
					  : required_argument,
	    .val = ROW_BASE + (int)t->n};
	t->rows[t->n++] = row;
}

static void make_table(const struct options *o, struct option_table *t)
{
	size_t len = 0;

	for (const struct option_row *r = o->rows; r != NULL && r->name != NULL; r++)
		add_row(t, r);
	for (const struct option_row *r = o->common; r != NULL && r->name != NULL; r++)
		add_row(t, r);
	add_row(t, &help_row);
	/* '-': words are given in their place and argv stays as it is; '+': reading ends at the first one. ':': a
	 * missing value is told apart from an unknown option. */
	t->letters[len++] = o->stop_at_word ? '+' : '-';
	t->letters[len++] = ':';
	for (size_t i = 0; i < t->n; i++) {
		if (t->rows[i]->letter == 0)
			continue;
		t->letters[len++] = t->rows[i]->letter;
		if (t->rows[i]->value != NULL) {
			ENSURE(!t->rows[i]->optional); /* "-xVALUE" only: nobody would guess it */
			t->letters[len++] = ':';
		}
	}
	t->letters[len] = '\0';
}

static const struct option_row *row_of(const struct option_table *t, int code)
{
	if (code >= ROW_BASE)
		return t->rows[code - ROW_BASE];
	for (size_t i = 0; i < t->n; i++)
		if (t->rows[i]->letter != 0 && t->rows[i]->letter == code)
			return t->rows[i];
	return NULL;
}

/* "--name" of the token, without "=value". */
static size_t name_len(const char *token)
{
	const char *equals = strncmp(token, "--", 2) == 0 ? strchr(token, '=') : NULL;

	return equals != NULL ? (size_t)(equals - token) : strlen(token);
}

/* getopt takes any beginning of a name for the name, which would make each new option a change of the old ones. */
static bool is_whole_name(const char *token, const struct option_row *row)
{
	size_t n = name_len(token);

	return strncmp(token, "--", 2) != 0 ||
	       (strlen(row->name) == n - 2 && strncmp(token + 2, row->name, n - 2) == 0);
}

static int options_refuse_unknown(const char *token, int letter, struct why *why)
{
	if (strncmp(token, "--", 2) != 0 && letter > ' ' && letter <= '~')
		return why_set(why, ERR_INVALID, "unknown option -%c", letter);
	return why_set(why, ERR_INVALID, "unknown option %.*s", (int)MIN(name_len(token), 100), token);
}

/* getopt says '?' for three things: an unknown name, the beginning of several names, or a value where none belongs. */
static int refuse_option(const struct option_table *t, const char *token, struct why *why)
{
	const struct option_row *row = optopt != 0 ? row_of(t, optopt) : NULL;

	if (row != NULL && is_whole_name(token, row) && strchr(token, '=') != NULL)
		return why_set(why, ERR_INVALID, "option --%s takes no value", row->name);
	return options_refuse_unknown(token, optopt < ROW_BASE ? optopt : 0, why);
}

static void store_value(const struct option_row *row, const char *value)
{
	if (row->given != NULL)
		*row->given = true;
	if (value == NULL)
		return;
	if (row->text != NULL)
		*row->text = value;
	if (row->list != NULL && row->list->n++ < row->list->max)
		row->list->v[row->list->n - 1] = value;
}

/* getopt finds the value of an option that may go without one only behind '='. */
static const char *optional_value(
    const struct options *o, const struct option_row *row, int argc, char **argv, size_t n_words)
{
	const char *next = optind < argc ? argv[optind] : NULL;

	if (next != NULL && row->is_value != NULL && !row->is_value(next))
		return NULL;
	if (next == NULL || next[0] == '-' || (n_words == 0 && o->is_command != NULL && o->is_command(next)))
		return NULL;
	optind++;
	return next;
}

static int take_option(const struct options *o, const struct option_row *row, int argc, char **argv, int at,
    size_t n_words, struct why *why)
{
	const char *value = optarg, *token = argv[at];
	bool apart = optarg != NULL && optind > 0 && optarg == argv[optind - 1] && optind - 1 > at;

	if (!is_whole_name(token, row))
		return options_refuse_unknown(token, 0, why);
	if (row->value == NULL) {
		store_value(row, NULL);
		return OK;
	}
	if (apart && o->values_without_dash && value[0] == '-' && value[1] != '\0')
		return why_set(why, ERR_INVALID, "option --%s needs a value", row->name);
	if (value != NULL && !apart && value[0] == '=' && strncmp(token, "--", 2) != 0)
		value++; /* -e=URL */
	if (value == NULL && row->optional)
		value = optional_value(o, row, argc, argv, n_words);
	if (value != NULL && value[0] == '\0')
		return why_set(why, ERR_INVALID, "option --%s has an empty value", row->name);
	store_value(row, value);
	return OK;
}

static int take_word(const char *word, size_t max_words, struct option_words *words, struct why *why)
{
	ENSURE(max_words <= OPTION_WORDS_MAX);
	if (words->n == max_words)
		return why_set(why, ERR_INVALID, "unexpected argument %.100s", word);
	words->v[words->n++] = word;
	return OK;
}

/* One step of getopt; `at`: the place of its token. */
static int take_token(const struct options *o, const struct option_table *t, int code, int argc, char **argv, int at,
    size_t max_words, struct option_words *words, bool *help, struct why *why)
{
	const struct option_row *row;

	if (code == IS_WORD && o->help_word && strcmp(optarg, "help") == 0) {
		*help = true;
		return OK;
	}
	if (code == IS_WORD)
		return take_word(optarg, max_words, words, why);
	if (code == '?')
		return refuse_option(t, argv[at], why);
	row = row_of(t, code == ':' ? optopt : code);
	ENSURE(row != NULL);
	if (code == ':')
		return is_whole_name(argv[at], row) ? why_set(why, ERR_INVALID, "option --%s needs a value", row->name)
						    : options_refuse_unknown(argv[at], 0, why);
	if (row == &help_row)
		*help = true;
	return take_option(o, row, argc, argv, at, words->n, why);
}

int options_parse(
    const struct options *o, int argc, char **argv, size_t max_words, struct option_words *ret, struct why *why)
{
	struct option_table t = {0};
	bool help = false;
	int code, at = 1, rc = OK;

	*ret = (struct option_words){.end = argc};
	make_table(o, &t);
	opterr = 0;
	optind = 0; /* starts anew; glibc sets it to 1 */
	while (rc == OK && (code = getopt_long(argc, argv, t.letters, t.names, NULL)) != -1) {
		rc = take_token(o, &t, code, argc, argv, at, max_words, ret, &help, why);
		at = optind;
	}
	if (rc == OK && o->stop_at_word)
		ret->end = optind;
	for (int i = optind; rc == OK && !o->stop_at_word && i < argc; i++) /* behind "--" */
		rc = take_word(argv[i], max_words, ret, why);
	if (rc != OK)
		return rc;
	return help ? ERR_EMPTY : OK;
}

/* "  -e, --endpoint URL"; malloc'ed. */
static char *help_of_name(const struct option_row *row)
{
	struct strbuf b = STRBUF(256);

	if (row->letter != 0)
		strbuf_addf(&b, "  -%c, ", row->letter);
	else
		strbuf_adds(&b, "      ");
	strbuf_addf(&b, "--%s", row->name);
	if (row->value != NULL)
		strbuf_addf(&b, row->optional ? " [%s]" : " %s", row->value);
	return strbuf_take(&b);
}

/* Lines of a text, each behind so many blanks except the first. */
static void print_indented(FILE *to, const char *text, int indent)
{
	for (const char *end; (end = strchr(text, '\n')) != NULL; text = end + 1)
		fprintf(to, "%.*s\n%*s", (int)(end - text), text, indent, "");
	fprintf(to, "%s\n", text);
}

static bool is_shown(const struct options *o, const struct option_row *row)
{
	return row->of == NULL || o->command == NULL || strcmp(row->of, o->command) == 0;
}

void options_help(const struct options *o, FILE *to)
{
	struct option_table t = {0};
	int column = 0;

	make_table(o, &t);
	for (size_t i = 0; i < t.n; i++) {
		AUTO_STR name = help_of_name(t.rows[i]);

		if (is_shown(o, t.rows[i]) && strlen(name) <= HELP_COLUMN_MAX)
			column = MAX(column, (int)strlen(name) + 2);
	}
	fputs("Usage: ", to);
	print_indented(to, o->usage, 7);
	if (o->about != NULL)
		fprintf(to, "\n%s\n", o->about);
	fputs("\nOptions\n", to);
	for (size_t i = 0; i < t.n; i++) {
		AUTO_STR name = help_of_name(t.rows[i]);

		if (!is_shown(o, t.rows[i]))
			continue;
		if ((int)strlen(name) + 2 > column)
			fprintf(to, "%s\n%*s", name, column, "");
		else
			fprintf(to, "%-*s", column, name);
		print_indented(to, t.rows[i]->help, column);
	}
	if (o->footer != NULL)
		fprintf(to, "\n%s\n", o->footer);
}
